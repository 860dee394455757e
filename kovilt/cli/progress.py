"""One line that tells how far a long task over images has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def progress_line(task: str) -> Callable[[int, int], None]:
    """Shows images done and the time left: one line rewritten on a terminal, a line every tenth elsewhere.

    Time is counted from here, or from a call that says that nothing is done yet.
    """
    terminal = sys.stderr.isatty()
    begun = time.monotonic()
    shown = {'time': begun, 'tenth': 0}

    def progress(done: int, total: int) -> None:
        nonlocal begun
        now = time.monotonic()
        if not done:
            begun = now
            return
        tenth = done * 10 // total
        if done < total and (now - shown['time'] < 0.5 if terminal else tenth == shown['tenth']):
            return
        shown.update(time=now, tenth=tenth)
        rate = done / max(now - begun, 1e-9)
        text = f'{task} {done}/{total}, {rate:.0f} images/s, {(total - done) / rate:.0f} s left'
        if terminal:
            print(f'\r{text:<70}', end='' if done < total else '\n', file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return progress

"""How far a command has come, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def progress_line(doing: str, things: str) -> Callable[[int, int], None]:
    """A function of (done, total) that shows both, the rate and the time left.

    One line rewritten on a terminal, a line every tenth elsewhere.
    """
    terminal = sys.stderr.isatty()
    start = time.monotonic()
    shown = {'time': start, 'tenth': 0}

    def progress(done: int, total: int) -> None:
        now, tenth = time.monotonic(), done * 10 // total
        if done < total and (now - shown['time'] < 0.5 if terminal else tenth == shown['tenth']):
            return
        shown.update(time=now, tenth=tenth)
        rate = done / max(now - start, 1e-9)
        text = f'{doing} {done}/{total}, {rate:.0f} {things}/s, {(total - done) / rate:.0f} s left'
        if terminal:
            print(f'\r{text:<70}', end='' if done < total else '\n', file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return progress

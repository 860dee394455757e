"""Write the report of a training or a test anew, or that of two runs side by side.

    kovilt report work_dirs/vqa
    kovilt report work_dirs/vqa_scratch work_dirs/vqa

Every training and every test leaves report.html in its work folder by itself; docs/en/report.md tells what it shows.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError, first_line
from kovilt.files import atomic_path
from kovilt.terminal import printable, show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('run', metavar='WORK_DIR', help='work folder of `kovilt train` or `kovilt test`')
    parser.add_argument('other', metavar='OTHER', nargs='?', help='work folder of a second run, to compare both')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='the page (default: report.html in WORK_DIR; of two runs report_A_B.html beside the second)',
    )


def run(args: argparse.Namespace) -> None:
    from kovilt.reporting import write_comparison, write_run_report

    if args.out is not None and args.out.is_dir():
        raise KoviltError(f'--out {args.out}: this is a folder; name a file, such as {args.out}/report.html')
    try:
        if args.other is not None:
            show(write_comparison(args.run, args.other, args.out))
            return
        page, missing = write_run_report(args.run, args.out)
    except OSError as error:
        raise KoviltError(f'{args.out or args.run}: the report cannot be written ({error.strerror})') from error
    for text in missing:
        show(f'missing: {text}')
    show(page)


def leave_report(folder: str | Path, predictions: Path | None = None) -> None:
    """Write the report of a run that has ended well. Whatever fails is a warning in one line: the run is finished.

    A signal, such as that of a job whose time is over, ends the report alone.

    Args:
        predictions: a file that is first copied to the folder's predictions.jsonl.
    """
    try:
        with _signals_raised():
            if predictions is not None:
                with atomic_path(Path(folder, 'predictions.jsonl')) as draft:
                    shutil.copyfile(predictions, draft)
            from kovilt.reporting import write_run_report  # here: in the days of a run the code may have been exchanged

            page, missing = write_run_report(folder)
    except (Exception, KeyboardInterrupt) as error:
        message = f'warning: {folder}: no report ({first_line(error)}); kovilt report {folder} tries again'
        print(printable(message), file=sys.stderr)
        return
    if missing:
        print(printable(f'warning: {page}: without {"; ".join(missing)}'), file=sys.stderr)
    show(f'report: {page}')


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 raise KeyboardInterrupt, as SIGINT does; in the main thread, which alone gets signals."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(f'ended by {signal.Signals(number).name}')

    numbers = (signal.SIGTERM, signal.SIGUSR1) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Start-up time: `kovilt --help` and a first answer; wall seconds.

    python -m benchmarks.startup
    python -m benchmarks.startup --model work_dirs/quickstart/model --image room.jpg

Every command runs in a process of its own, all in turn; an untimed round comes first, since it may have to compile and
to read from disk. Beside each command stands its time less that of `import torch`: the median over the rounds of each
round's own difference. The question is answered on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.fixtures import ROOT
from benchmarks.report import markdown_table
from benchmarks.timing import cpu_name, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

TORCH = 'import torch'
COMMANDS = {  # arguments of Python in the repository
    TORCH: ['-c', 'import torch'],
    'kovilt --help': ['-m', 'kovilt', '--help'],
    'kovilt train --help': ['-m', 'kovilt', 'train', '--help'],
    'kovilt predict --help': ['-m', 'kovilt', 'predict', '--help'],
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--rounds', type=at_least(1), default=5, metavar='N', help='timings of each command (5)')
    parser.add_argument('--model', metavar='FOLDER', help='also time the first answer of this model folder')
    parser.add_argument('--image', metavar='FILE', help='with --model: the image')
    parser.add_argument('--question', default='소파는 무슨 색이에요?', help='with --model: the question')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if (args.model is None) != (args.image is None):
        raise KoviltError('--model and --image: give both, to time a first answer, or neither')
    commands = dict(COMMANDS)
    if args.model:
        folder, image = (str(Path(path).resolve()) for path in (args.model, args.image))
        commands['a first answer'] = ['-m', 'kovilt', 'predict', folder, image, args.question, '--device', 'cpu']
    print(f'{cpu_name()}, Python {sys.version.split()[0]}, torch {version("torch")}; {args.rounds} rounds\n')
    seconds = time_in_turn(
        {name: run_command(name, command) for name, command in commands.items()}, rounds=args.rounds, clock=wall_clock
    )
    rows = []
    for name, times in seconds.items():
        beyond = statistics.median(a - b for a, b in zip(times, seconds[TORCH], strict=True))
        rows.append([name, f'{statistics.median(times):.2f}', f'{beyond:+.2f}'])
    print(markdown_table(['', 's', 'less import torch, s'], rows))


def run_command(name: str, arguments: Sequence[str]) -> Callable[[], None]:
    """A function that runs Python with these arguments in the repository.

    It raises KoviltError when the process fails.
    """

    def run() -> None:
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
            raise KoviltError(f'{name}: exit code {done.returncode}: {reason}')

    return run


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

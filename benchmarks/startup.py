"""Start-up: the time of a tool's --help and of a first answer.

    python benchmarks/startup.py
    python benchmarks/startup.py --model work_dirs/quickstart/model --image room.jpg

Every command runs in a process of its own, all in turn; the first round, which may have to compile and to read from
disk, does not count. Beside each stands what it takes beyond `import torch`: the median over the rounds of each round's
own difference. A question is asked on the CPU.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import cpu_name  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402

TORCH = 'import torch'


class Taken(NamedTuple):
    """Seconds of a process: of the processor, its children's included, and of the wall."""

    cpu: float
    wall: float


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each is timed (5)')
    parser.add_argument('--model', metavar='FOLDER', help='time the first answer of this model folder, too')
    parser.add_argument('--image', metavar='FILE', help='with --model: what is asked about')
    parser.add_argument('--question', default='소파는 무슨 색이에요?', help='with --model: what is asked')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if (args.model is None) != (args.image is None):
        raise KoviltError('--model and --image: give both, to time a first answer, or neither')
    if args.rounds < 1:
        raise KoviltError(f'--rounds {args.rounds}: at least one is timed')
    print(f'{cpu_name()}, Python {sys.version.split()[0]}, torch {version("torch")}; {args.rounds} rounds; seconds\n')
    timed = {TORCH: ['-c', 'import torch'], **helps()}
    if args.model:
        place, image = (str(Path(path).resolve()) for path in (args.model, args.image))
        timed['a first answer'] = ['tools/predict.py', place, image, args.question, '--device', 'cpu']
    taken = time_processes(timed, args.rounds)
    print('| | processor | wall | processor, less torch | wall, less torch |\n|---|---:|---:|---:|---:|')
    for name, rounds in taken.items():
        cells = [statistics.median(column) for column in zip(*rounds, strict=True)]
        for column in range(2):
            cells.append(statistics.median(a[column] - b[column] for a, b in zip(rounds, taken[TORCH], strict=True)))
        print(f'| {name} | {cells[0]:.2f} | {cells[1]:.2f} | {cells[2]:+.2f} | {cells[3]:+.2f} |')


def helps() -> dict[str, list[str]]:
    """What asks each tool how it is called, as arguments of Python in the repository."""
    return {f'{tool}.py --help': [f'tools/{tool}.py', '--help'] for tool in ('train', 'test', 'predict')}


def time_processes(timed: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Taken]]:
    """What each takes, by round; a round does each once, in an order of its own, and one more comes before them.

    Args:
        timed: arguments of Python.
        rounds: how many count.

    Raises:
        KoviltError: a command that fails.
    """
    chance, order = random.Random(0), list(timed)
    taken: dict[str, list[Taken]] = {name: [] for name in timed}
    for number in range(-1, rounds):
        for name in chance.sample(order, len(order)):
            before, start = _children(), time.perf_counter()
            done = subprocess.run([sys.executable, *timed[name]], cwd=ROOT, capture_output=True, text=True)
            found = Taken(_children() - before, time.perf_counter() - start)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ['it said nothing'])[-1]
                raise KoviltError(f'{name}: exit code {done.returncode}: {reason}')
            if number >= 0:
                taken[name].append(found)
    return taken


def _children() -> float:
    """Seconds of the processor that the processes took that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

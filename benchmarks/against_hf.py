"""kovilt against transformers' ViltForQuestionAnswering: the same weights and the same batches, in turn.

    python -m benchmarks.against_hf                                   # CPU, float32, one thread
    python -m benchmarks.against_hf --device cuda --out against_hf.json

Base size, no dropout. Images have COCO's usual sizes under ViLT's resizing (about 200 patches on average) and random
pixels, questions are 5 to 20 random tokens. Both models get the same numbers; for transformers they are padded to the
longest of the batch, as its processor does. A batch lies on the device before the clock starts (images as bytes for
kovilt, which normalises them, as padded floats for transformers). A CPU is timed by processor time, a GPU by wall time.
Every variant runs once in each round, in random order; a ratio is the median over the rounds of each round's own ratio,
and above 1 kovilt is faster.

TFLOP/s counts the matrix products that kovilt computes; `plain TFLOP/s` those of an unpadded plain ViLT, whose last
block computes all states (kovilt computes those that are read). A training step counts three times, pixels two times.
`of torch.mm` is the first over the speed of torch.mm at the shapes of the blocks, measured in the same rounds.

That both models compute the same is tested in tests/formats/test_parity_precisions.py. A section that fails prints its
traceback, the other sections still run, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import against_hf_speed as speed
from benchmarks import against_hf_training as training
from benchmarks.against_hf_models import HEAD_SIZE, BothModels, ModelSize
from benchmarks.fixtures import FIRST_TOKEN
from benchmarks.report import Report
from benchmarks.timing import is_cuda, prepare_device
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from kovilt.files import write_json

SECTION_NAMES = ('evaluation', 'training', 'options', 'memory', 'waits', 'runner', 'alignment')
SECTIONS = {  # those that run where --sections names none
    'cpu': ('evaluation', 'training'),
    'cuda': ('training', 'memory', 'waits', 'runner', 'alignment', 'evaluation'),
}
GPU_ONLY = ('memory', 'waits')
BATCHES = {'cpu': ((1, 8, 16), (8,)), 'cuda': ((64, 256), (64, 256))}  # evaluation, training


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    size = ModelSize()
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--sections',
        nargs='+',
        metavar='NAME',
        help='which of evaluation, training, options, runner, alignment and, on CUDA, memory and waits '
        f'(CPU: {" ".join(SECTIONS["cpu"])}; CUDA: {" ".join(SECTIONS["cuda"])})',
    )
    parser.add_argument('--batches', nargs='+', type=at_least(1), metavar='N', help='batch sizes of evaluation')
    parser.add_argument('--train-batches', nargs='+', type=at_least(1), metavar='N', help='batch sizes of training')
    parser.add_argument('--rounds', type=at_least(1), default=5, metavar='N', help='rounds of each measurement (5)')
    parser.add_argument('--limit', type=float, metavar='S', help='start no section after this many seconds')
    parser.add_argument('--width', type=int, default=size.hidden_size, metavar='N', help='hidden size (768)')
    parser.add_argument('--layers', type=at_least(1), default=size.num_layers, metavar='N', help='blocks (12)')
    parser.add_argument('--vocabulary', type=int, default=size.vocab_size, metavar='N', help='tokens (42,000)')
    parser.add_argument('--answers', type=at_least(1), default=size.num_answers, metavar='N', help='answers (3,129)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write all numbers there as JSON')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    import transformers

    if args.width < 1 or args.width % HEAD_SIZE or args.vocabulary <= FIRST_TOKEN:
        raise KoviltError(f'--width must be a multiple of {HEAD_SIZE}, --vocabulary larger than {FIRST_TOKEN}')
    machine = prepare_device(args.device)
    print(f'{machine}, transformers {transformers.__version__}; {args.rounds} rounds')
    size = ModelSize(args.width, args.layers, args.vocabulary, args.answers)
    report = Report()
    report.numbers['machine'] = dict(
        device=machine, transformers=transformers.__version__, rounds=args.rounds, **vars(size)
    )
    sections = choose_sections(args)
    models = BothModels(size, args.device)
    start = time.perf_counter()
    available = section_functions(args, models, report)
    for name in sections:
        if args.limit is not None and time.perf_counter() - start > args.limit:
            report.failed.append(name)
            print(f'\n## {name}\n\nnot started: --limit {args.limit:g} s is over')
            continue
        report.run_section(name, available[name])
        if args.out:
            write_json(args.out, report.numbers | {'failed': report.failed})
    if report.failed:
        print(f'\nfailed: {", ".join(report.failed)}')
    return 1 if report.failed else 0


def choose_sections(args: argparse.Namespace) -> tuple[str, ...]:
    """The names given by --sections, or those of the device.

    Raises:
        KoviltError: a section does not exist, or not on this device.
    """
    for name in args.sections or ():
        if name not in SECTION_NAMES:
            raise KoviltError(f'--sections {name}: choose among {", ".join(SECTION_NAMES)}')
        if name in GPU_ONLY and not is_cuda(args.device):
            raise KoviltError(f'--sections {name}: it measures a GPU; give --device cuda')
    return tuple(args.sections or SECTIONS[args.device])


def section_functions(args: argparse.Namespace, models: BothModels, report: Report) -> dict[str, Callable[[], None]]:
    """The sections by name, with their batch sizes."""
    evaluation, train = BATCHES[args.device]
    batches, train_batches = args.batches or evaluation, args.train_batches or train
    aligned = 64 if is_cuda(args.device) else train_batches[0]
    return {
        'evaluation': lambda: speed.measure_evaluation(models, batches, args.rounds, report),
        'training': lambda: speed.measure_training(models, train_batches, args.rounds, report),
        'options': lambda: speed.measure_options(models, train_batches, args.rounds, report),
        'memory': lambda: speed.measure_memory(models, train_batches, report),
        'waits': lambda: training.measure_host_waits(models, report),
        'runner': lambda: training.train_under_runner(models, report),
        'alignment': lambda: training.measure_alignment(models, aligned, args.rounds, report),
    }


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

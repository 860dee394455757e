"""What it costs that a run survives: saving, the guard against NaN, checksums, digests and the lock.

    python -m benchmarks.safety_costs
    python -m benchmarks.safety_costs --only saving --folder /a/disk

The model has base size and new weights, AdamW its state, on a CPU.

`saving` (wall time): how long the training waits for a checkpoint with and without the thread that writes it; how long
the thread takes; and for how long at most it keeps Python's lock, so that the training could not go on.
`guard` (processor time): an optimizer step with and without the check that loss and gradients are finite, beside a
whole training step.
`checksums` (processor time): reading all batches of prepared data, one question an image, with and without comparing
the patches of each image.
`files` (processor time): comparing a file of weights with its digest and a checkpoint with its CRCs; taking the lock of
a work folder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fixtures import PATCH_SIZE, RESIZE, base_model, make_batch, sample_grids, sample_lengths, save_folder
from benchmarks.report import markdown_table
from benchmarks.timing import describe_machine, prepare_device, processor_clock, ratio, time_in_turn, wall_clock
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import run_cli

SECTIONS = ('saving', 'guard', 'checksums', 'files')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('--only', choices=SECTIONS, action='append', help='measure this section alone; may be repeated')
    parser.add_argument('--rounds', type=at_least(1), default=5, metavar='N', help='timings of each variant (5)')
    parser.add_argument('--pairs', type=at_least(1), default=8, metavar='N', help='pairs of a training step (8)')
    parser.add_argument('--folder', type=Path, help='where to write files (default: the folder for temporary files)')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    prepare_device('cpu')
    print(describe_machine('cpu'))
    sections: dict[str, Callable[[argparse.Namespace, Path], list[list[str]]]] = {
        'saving': measure_saving,
        'guard': measure_guard,
        'checksums': measure_checksums,
        'files': measure_files,
    }
    rows: list[list[str]] = []
    for name in args.only or SECTIONS:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows += sections[name](args, Path(folder))
    print(markdown_table(['what', 'time'], rows))


def trained_model(pairs: int) -> tuple[Any, Any, Callable[[], Any]]:
    """A model of base size with gradients, its AdamW after one step, and a function that computes gradients again."""
    import torch

    model = base_model().train()
    rng = torch.Generator().manual_seed(0)
    batch = make_batch(sample_grids(pairs, rng), sample_lengths(pairs, rng), rng)

    def compute_gradients() -> Any:
        optimizer.zero_grad()
        loss = sum(value for name, value in model(batch, mode='loss').items() if 'loss' in name)
        loss.backward()
        return loss.detach()

    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    compute_gradients()
    optimizer.step()
    return model, optimizer, compute_gradients


def measure_saving(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    from kovilt.engine.checkpoint_writer import CheckpointWriter
    from kovilt.engine.run_files import RunFiles
    from kovilt.formats.checkpoint import write_checkpoint

    model, optimizer, _ = trained_model(1)
    path = folder / 'iter_1.pth'
    names = 'written by the thread', 'blocked, background', 'of it, processor', 'blocked, background=False'
    times: dict[str, list[float]] = {name: [] for name in names}
    pauses: list[float] = []

    def write(checkpoint: dict[str, Any]) -> None:
        start = wall_clock()
        write_checkpoint(checkpoint, path)
        times['written by the thread'].append(wall_clock() - start)

    with CheckpointWriter(RunFiles(folder)) as writer:
        for number in range(args.rounds + 1):
            checkpoint = {'meta': {}, 'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict()}
            start, processor = wall_clock(), time.thread_time()
            writer.submit(checkpoint, write, name=path.name)
            blocked, processor = wall_clock() - start, time.thread_time() - processor
            pauses.append(longest_pause(lambda: writer._job is None or writer._job.written.done()))
            writer.wait()
            if number == 0:
                first = blocked
                times['written by the thread'].clear()
                continue
            times['blocked, background'].append(blocked)
            times['of it, processor'].append(processor)
            start = wall_clock()
            writer.submit(checkpoint, lambda checkpoint: write_checkpoint(checkpoint, path), name='x', background=False)
            times['blocked, background=False'].append(wall_clock() - start)
    gigabytes = path.stat().st_size / 1e9
    rows = [[f'checkpoint of {gigabytes:.2f} GB: {name}', spread(values)] for name, values in times.items()]
    rows.append(['blocked by the first, whose memory is new', f'{first:.2f} s'])
    return [*rows, ['longest pause of Python while the thread writes', spread(pauses)]]


def longest_pause(is_over: Callable[[], bool]) -> float:
    """Seconds for which this thread could not run Python at most, until `is_over`."""
    longest, last = 0.0, wall_clock()
    while not is_over():
        time.sleep(0.001)
        now = wall_clock()
        longest, last = max(longest, now - last), now
    return longest


def measure_guard(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    from mmengine.optim import OptimWrapper

    from kovilt.engine.optim import ViLTOptimWrapper

    _, optimizer, compute_gradients = trained_model(args.pairs)
    wrappers = {
        ('', True): ViLTOptimWrapper(optimizer),
        ('', False): OptimWrapper(optimizer),
        (' with clip_grad', True): ViLTOptimWrapper(optimizer, clip_grad={'max_norm': 1.0}),
        (' with clip_grad', False): OptimWrapper(optimizer, clip_grad={'max_norm': 1.0}),
    }
    loss = compute_gradients()

    def step(wrapper: OptimWrapper) -> Callable[[], None]:
        def run() -> None:
            if isinstance(wrapper, ViLTOptimWrapper):
                wrapper._loss = loss
            wrapper.step()

        return run

    times = time_in_turn({name: step(wrapper) for name, wrapper in wrappers.items()}, rounds=4 * args.rounds)
    whole = time_in_turn({'gradients': compute_gradients}, rounds=max(1, args.rounds // 2))['gradients']
    rows = []
    for kind in ('', ' with clip_grad'):
        guarded, plain = times[kind, True], times[kind, False]
        extra = statistics.median(a - b for a, b in zip(guarded, plain, strict=True))
        share = extra / (statistics.median(whole) + statistics.median(plain))
        rows.append([f'guard{kind}, of a step of {args.pairs} pairs', f'{extra * 1e3:.1f} ms, {share:.2%} of it'])
    return [*rows, [f'forward and backward of {args.pairs} pairs', spread(whole)]]


def measure_checksums(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    from benchmarks.data_path_loaders import kovilt_loader, run_epochs
    from benchmarks.synthetic_data import train_tokenizer, write_jpeg_set
    from kovilt.datasets import QuestionDataset, prepare

    train_tokenizer(folder / 'tokenizer')
    write_jpeg_set(folder / 'set', images=120)
    source = {'type': 'AIHubLivingReader', 'data_root': str(folder / 'set'), 'split': 'train'}
    resize = [{'type': 'LoadImage'}, {'type': 'ResizeViLT', **RESIZE}, {'type': 'Patchify', 'patch_size': PATCH_SIZE}]
    files = {'reader': source, 'image_pipeline': resize, 'answers': {'min_count': 1}}
    prepare(folder / 'out', {'train': {'type': 'QuestionDataset', **files}})
    loaders = {}
    for compared in (True, False):
        dataset = QuestionDataset(
            reader={'type': 'PreparedReader', 'data_root': str(folder / 'out'), 'split': 'train'},
            answers=str(folder / 'out' / 'answers.json'),
            image_pipeline=[{'type': 'LoadPrepared'}],
            text_pipeline=[{'type': 'TokenizeKorean', 'tokenizer': str(folder / 'tokenizer'), 'max_text_len': 24}],
        )
        images: Any = dataset.image_store
        if not compared:
            images.patches._checksums = None
        loaders[compared] = kovilt_loader(dataset, 64, 1, num_workers=0)
    variants = {compared: lambda loader=loader: run_epochs(loader, 10) for compared, loader in loaders.items()}
    times = time_in_turn(variants, rounds=4 * args.rounds)
    rates = {compared: 10 * len(loaders[True].dataset) / statistics.median(times[compared]) for compared in times}
    slower = ratio(times[True], times[False]) - 1
    return [
        ['prepared images read, compared with their checksums', f'{rates[True]:,.0f}/s'],
        ['not compared', f'{rates[False]:,.0f}/s; comparing takes {slower:.1%} more time'],
    ]


def measure_files(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    import torch

    from kovilt.engine.work_dir import lock_work_dir
    from kovilt.formats.tensor_files import check_digest
    from kovilt.formats.torch_file import check_torch_file

    model = base_model()
    weights = save_folder(model, folder / 'model') / 'model.safetensors'
    torch.save(model.state_dict(), folder / 'x.pth')

    def lock() -> None:
        with lock_work_dir(folder / 'run', resume=True):
            pass

    variants = {
        'lock': lock,
        'digest': lambda: check_digest(weights),
        'crc': lambda: check_torch_file(folder / 'x.pth'),
    }
    times = time_in_turn(variants, rounds=args.rounds, clock=processor_clock)
    megabytes = weights.stat().st_size / 1e6
    return [
        [f'digest of {megabytes:,.0f} MB of safetensors', spread(times['digest'])],
        [f'CRCs of {(folder / "x.pth").stat().st_size / 1e6:,.0f} MB of .pth', spread(times['crc'])],
        ['lock of a work folder, once a run', f'{statistics.median(times["lock"]) * 1e3:.2f} ms'],
    ]


def spread(seconds: list[float]) -> str:
    return f'{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})'


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

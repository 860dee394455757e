"""Sections of against_hf.py that measure speed and memory: evaluation, training, options of kovilt, peak memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.against_hf_models import (
    BothBatches,
    BothModels,
    batch_flops,
    empty_cache,
    make_both_batches,
    training_variants,
    with_options,
)
from benchmarks.memory import peak_memory
from benchmarks.report import Report
from benchmarks.timing import autocast, default_precision, device_clock, is_cuda, ratio, time_in_turn

Variants = dict[str, Callable[[], Any]]
HEAD = (
    'variant',
    'batch',
    'ms',
    'ratio',
    'over fused',
    'TFLOP/s',
    'of torch.mm',
    'plain TFLOP/s',
    'plain of torch.mm',
    'scores differ by',
)
MAX_DIFFERENCE = 1e-4  # of a score, in float32


def measure_evaluation(models: BothModels, batches: Sequence[int], rounds: int, report: Report) -> None:
    """One forward pass to the scores of a batch.

    Raises:
        AssertionError: scores in float32 differ by more than MAX_DIFFERENCE.
    """
    import torch

    device, cuda = models.device, is_cuda(models.device)
    models.train(False)
    models.free()
    rows = []
    for num_pairs in batches:
        batch = make_both_batches(num_pairs, models.size, device)
        with torch.inference_mode(), autocast(device):
            variants: Variants = {
                'transformers': partial(models.transformers_scores, batch),
                'kovilt': partial(models.kovilt_scores, batch),
            }
            if cuda:
                variants['kovilt, compiled'] = with_options(models, variants['kovilt'], compiled=True)
            difference = (models.transformers_scores(batch) - models.kovilt_scores(batch)).abs().max().item()
            if not cuda and difference > MAX_DIFFERENCE:
                raise AssertionError(f'batch of {num_pairs}: scores differ by {difference:.1e}')
            variants['torch.mm'], mm_flops = matrix_products(models, batch, training=False)
            seconds = _time(variants, device, rounds, repeats=2 if cuda else 3 if num_pairs == 1 else 1)
        rows += summarize(models, batch, seconds, mm_flops, training=False, difference=difference)
    report.add_table('evaluation', HEAD, rows)


def measure_training(models: BothModels, batches: Sequence[int], rounds: int, report: Report) -> None:
    """Forward, backward and optimizer step."""
    device, cuda = models.device, is_cuda(models.device)
    models.train()
    if cuda:
        report.numbers['dense product, TFLOP/s'] = dense = dense_flops(device) / 1e12
        print(f'8192 x 8192 x 8192 in bfloat16: {dense:.0f} TFLOP/s')
    for num_pairs in batches:
        models.free()
        batch = make_both_batches(num_pairs, models.size, device)
        variants: Variants = dict(training_variants(models, batch))
        variants['torch.mm'], mm_flops = matrix_products(models, batch, training=True)
        seconds = _time(variants, device, rounds, repeats=2 if cuda else 1)
        report.add_table('training', HEAD, summarize(models, batch, seconds, mm_flops, training=True))
        if cuda:
            flops = batch_flops(models, batch, training=True) / 1e12
            rates = {name: flops / statistics.median(times) for name, times in seconds.items() if 'kovilt' in name}
            rows = [(name, num_pairs, rate, rate / dense) for name, rate in rates.items()]
            report.add_table('training, dense', ('variant', 'batch', 'TFLOP/s', 'of the dense product'), rows)
    models.free()


def measure_options(models: BothModels, batches: Sequence[int], rounds: int, report: Report) -> None:
    """kovilt's options against its plain float32 training step, for devices on which they may not pay."""
    device = models.device
    models.train()
    models.free()
    rows = []
    for num_pairs in batches:
        batch = make_both_batches(num_pairs, models.size, device)
        step = partial(models.kovilt_step, batch, precision='float32')
        variants: Variants = {
            'float32': step,
            'float32, compiled': with_options(models, step, compiled=True),
            'float32, checkpointed': with_options(models, step, checkpointed=True),
            'bfloat16': partial(models.kovilt_step, batch, precision='bfloat16'),
        }
        seconds = _time(variants, device, rounds, repeats=2 if is_cuda(device) else 1)
        for name, times in seconds.items():
            rows.append((name, num_pairs, statistics.median(times) * 1e3, ratio(seconds['float32'], times)))
    report.add_table('options', ('training step', 'batch', 'ms', 'ratio'), rows)
    models.free()


def measure_memory(models: BothModels, batches: Sequence[int], report: Report) -> None:
    """The peak memory of a training step on a GPU, above weights and the optimizer's state."""
    import torch

    models.train()
    rows: list[tuple[Any, ...]] = []
    for num_pairs in batches:
        models.free()
        batch = make_both_batches(num_pairs, models.size, models.device)
        for name, run in training_variants(models, batch).items():
            models.free()
            try:
                run()  # creates the optimizer's state and compiles
                models.clear_gradients()
                rows.append((name, num_pairs, peak_memory(run, models.device) / 2**30))
            except torch.cuda.OutOfMemoryError:
                rows.append((name, num_pairs, 'out of memory'))
    report.add_table('memory', ('variant', 'batch', 'GiB'), rows)
    models.free()


# How the tables are made


def _time(variants: Variants, device: str, rounds: int, repeats: int) -> dict[str, list[float]]:
    """`time_in_turn` for the device. A variant that does not fit into the GPU's memory is left out."""
    import torch

    fitting = dict(variants)
    for name, run in variants.items():
        try:
            run()
        except torch.cuda.OutOfMemoryError:
            print(f'{name}: out of memory')
            del fitting[name]
            empty_cache(device)
    cuda = is_cuda(device)
    clock = device_clock(device)
    return time_in_turn(fitting, rounds=rounds, clock=clock, warm_ups=int(cuda), untimed=int(cuda), repeats=repeats)


def summarize(
    models: BothModels,
    batch: BothBatches,
    seconds: dict[str, list[float]],
    mm_flops: float,
    *,
    training: bool,
    difference: float | None = None,
) -> list[tuple[Any, ...]]:
    """Rows of HEAD. For transformers TFLOP/s are left empty: much of what it computes is padding."""
    mm = seconds['torch.mm']
    flops = [batch_flops(models, batch, training=training, plain=plain) for plain in (False, True)]
    rows: list[tuple[Any, ...]] = []
    for name, times in seconds.items():
        median = statistics.median(times)
        if name == 'torch.mm':
            rows.append((name, batch.num_pairs, None, None, None, mm_flops / median / 1e12, 1.0, None, None, None))
            continue
        ratios = [
            ratio(seconds[other], times) if other in seconds else None
            for other in ('transformers', 'transformers, fused AdamW')
        ]
        speeds: list[float | None] = [None] * 5
        if name.startswith('kovilt'):
            speeds = [
                speed
                for count in flops
                for speed in (
                    count / median / 1e12,
                    statistics.median(count / t / (mm_flops / m) for t, m in zip(times, mm, strict=True)),
                )
            ]
            speeds.append(difference)
        rows.append((name, batch.num_pairs, median * 1e3, *ratios, *speeds))
    return rows


def matrix_products(models: BothModels, batch: BothBatches, *, training: bool) -> tuple[Callable[[], None], float]:
    """torch.mm at the shapes of a block's linear layers, in training also of their backward pass, and its FLOPs."""
    import torch

    d, n, device = models.size.hidden_size, sum(batch.sequence_lengths), models.device
    dtype = getattr(torch, default_precision(device))
    shapes = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
    tensors = [
        [torch.randn(size, device=device, dtype=dtype) for size in ((n, inputs), (outputs, inputs), (n, outputs))]
        for inputs, outputs in shapes
    ]

    def run() -> None:
        for x, weight, gradient in tensors:
            torch.mm(x, weight.t())
            if training:
                torch.mm(gradient, weight)
                torch.mm(gradient.t(), x)

    return run, sum(2 * n * inputs * outputs for inputs, outputs in shapes) * (3 if training else 1)


def dense_flops(device: str) -> float:
    """FLOP/s of a large square product in bfloat16, the most that a GPU reaches."""
    import torch

    side = 8192
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = time_in_turn({'mm': lambda: torch.mm(a, b)}, rounds=5, clock=device_clock(device), untimed=1, repeats=10)
    return 2 * side**3 / statistics.median(seconds['mm'])

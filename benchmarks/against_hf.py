"""kovilt against transformers' ViltForQuestionAnswering: the same weights, the same batches, in turn.

    python benchmarks/against_hf.py                                   # CPU, float32, one thread
    python benchmarks/against_hf.py --device cuda --out against_hf.json

Base size, no dropout. Images have COCO's usual sizes under ViLT's resizing (a mean of about 200 patches) and random
pixels, questions 5 to 20 random tokens; both sides get the same numbers, padded to the longest of the batch for
transformers, as its processor does. On a CPU the clock is this process's own; on a GPU it is events on its stream, with
the batch already there (images as bytes for kovilt, which normalises them, as padded floats for transformers). Every
variant runs once in each round, in random order; a ratio is the median over the rounds of each round's own ratio.

What is counted: `TFLOP/s` is what kovilt's matrix products do, `plain` what those of an unpadded plain ViLT would do,
whose last block computes all rows (kovilt computes those that are read); a training step counts three times, pixels
two times. `of mm` is the first over the speed of torch.mm at the shapes of the blocks, forward or forward and backward,
measured in the same rounds.

A section that fails prints its traceback, the others go on, and the exit code is 1 at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import cpu_name, ratio  # noqa: E402
from benchmarks.work import draw_grids, draw_lengths, forward_flops, make_batch  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATCH = 32
FIRST_ID = 5  # ids below are special
SECTIONS = {
    'cpu': ('equality', 'evaluation', 'training'),
    'cuda': ('equality', 'training', 'memory', 'waits', 'runner', 'alignment', 'evaluation'),
}
BATCHES = {'cpu': ((1, 8, 16), (8,)), 'cuda': ((64, 256), (64, 256))}  # evaluation, training


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--sections',
        nargs='+',
        metavar='NAME',
        help='which of equality, evaluation, training, choices, runner, '
        f'alignment and, on CUDA, memory and waits; on a CPU {" ".join(SECTIONS["cpu"])}',
    )
    parser.add_argument('--batches', nargs='+', type=int, metavar='N', help='batch sizes of evaluation')
    parser.add_argument('--train-batches', nargs='+', type=int, metavar='N', help='batch sizes of training')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='rounds of each measurement (5)')
    parser.add_argument('--limit', type=float, metavar='S', help='begin no section after so many seconds')
    parser.add_argument('--width', type=int, default=768, metavar='N', help='hidden size (768)')
    parser.add_argument('--layers', type=int, default=12, metavar='N', help='blocks (12)')
    parser.add_argument('--vocabulary', type=int, default=42_000, metavar='N', help='tokens (42,000)')
    parser.add_argument('--answers', type=int, default=3_129, metavar='N', help='answers (3,129)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write every number there as JSON')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


# The work


class Work(NamedTuple):
    """One batch as both sides take it, on the device."""

    ours: dict[str, Any]  # images on the device, the layout on the host
    theirs: dict[str, Tensor]

    @property
    def size(self) -> int:
        return len(self.ours['input_ids'])

    @property
    def rows(self) -> list[int]:
        """Words, image CLS and patches of each pair."""
        return (self.ours['text_mask'].sum(dim=1) + self.ours['grids'].prod(dim=1) + 1).tolist()


def make_work(size: int, args: argparse.Namespace, seed: int = 0) -> Work:
    """`size` questions, each about an image of its own."""
    import torch

    chance = torch.Generator().manual_seed(seed)
    grids, words = draw_grids(size, chance), draw_lengths(size, chance)
    ours = make_batch(grids, words, chance, vocabulary=args.vocabulary, answers=args.answers)
    place = torch.arange(max(words))
    inner = (place > 0) & (place < torch.tensor(words)[:, None] - 1)
    ours |= dict(word_ids=place.expand(size, -1).masked_fill(~inner, -1), sample_seed=torch.arange(size) * 7919)
    height, width = (PATCH * max(grid[axis] for grid in grids) for axis in (0, 1))
    pixel_values = torch.zeros(size, 3, height, width)
    pixel_mask = torch.zeros(size, height, width, dtype=torch.int64)
    counts = ours['grids'].prod(dim=1).tolist()
    for i, (own, (rows, columns)) in enumerate(zip(ours['patches'].split(counts), grids, strict=True)):
        pixels = own.view(rows, columns, 3, PATCH, PATCH).permute(2, 0, 3, 1, 4)
        pixels = pixels.reshape(3, rows * PATCH, columns * PATCH)
        pixel_values[i, :, : rows * PATCH, : columns * PATCH] = pixels.float() / 127.5 - 1
        pixel_mask[i, : rows * PATCH, : columns * PATCH] = 1
    theirs = dict(
        input_ids=ours['input_ids'],
        attention_mask=ours['text_mask'].long(),
        pixel_values=pixel_values,
        pixel_mask=pixel_mask,
        labels=torch.nn.functional.one_hot(ours['label'], args.answers).float(),
    )
    ours |= {name: ours[name].to(args.device) for name in ('patches', 'label')}
    return Work(ours, {name: value.to(args.device) for name, value in theirs.items()})


def flops(model: Any, work: Work, *, training: bool, plain: bool = False) -> float:
    """Of the matrix products for a batch, a multiplication and an addition each counted.

    `plain`: of a ViLT without padding whose last block computes every row; else of what kovilt computes, whose last
    block computes keys and values of all rows and the rest for the text's [CLS] alone.
    """
    d, forward = model.encoder.hidden_size, forward_flops(model, work.ours)
    if plain:
        forward += sum(20 * (n - 1) * d**2 + 4 * (n - 1) * n * d for n in work.rows)
    pixels = 2 * work.ours['patches'].numel() * d
    return 3 * forward - pixels if training else forward  # pixels have no gradient


# The two sides


class Sides:
    """Both models with the same weights, and what steps them."""

    def __init__(self, args: argparse.Namespace, hf: Any, kovilt: Any) -> None:
        self.args, self.hf, self.kovilt = args, hf, kovilt
        self.optimizers: dict[str, Any] = {}  # made at their first step

    def hf_scores(self, work: Work) -> Tensor:
        inputs = {name: value for name, value in work.theirs.items() if name != 'labels'}
        return self.hf(**inputs).logits

    def kovilt_scores(self, work: Work) -> Tensor:
        return self.kovilt.scores(self.kovilt.data_preprocessor(work.ours))

    def hf_step(self, work: Work, optimizer: str) -> None:
        """As transformers' own Trainer: zero, forward, backward, step."""
        import torch

        if optimizer not in self.optimizers:
            options = {'fused': True} if optimizer == 'fused AdamW' else {}
            self.optimizers[optimizer] = torch.optim.AdamW(self.hf.parameters(), lr=1e-5, **options)
        self.optimizers[optimizer].zero_grad()
        self.hf(**work.theirs).loss.backward()
        self.optimizers[optimizer].step()

    def kovilt_step(self, work: Work, precision: str) -> None:
        """As KoviltRunner: the model's own train_step over an optim wrapper."""
        if precision not in self.optimizers:
            self.optimizers[precision] = self.wrapper(precision)
        self.kovilt.train_step([work.ours], self.optimizers[precision])

    def wrapper(self, precision: str, model: Any = None) -> Any:
        from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision

        config = {'type': 'ViLTOptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-5, 'weight_decay': 0.01}}
        config = config if precision == 'float32' else mixed_precision(config, precision)
        return ViLTOptimWrapperConstructor(config)(model or self.kovilt)

    def free(self) -> None:
        """Forgets optimizers and gradients."""
        self.optimizers.clear()
        for model in (self.hf, self.kovilt):
            model.zero_grad(set_to_none=True)
        empty_cache(self.args.device)


def make_sides(args: argparse.Namespace) -> Sides:
    import torch
    import transformers

    from kovilt.formats.huggingface import from_huggingface
    from kovilt.models.sizes import build_model

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.ViltConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64,
        intermediate_size=4 * args.width,
        max_position_embeddings=40,
        image_size=384,
        patch_size=PATCH,
        num_labels=args.answers,
    )
    hf = transformers.ViltForQuestionAnswering(config)
    with torch.no_grad():  # also where a start has zeros and ones
        for parameter in hf.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model = build_model(
        dict(
            type='ViLTForVQA',
            encoder=encoder_config(args),
            vqa_head=dict(type='VQAHead', num_answers=args.answers, loss='bce'),
        ),  # 'bce' is the loss of transformers
        answers=[str(i) for i in range(args.answers)],
    )
    model.load_state_dict(from_huggingface(hf.state_dict(), source='transformers'))
    return Sides(args, hf.to(args.device), model.to(args.device))


def encoder_config(args: argparse.Namespace) -> dict[str, Any]:
    return dict(
        type='ViLT',
        hidden_size=args.width,
        num_layers=args.layers,
        num_heads=args.width // 64,
        vocab_size=args.vocabulary,
        max_text_len=40,
        patch_size=PATCH,
        image_size=384,
        drop_rate=0.0,
        norm_eps=1e-12,
    )  # transformers has one epsilon for all norms


# The clock


def time_in_turn(
    variants: dict[str, Callable[[], object]], device: str, rounds: int, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of one run of each variant, by round, in an order of its own each round; after two runs to warm up.

    A variant whose warm-up runs out of the device's memory is left out.
    """
    import torch

    for name in list(variants):
        try:
            for _ in range(2 if device == 'cuda' else 1):
                variants[name]()
        except torch.cuda.OutOfMemoryError:
            print(f'{name}: out of memory')
            del variants[name]
            empty_cache(device)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    chance, order = random.Random(0), list(variants)
    for _ in range(rounds):
        for name in chance.sample(order, len(order)):
            taken[name].append(seconds(variants[name], device, repeats))
    return taken


def seconds(run: Callable[[], object], device: str, repeats: int = 1) -> float:
    """Of one run: of this process on a CPU, between events on the stream on a GPU, mean over `repeats` in a row."""
    import torch

    if device == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        run()  # what ran before had other sizes: let the allocator find its blocks first
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def empty_cache(device: str) -> None:
    import gc

    import torch

    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()


def products(rows: int, args: argparse.Namespace, dtype: torch.dtype, *, training: bool) -> tuple[Callable, float]:
    """torch.mm at the shapes of a block's linear layers, in training also of their backward pass, and its FLOPs."""
    import torch

    d = args.width
    shapes = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
    tensors = [
        [torch.randn(size, device=args.device, dtype=dtype) for size in ((rows, k), (n, k), (rows, n))]
        for k, n in shapes
    ]

    def run() -> None:
        for x, weight, out in tensors:
            torch.mm(x, weight.t())
            if training:
                torch.mm(out, weight)
                torch.mm(out.t(), x)

    return run, sum(2 * rows * k * n for k, n in shapes) * (3 if training else 1)


def dense_ceiling(args: argparse.Namespace, dtype: torch.dtype) -> float:
    """FLOP/s of a large square product, the best of what the device does."""
    import torch

    side = 8192 if args.device == 'cuda' else 512
    a, b = (torch.randn(side, side, device=args.device, dtype=dtype) for _ in range(2))
    taken = time_in_turn({'mm': lambda: torch.mm(a, b)}, args.device, rounds=5, repeats=10)
    return 2 * side**3 / statistics.median(taken['mm'])


# Variants of kovilt


@contextmanager
def options(
    sides: Sides, *, runs: bool = False, compiled: bool = False, maybe_checkpoint: bool = False
) -> Iterator[None]:
    """kovilt with attention by scaled_dot_product_attention run by run, compiled parts, or gradient checkpointing."""
    from kovilt.modules import attention

    encoder, has_kernel = sides.kovilt.encoder, attention.HAS_VARLEN
    attention.HAS_VARLEN = has_kernel and not runs
    encoder.compile_rows({} if compiled else None)
    encoder.with_cp = maybe_checkpoint
    try:
        yield
    finally:
        attention.HAS_VARLEN = has_kernel
        encoder.compile_rows(None)
        encoder.with_cp = False


def autocast(args: argparse.Namespace, precision: str) -> Any:
    import torch

    return nullcontext() if precision == 'float32' else torch.autocast(args.device, getattr(torch, precision))


# What is printed and kept


class Report:
    """Markdown for the screen, numbers for the file."""

    def __init__(self) -> None:
        self.numbers: dict[str, Any] = {}
        self.failed: list[str] = []

    def table(self, section: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        print('\n| ' + ' | '.join(head) + ' |')
        print('|---' + '|---:' * (len(head) - 1) + '|')
        for row in rows:
            print('| ' + ' | '.join(shown(value) for value in row) + ' |')
        sys.stdout.flush()
        kept = [dict(zip(head, row, strict=True)) for row in rows]
        self.numbers.setdefault(section, []).extend(kept)

    def say(self, section: str, text: str, **numbers: Any) -> None:
        print(text, flush=True)
        self.numbers.setdefault(section, []).append(numbers)

    def attempt(self, name: str, run: Callable[[], None]) -> None:
        print(f'\n## {name}', flush=True)
        began = time.perf_counter()
        try:
            run()
        except Exception:
            self.failed.append(name)
            traceback.print_exc(file=sys.stdout)
        print(f'\n({name}: {time.perf_counter() - began:.1f} s)', flush=True)


def shown(value: Any) -> str:
    if isinstance(value, float):
        small = value and abs(value) < 0.01
        return f'{value:.1e}' if small else f'{value:,.3f}' if abs(value) < 10 else f'{value:,.1f}'
    return '' if value is None else str(value)


# Sections


def equality(sides: Sides, report: Report) -> None:
    """Scores and gradients of every variant against the plain float32 of kovilt, and those against transformers."""
    import torch

    from kovilt.formats.huggingface import from_huggingface

    args = sides.args
    sides.free()
    work = make_work(2 if args.device == 'cpu' else 32, args, seed=1)
    cudnn = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # transformers' patches are a convolution, which may round to tf32
    try:
        reference = scores_and_gradients(sides, work, 'float32')
        loss = sides.hf(**work.theirs)
        loss.loss.backward()
        theirs = from_huggingface({name: p.grad for name, p in sides.hf.named_parameters()}, source='gradients')
        difference = (reference[0] - loss.logits.detach()).abs().max().item()
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
    gradient = apart(reference[1], theirs)
    del theirs, loss
    report.say(
        'equality',
        f"{work.size} pairs, float32: largest difference of a score from transformers' "
        f'{difference:.1e} (of {reference[0].abs().max().item():.1f}), of the gradient {gradient:.1e}',
        largest_difference=difference,
        gradient_difference=gradient,
    )
    rows, wrong = [], []
    if difference > 1e-4 or gradient > 1e-3:
        wrong.append('float32 against transformers')
    cuda = args.device == 'cuda'
    variants = [
        ('checkpointed', 'float32', dict(maybe_checkpoint=True), 1e-6, 1e-5),
        ('bfloat16', 'bfloat16', {}, 2e-2, 6e-2),
    ]
    if cuda:  # few CPUs have arithmetic for float16
        variants += [
            ('float16', 'float16', {}, 4e-3, 1e-2),
            ('bfloat16, runs', 'bfloat16', dict(runs=True), 2e-2, 6e-2),
            ('bfloat16, compiled', 'bfloat16', dict(compiled=True), 2e-2, 6e-2),
            ('bfloat16, compiled, checkpointed', 'bfloat16', dict(compiled=True, maybe_checkpoint=True), 2e-2, 6e-2),
        ]
    for name, precision, chosen, most_scores, most_gradients in variants:
        with options(sides, **chosen):
            scores, gradients = scores_and_gradients(sides, work, precision)
        found = (apart({'': reference[0]}, {'': scores}), apart(reference[1], gradients))
        fine = found[0] <= most_scores and found[1] <= most_gradients
        rows.append((name, *found, most_scores, most_gradients, 'yes' if fine else 'NO'))
        if not fine:
            wrong.append(name)
    report.table('equality', ('against float32', 'scores', 'gradient', 'may be', 'gradient may be', 'within'), rows)
    sides.free()
    if wrong:
        raise AssertionError(f'beyond the tolerance: {", ".join(wrong)}')


def scores_and_gradients(sides: Sides, work: Work, precision: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores (B, answers) and the gradient of each parameter of kovilt."""
    model = sides.kovilt
    model.zero_grad(set_to_none=True)
    scale = 1024.0 if precision == 'float16' else 1.0  # small gradients would vanish
    with autocast(sides.args, precision):
        batch = model.data_preprocessor(work.ours)
        pooled = model.pooled(batch)
        scores = model.vqa_head(pooled).float()
        loss = model.vqa_head.loss(pooled, batch['label'])['vqa_loss']
    (loss * scale).backward()
    gradients = {name: p.grad.float() / scale for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return scores.detach(), gradients


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """|a - b| / |a| over all tensors together.

    Raises:
        ValueError: they do not have the same names.
    """
    if a.keys() != b.keys():
        raise ValueError(f'not on both sides: {sorted(a.keys() ^ b.keys())[:5]}')
    off = sum((a[name].double() - b[name].double()).square().sum().item() for name in a)
    return (off / sum(value.double().square().sum().item() for value in a.values())) ** 0.5


def evaluation(sides: Sides, report: Report) -> None:
    """One forward pass to the scores of a batch."""
    import torch

    args = sides.args
    cuda = args.device == 'cuda'
    precision = 'bfloat16' if cuda else 'float32'
    sides.kovilt.eval()
    sides.hf.eval()
    sides.free()
    rows = []
    for size in args.batches:
        work = make_work(size, args)
        with torch.inference_mode(), autocast(args, precision):
            variants: dict[str, Callable] = {
                'transformers': lambda work=work: sides.hf_scores(work),
                'kovilt': lambda work=work: sides.kovilt_scores(work),
            }
            if cuda:
                variants['kovilt, compiled'] = _with(sides, variants['kovilt'], compiled=True)
            difference = (sides.hf_scores(work) - sides.kovilt_scores(work)).abs().max().item()
            if not cuda and difference > 1e-4:
                raise AssertionError(f'batch of {size}: scores differ by {difference:.1e}')
            mm, mm_flops = products(sum(work.rows), args, getattr(torch, precision), training=False)
            variants['torch.mm'] = mm
            taken = time_in_turn(variants, args.device, args.rounds, repeats=2 if cuda else 3 if size == 1 else 1)
        rows += summary(sides, work, taken, mm_flops, training=False, difference=difference)
    report.table('evaluation', HEAD, rows)


def training(sides: Sides, report: Report) -> None:
    """Forward, backward and optimizer step."""
    import torch

    args = sides.args
    cuda = args.device == 'cuda'
    sides.kovilt.train()
    sides.hf.train()
    if cuda:
        report.numbers['dense ceiling TFLOP/s'] = ceiling = dense_ceiling(args, torch.bfloat16) / 1e12
        print(f'8192 x 8192 x 8192 in bfloat16: {ceiling:.0f} TFLOP/s')
    for size in args.train_batches:
        sides.free()
        work = make_work(size, args)
        if cuda:
            variants = training_variants(sides, work)
        else:
            variants = {
                'transformers': lambda work=work: sides.hf_step(work, 'default AdamW'),
                'transformers, fused AdamW': lambda work=work: sides.hf_step(work, 'fused AdamW'),
                'kovilt': lambda work=work: sides.kovilt_step(work, 'float32'),
            }
        mm, mm_flops = products(sum(work.rows), args, torch.bfloat16 if cuda else torch.float32, training=True)
        variants['torch.mm'] = mm
        taken = time_in_turn(variants, args.device, args.rounds, repeats=2 if cuda else 1)
        report.table('training', HEAD, summary(sides, work, taken, mm_flops, training=True))
        if cuda:
            rows = [
                (name, size, share, share / ceiling)
                for name, times in taken.items()
                if name.startswith('kovilt')
                for share in [flops(sides.kovilt, work, training=True) / statistics.median(times) / 1e12]
            ]
            report.table('training, dense', ('variant', 'batch', 'TFLOP/s', 'of the dense product'), rows)
    sides.free()


def choices(sides: Sides, report: Report) -> None:
    """kovilt's own options against its plain float32 training step, for devices on which they may not pay."""
    args = sides.args
    sides.kovilt.train()
    sides.free()
    rows = []
    for size in args.train_batches:
        work = make_work(size, args)
        plain, half = (lambda p=p, work=work: sides.kovilt_step(work, p) for p in ('float32', 'bfloat16'))
        variants = {
            'float32': plain,
            'float32, compiled': _with(sides, plain, compiled=True),
            'float32, checkpointed': _with(sides, plain, maybe_checkpoint=True),
            'bfloat16': half,
        }
        taken = time_in_turn(variants, args.device, args.rounds, repeats=2 if args.device == 'cuda' else 1)
        for name, times in taken.items():
            rows.append((name, size, statistics.median(times) * 1e3, ratio(taken['float32'], times)))
    report.table('choices', ('training step', 'batch', 'ms', 'ratio'), rows)
    sides.free()


def training_variants(sides: Sides, work: Work) -> dict[str, Callable[[], None]]:
    """On a GPU, all in mixed precision but for transformers as it is."""
    args = sides.args

    def theirs(optimizer: str, precision: str) -> Callable[[], None]:
        def step() -> None:
            import torch

            if optimizer not in sides.optimizers:
                chosen = {'fused': True} if optimizer == 'fused AdamW' else {}
                sides.optimizers[optimizer] = torch.optim.AdamW(sides.hf.parameters(), lr=1e-5, **chosen)
            sides.optimizers[optimizer].zero_grad()
            with autocast(args, precision):
                loss = sides.hf(**work.theirs).loss
            loss.backward()
            sides.optimizers[optimizer].step()

        return step

    def ours(precision: str) -> Callable[[], None]:
        return lambda: sides.kovilt_step(work, precision)

    plain = ours('bfloat16')
    variants = {
        'transformers': theirs('default AdamW', 'bfloat16'),
        'transformers, fused AdamW': theirs('fused AdamW', 'bfloat16'),
        'kovilt': plain,
        'kovilt, compiled': _with(sides, plain, compiled=True),
        'kovilt, compiled, checkpointed': _with(sides, plain, compiled=True, maybe_checkpoint=True),
        'kovilt, float16 with a scaler': ours('float16'),
    }
    if work.size <= 64:
        variants['transformers, float32 as it is'] = theirs('default AdamW', 'float32')
        variants['kovilt, runs'] = _with(sides, plain, runs=True)
    return variants


def _with(sides: Sides, run: Callable[[], object], **chosen: bool) -> Callable[[], None]:
    def changed() -> None:
        with options(sides, **chosen):
            run()

    return changed


HEAD = ('variant', 'batch', 'ms', 'ratio', 'over fused', 'TFLOP/s', 'of mm', 'plain', 'plain of mm', 'score off by')


def summary(
    sides: Sides,
    work: Work,
    taken: dict[str, list[float]],
    mm_flops: float,
    *,
    training: bool,
    difference: float | None = None,
) -> list[tuple]:
    """Rows of HEAD. TFLOP/s of transformers are not given: most of what it computes besides is padding."""
    mm = taken['torch.mm']
    computed = {plain: flops(sides.kovilt, work, training=training, plain=plain) for plain in (False, True)}
    rows = []
    for name, times in taken.items():
        middle = statistics.median(times)
        against = [
            ratio(taken[other], times) if other in taken else None
            for other in ('transformers', 'transformers, fused AdamW')
        ]
        row: list[Any] = [name, work.size, middle * 1e3, *against]
        if name == 'torch.mm':
            row = [name, work.size, None, None, None, mm_flops / middle / 1e12, 1.0, None, None, None]
        elif name.startswith('kovilt'):
            for plain in (False, True):
                row += [
                    computed[plain] / middle / 1e12,
                    statistics.median(computed[plain] / t / (mm_flops / m) for t, m in zip(times, mm, strict=True)),
                ]
            row.append(difference)
        else:
            row += [None] * 5
        rows.append(tuple(row))
    return rows


def memory(sides: Sides, report: Report) -> None:
    """What a training step takes beside weights and optimizer: the most that was allocated within it."""
    import torch

    args = sides.args
    sides.kovilt.train()
    sides.hf.train()
    rows = []
    for size in args.train_batches:
        sides.free()
        work = make_work(size, args)
        for name, run in training_variants(sides, work).items():
            sides.free()
            try:
                run()  # the optimizer's state and what is compiled are there now
                for model in (sides.hf, sides.kovilt):
                    model.zero_grad(set_to_none=True)
                torch.cuda.synchronize()
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                run()
                torch.cuda.synchronize()
                rows.append((name, size, (torch.cuda.max_memory_allocated() - before) / 2**30))
            except torch.cuda.OutOfMemoryError:
                rows.append((name, size, 'out of memory'))
    report.table('memory', ('variant', 'batch', 'GiB'), rows)
    sides.free()


def waits(sides: Sides, report: Report) -> None:
    """How often a training step makes the host wait for the GPU, counted by torch's sync debug mode."""
    import torch

    args = sides.args
    sides.kovilt.train()
    sides.hf.train()
    sides.free()
    work = make_work(64, args)
    host = dict(work.ours, patches=work.ours['patches'].cpu().pin_memory(), label=work.ours['label'].cpu().pin_memory())
    fresh = Work(host, work.theirs)  # as the loader's, from pinned memory
    runs = {name: run for name, run in training_variants(sides, fresh).items() if 'float16' not in name}
    rows = []
    for name, run in runs.items():
        for _ in range(2):
            run()
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            try:
                run()
            finally:
                torch.cuda.set_sync_debug_mode('default')
        found = [w for w in caught if 'synchroniz' in str(w.message)]
        places = sorted({f'{Path(w.filename).name}:{w.lineno}' for w in found})
        rows.append((name, 64, len(found), ' '.join(places[:6])))
    report.table('waits', ('training step', 'batch', 'waits', 'first places'), rows)
    sides.free()
    wrong = [name for name, _, count, _ in rows if name.startswith('kovilt') and count]
    if wrong:
        raise AssertionError(f'the host waits in {", ".join(wrong)}')


def runner(sides: Sides, report: Report) -> None:
    """Steps under KoviltRunner with the hooks of configs/_base_/runtime.py; on CUDA a wait between logs is an error."""
    import torch
    from mmengine.config import Config
    from mmengine.hooks import Hook

    from kovilt.engine import KoviltRunner

    args = sides.args
    sides.free()
    cuda = args.device == 'cuda'
    steps, size = 12, 64 if cuda else 2
    works = [make_work(size, args, seed=seed).ours for seed in range(4)]
    batches = [dict(work, patches=work['patches'].cpu(), label=work['label'].cpu()) for work in works]

    class Watch(Hook):
        priority = 'HIGHEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
            if cuda and 4 <= batch_idx < steps - 1:  # what comes first fills caches, the last step logs
                torch.cuda.set_sync_debug_mode('error')

    class Unwatch(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            if cuda:
                torch.cuda.set_sync_debug_mode('default')

    base = Config.fromfile(ROOT / 'configs' / '_base_' / 'runtime.py').to_dict()
    logger = dict(type='LoggerHook', interval=1000, log_metric_by_epoch=False)
    base['default_hooks'].update(checkpoint=None, logger=logger)
    base['env_cfg'].pop('dist_cfg')
    wrapper = dict(
        type='ViLTOptimWrapper',
        constructor='ViLTOptimWrapperConstructor',
        clip_grad=dict(max_norm=1.0),
        precision='bfloat16' if cuda else 'float32',
        optimizer=dict(type='AdamW', lr=1e-5),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = KoviltRunner(
            model=sides.kovilt,
            work_dir=folder,
            experiment_name='against_hf',
            train_dataloader=dict(
                dataset=Batches(batches, steps),
                batch_size=1,
                num_workers=1,
                collate_fn=list,
                sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
                persistent_workers=False,
            ),
            train_cfg=dict(type='StepTrainLoop', max_iters=steps, val_interval=10**6),
            optim_wrapper=wrapper,
            param_scheduler=dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False),
            log_level='WARNING',
            **base,
        )
        run.register_hook(Watch())
        run.register_hook(Unwatch())
        try:
            run.train()
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode('default')
    seen = 'in 7 of which a wait of the host would have been an error: none' if cuda else 'on a CPU, which never waits'
    report.say('runner', f'{steps} steps of {size} under KoviltRunner, {seen}', steps=steps, watched=7 * cuda)
    sides.kovilt.to(args.device)


class Batches:
    """A dataset of finished batches, again and again."""

    metainfo: dict[str, Any] = {}

    def __init__(self, batches: list[dict[str, Any]], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.batches[index % len(self.batches)]


def alignment(sides: Sides, report: Report) -> None:
    """Word-patch alignment, forward and backward, against the pre-training step that it is part of."""
    import torch

    from kovilt.models.sizes import build_model
    from kovilt.modules.vilt import ViLTStates

    args = sides.args
    cuda = args.device == 'cuda'
    sides.free()
    rows = []
    size = 64 if cuda else args.train_batches[0]
    for name, numbers in (("the paper's", dict(beta=0.5, iterations=50)), ('default', {})):
        torch.manual_seed(0)
        model = (
            build_model(
                dict(
                    type='ViLTForPreTraining',
                    encoder=encoder_config(args),
                    mlm_head=dict(type='MLMHead', mask_token_id=4, special_token_ids=list(range(FIRST_ID))),
                    itm_head=dict(type='ITMHead'),
                    wpa_head=dict(type='WPAHead', **numbers),
                )
            )
            .to(args.device)
            .train()
        )
        model.encoder.compile_rows({} if cuda else None)
        wrapper = sides.wrapper('bfloat16' if cuda else 'float32', model)
        batch = make_work(size, args).ours
        packing = model.encoder.lay_out(
            batch['text_mask'], batch['grids'], batch['image_index'], torch.device(args.device)
        )
        states = torch.randn(len(packing.source), args.width, device=args.device) + 1.0
        states.requires_grad_()
        matched = (torch.arange(size) % 2 == 0).to(args.device)

        def align(model=model, batch=batch, packing=packing, states=states, matched=matched) -> None:
            states.grad = None
            aligned = model._aligned(batch, ViLTStates(states, packing, 'all'))
            model.wpa_head.loss(*aligned, matched)['wpa_loss'].backward()

        def step(model=model, batch=batch, wrapper=wrapper) -> None:
            model.train_step([batch], wrapper)

        taken = time_in_turn({'step': step, 'alignment': align}, args.device, args.rounds, repeats=3 if cuda else 1)
        share = statistics.median(a / s for a, s in zip(taken['alignment'], taken['step'], strict=True))
        rows.append(
            (
                name,
                size,
                'yes' if cuda else 'no',
                statistics.median(taken['step']) * 1e3,
                statistics.median(taken['alignment']) * 1e3,
                100 * share,
            )
        )
        print(plans_apart(model, model._aligned(batch, ViLTStates(states.detach(), packing, 'all'))))
        del model, wrapper
        empty_cache(args.device)
    report.table('alignment', ('WPAHead', 'batch', 'compiled', 'step, ms', 'alignment, ms', 'share, %'), rows)


def plans_apart(model: Any, aligned: tuple[Tensor, ...]) -> str:
    """What the plans made on the device in float32, by one kernel on a GPU, and on the CPU in float64 are apart.

    Raises:
        AssertionError: by more than 1e-6 of mass, or 1e-4 of a distance.
    """
    from kovilt.modules.transport import ipot, transport_cost, transport_distance

    words, word_mask, patches, patch_mask = aligned
    cost, head = transport_cost(words, patches), model.wpa_head
    numbers = dict(beta=head.beta, iterations=head.iterations)
    plan = ipot(cost, word_mask, patch_mask, **numbers).cpu().double()
    cost = cost.cpu().double()
    exact = ipot(cost, word_mask.cpu(), patch_mask.cpu(), **numbers)
    mass = (plan - exact).abs().max().item()
    distance = (transport_distance(cost, plan) / transport_distance(cost, exact) - 1).abs().max().item()
    if not (mass <= 1e-6 and distance <= 1e-4):
        raise AssertionError(f'plans are apart by {mass:.1e}, distances by {distance:.1e}')
    return f'beta {head.beta}, {head.iterations} steps: plans apart by {mass:.1e} at most, distances by {distance:.1e}'


RUN = dict(
    equality=equality,
    evaluation=evaluation,
    training=training,
    choices=choices,
    memory=memory,
    waits=waits,
    runner=runner,
    alignment=alignment,
)


def main(args: argparse.Namespace) -> int:
    import torch
    import transformers

    if min(args.rounds, args.width, args.layers, args.answers) < 1 or args.vocabulary <= FIRST_ID or args.width % 64:
        raise KoviltError(
            f'--rounds, --layers, --answers must be 1 or more, --vocabulary above {FIRST_ID}, --width a multiple of 64'
        )
    chosen = args.sections or SECTIONS[args.device]
    for name in chosen:
        if name not in RUN:
            raise KoviltError(f'--sections {name}: there are {", ".join(RUN)}')
        if name in ('memory', 'waits') and args.device == 'cpu':
            raise KoviltError(f'--sections {name}: is of a GPU; give --device cuda')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise KoviltError('--device cuda: torch sees no GPU here')
    args.batches, args.train_batches = (
        given or usual for given, usual in zip((args.batches, args.train_batches), BATCHES[args.device], strict=True)
    )
    if min(*args.batches, *args.train_batches) < 1:
        raise KoviltError('--batches and --train-batches must be at least 1')
    if args.device == 'cpu':
        torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if args.device == 'cuda' else f'{cpu_name()}, one thread, process time'
    report = Report()
    report.numbers['where'] = dict(
        device=where,
        torch=torch.__version__,
        transformers=transformers.__version__,
        rounds=args.rounds,
        width=args.width,
        layers=args.layers,
        vocabulary=args.vocabulary,
        answers=args.answers,
    )
    print(f'{where}; torch {torch.__version__}, transformers {transformers.__version__}; {args.rounds} rounds')
    sides = make_sides(args)
    began = time.perf_counter()
    for name in chosen:
        if args.limit is not None and time.perf_counter() - began > args.limit:
            report.failed.append(name)
            print(f'\n## {name}\n\nnot begun: --limit {args.limit:g} s is over')
            continue
        report.attempt(name, lambda name=name: RUN[name](sides, report))
        if args.out:
            report.numbers['failed'] = report.failed
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report.numbers, indent=1) + '\n', encoding='utf-8')
    if report.failed:
        print(f'\nfailed: {", ".join(report.failed)}')
    return 1 if report.failed else 0


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""How many times faster ViLT trains than METER: whole steps of both, in turn, on made-up batches of real shapes.

    python benchmarks/vilt_against_meter.py --out ratio.json            # on a GPU, in bfloat16
    python benchmarks/vilt_against_meter.py --batch 2 --questions 1     # on a CPU, in float32

Models are built by configs/kovilt_vqa_aihub.py and configs/meter_vqa_aihub.py, with random weights; a step is forward,
backward and fused AdamW. Images have the shapes of photographs (ViLT) or are squares (METER), questions 5 to 20
tokens. METER's image encoder encodes an image once for all its questions; ViLT cannot, so the ratio is given for 1
question an image, as in published training, and for 7, AI-Hub 101's mean, as kovilt's loader brings them. Reading and
decoding data is left out. The epoch is the time that the paper's 1,646,080 rows would take on this one device. With one
thread on a CPU the process's own time is taken, else that of the clock. On a CPU torch has no fused attention that
drops weights, as METER's does in training and ViLT's does not; the last lines name the kernels.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import logging
import platform
import random
import statistics
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS = 1_646_080  # the paper's training rows
PAPER = {'ViLT': 2.0, 'METER': 24.0}  # hours an epoch, on a machine that it does not name
SIZES = {'vocab_size': 42_000, 'num_answers': 3_129}  # kykim/bert-kor-base; VQAv2
LENGTHS = (5, 20)  # of a question, in tokens
PHOTOGRAPHS = {  # an assumption, after COCO: width and height in pixels, and how many of a hundred
    (640, 480): 38,
    (640, 427): 25,
    (480, 640): 15,
    (427, 640): 9,
    (500, 375): 5,
    (640, 640): 4,
    (1920, 1080): 4,
}
SCALES: dict[str, dict[str, Any]] = {
    'base': {'sides': [288, 384, 576], 'ViLT': [], 'METER': []},
    'tiny': {  # to try the tool itself
        'sides': [32, 64],
        'ViLT': [
            'model.encoder.hidden_size=32',
            'model.encoder.num_layers=2',
            'model.encoder.num_heads=2',
            'train_dataloader.dataset.image_pipeline.1.short=64',
            'train_dataloader.dataset.image_pipeline.1.long=106',
        ],
        'METER': [
            'model.encoder.hidden_size=32',
            'model.encoder.num_layers=2',
            'model.encoder.num_heads=2',
            'model.encoder.image_encoder.arch.embed_dims=32',
            'model.encoder.image_encoder.arch.num_layers=1',
            'model.encoder.image_encoder.arch.num_heads=2',
            'model.encoder.image_encoder.arch.feedforward_channels=64',
            'model.encoder.text_encoder.hidden_size=32',
            'model.encoder.text_encoder.num_layers=1',
            'model.encoder.text_encoder.num_heads=2',
        ],
    },
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', type=int, nargs='+', metavar='N', help="METER's images, in pixels (288 384 576)")
    parser.add_argument('--questions', type=int, nargs='+', default=[1, 7], metavar='N', help='an image (1 7)')
    parser.add_argument(
        '--batch',
        type=int,
        metavar='N',
        help='questions of a step; on a GPU the most that are tried, by powers of 2 from 8 on (GPU: 256, CPU: 2)',
    )
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each is timed (5)')
    parser.add_argument('--steps', type=int, metavar='N', help='steps of one timing (GPU: 2, CPU: 1)')
    parser.add_argument('--scale', choices=SCALES, default='base', help='base: the published sizes')
    parser.add_argument('--device', choices=('cuda', 'cpu'), help='the default is a GPU if there is one')
    parser.add_argument('--out', metavar='FILE', help='also write all figures as JSON')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


@dataclass
class Row:
    """A model, how it is fed, and what was measured. Rates are samples, that is questions, a second."""

    kind: str
    pixels: str
    questions: int
    batch: int = 0
    parameters: int = 0
    patches: float = 0.0  # of an image, mean
    forward_gflop: float = 0.0  # of a sample, all matrix products of one forward pass
    rates: list[float] = field(default_factory=list)
    peak_gb: float | None = None
    attention: dict[str, int] = field(default_factory=dict)
    waits: int | None = None  # of the host for the device, in a step

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def tflops(self) -> float:
        """Achieved, 10^12 a second: backward costs twice forward."""
        return 3 * self.forward_gflop * self.rate / 1e3


class Trainer:
    """A model with its optimizer, and batches for it.

    Args:
        kind: 'ViLT' or 'METER'.
        side: of METER's images, in pixels.
        scale: of `SCALES`.
        device: 'cuda' or 'cpu'.
    """

    def __init__(self, kind: str, side: int | None, scale: str, device: str) -> None:
        import torch

        from kovilt.datasets import ResizeViLT
        from kovilt.engine.config import load_config
        from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision
        from kovilt.models.sizes import build_model, complete_model_config

        options = list(SCALES[scale][kind]) + ([f'model.encoder.image_size={side}'] if side else [])
        config = load_config(ROOT / 'configs' / f'{"kovilt" if kind == "ViLT" else "meter"}_vqa_aihub.py', options)
        pipeline = config.train_dataloader.dataset.image_pipeline
        self.kind, self.side, self.device = kind, side, device
        self.patch_size = pipeline[-1].patch_size
        self.resize = None if side else ResizeViLT(**{k: v for k, v in pipeline[1].items() if k != 'type'})
        self.pixels = f'{side} x {side}' if side else f'{pipeline[1].short}, at most {pipeline[1].long}'
        if side and side % self.patch_size:
            raise KoviltError(f'--sides {side}: not a multiple of the patch size {self.patch_size}')
        self.model_config = complete_model_config(config.model.to_dict(), data_sizes=SIZES)
        torch.manual_seed(0)
        with torch.device(device):
            self.model = build_model(self.model_config)
        self.model.to(device).train()
        wrapper = config.optim_wrapper.to_dict()
        wrapper.pop('constructor')
        paramwise = wrapper.pop('paramwise_cfg')
        wrapper = mixed_precision(wrapper, 'bfloat16') if device == 'cuda' else wrapper
        self.optimizer = ViLTOptimWrapperConstructor(wrapper, paramwise)(self.model)

    def grids(self, images: int, chance: random.Random) -> list[tuple[int, int]]:
        """Rows and columns of patches of that many images."""
        if self.resize is None:
            return [(self.side // self.patch_size,) * 2] * images
        sizes = chance.choices(list(PHOTOGRAPHS), PHOTOGRAPHS.values(), k=images)
        targets = [self.resize.target(*size) for size in sizes]
        return [(height // self.patch_size, width // self.patch_size) for width, height in targets]

    def batch(self, texts: int, questions: int, chance: random.Random) -> dict[str, Tensor]:
        """A batch in kovilt's contract on the host, where a GPU can fetch it from; the pixels are always the same."""
        import torch

        grids = torch.tensor(self.grids(-(-texts // questions), chance))
        lengths = torch.tensor([chance.randint(*LENGTHS) for _ in range(texts)])
        text_mask = torch.arange(int(lengths.max())) < lengths[:, None]
        generator = torch.Generator().manual_seed(chance.getrandbits(32))
        rows, width = int(grids.prod(1).sum()), 3 * self.patch_size**2
        return {
            'patches': noise(rows * width, self.device).view(rows, width),
            'grids': grids,
            'image_id': torch.arange(len(grids)),
            'image_index': torch.arange(texts) // questions,
            'input_ids': torch.randint(5, SIZES['vocab_size'], text_mask.shape, generator=generator) * text_mask,
            'text_mask': text_mask,
            'label': torch.randint(SIZES['num_answers'], (texts,), generator=generator),
        }

    def seconds(self, batches: list[dict[str, Tensor]]) -> float:
        """A step on each batch, from the first call until the device has done all."""
        import torch

        alone = self.device == 'cpu' and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        self.wait()
        start = clock()
        for batch in batches:
            self.model.train_step([batch], self.optimizer)
        self.wait()
        return clock() - start

    def wait(self) -> None:
        import torch

        if self.device == 'cuda':
            torch.cuda.synchronize()

    @functools.cached_property
    def hollow(self) -> nn.Module:
        """The same model without any numbers."""
        import torch

        from kovilt.models.sizes import build_model

        with torch.device('meta'):
            return build_model(self.model_config).to('meta')

    def forward_flop(self, batch: dict[str, Tensor]) -> float:
        """Of the whole batch."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.hollow({**batch, 'patches': batch['patches'].to('meta')}, mode='loss')
        return counter.get_total_flops()

    def own_bytes(self) -> int:
        """Weights, buffers and the optimizer's moments."""
        states = [value for state in self.optimizer.optimizer.state.values() for value in state.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *states]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if hasattr(tensor, 'numel'))


_NOISE: dict[str, Tensor] = {}


def noise(count: int, device: str) -> Tensor:
    """Random bytes (count,), drawn once."""
    import torch

    if device not in _NOISE or len(_NOISE[device]) < count:
        drawn = torch.randint(256, (count,), dtype=torch.uint8)
        _NOISE[device] = drawn.pin_memory() if device == 'cuda' else drawn
    return _NOISE[device][:count]


def fastest_batch(trainer: Trainer, questions: int, most: int) -> int:
    """The power of two, from 8 to `most`, with the most samples a second, of all that fit.

    A size fits when it takes less than nine tenths of the GPU's memory. Steps whose pace the host sets take equally
    long at several sizes, so no size ends the search but one that does not fit; each counts by its faster of two steps.
    """
    import torch

    chance = random.Random(0)
    rates: dict[int, float] = {}
    size = min(8, most)
    while size <= most:
        memory = PeakMemory(trainer.device)
        memory.start()
        try:
            batch = trainer.batch(size, questions, chance)
            trainer.seconds([batch])
            seconds = min(trainer.seconds([batch]) for _ in range(2))
        except torch.cuda.OutOfMemoryError:
            break
        if rates and memory.is_tight():
            break
        rates[size] = size / seconds
        size *= 2
    trainer.optimizer.zero_grad()  # of a step that did not fit
    if trainer.device == 'cuda':
        torch.cuda.empty_cache()
    if not rates:
        raise KoviltError(f'{trainer.kind} at {trainer.pixels} pixels: not even {min(8, most)} questions fit this GPU')
    return max(rates, key=rates.get)


class PeakMemory:
    """The most memory that a piece of work had, above what was there when it began; None where it cannot be told.

    On a GPU what torch has allocated; on a CPU the process's resident memory, by Linux's own mark, which is put back.
    """

    def __init__(self, device: str) -> None:
        self.device, self.before = device, None

    def start(self) -> None:
        import torch

        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        try:
            ctypes.CDLL(None).malloc_trim(0)
            Path('/proc/self/clear_refs').write_text('5')
            self.before = _status('VmRSS')
        except (OSError, AttributeError):
            self.before = None

    def bytes(self) -> int | None:
        import torch

        if self.before is None:
            return None
        peak = torch.cuda.max_memory_allocated() if self.device == 'cuda' else _status('VmHWM')
        return peak - self.before

    def is_tight(self) -> bool:
        """Whether nine tenths of the GPU's memory were taken, the other models' weights included."""
        import torch

        if self.device != 'cuda':
            return False
        return torch.cuda.max_memory_allocated() > 0.9 * torch.cuda.get_device_properties(0).total_memory


def _status(name: str) -> int:
    """A line of Linux's account of this process, in bytes."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(name + ':'))
    return int(line.split()[1]) * 1024


def attention_kernels(trainer: Trainer, batch: dict[str, Tensor]) -> dict[str, int]:
    """Which of torch's attention kernels the forward pass of a step calls, and how often.

    Torch's fall-back, plain products, shows by its softmax; so does the loss, once, as 'log_softmax'.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[str] = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = str(func).split('.')[1].strip('_')
            if 'backward' not in name and any(word in name for word in ('attention', 'attn', 'softmax')):
                found[name.removeprefix('scaled_dot_product_').removesuffix('_attention')] += 1
            return func(*args, **(kwargs or {}))

    with Watch():
        trainer.model.train_step([batch], trainer.optimizer)
    return dict(found)


def count_waits(trainer: Trainer, batch: dict[str, Tensor]) -> int | None:
    """How often the host waits for the GPU in a step, as far as torch notices."""
    import torch

    if trainer.device != 'cuda':
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            trainer.model.train_step([batch], trainer.optimizer)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing CUDA operation' in str(warning.message) for warning in caught)


def machine(device: str) -> str:
    """What the figures were measured on."""
    import torch

    if device == 'cuda':
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f'1 x {torch.cuda.get_device_name()} ({memory:.0f} GiB), bfloat16, torch {torch.__version__}'
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine())
    return f'{name}, {torch.get_num_threads()} threads, float32, torch {torch.__version__}'


def measure(args: argparse.Namespace, device: str) -> list[Row]:
    """Every model in turn, `--rounds` times."""
    import torch

    cuda = device == 'cuda'
    most = args.batch or (256 if cuda else 2)
    steps = args.steps or (2 if cuda else 1)
    sides = args.sides or SCALES[args.scale]['sides']
    logging.disable(logging.INFO)  # of the optimizer's groups
    try:
        kinds = [('ViLT', None), *(('METER', side) for side in sides)]
        trainers = [Trainer(kind, side, args.scale, device) for kind, side in kinds]
    finally:
        logging.disable(logging.NOTSET)
    runs: list[tuple[Row, Trainer]] = []
    for trainer in trainers:
        for questions in args.questions:
            row = Row(trainer.kind, trainer.pixels, questions)
            row.batch = fastest_batch(trainer, questions, most) if cuda else most
            row.parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
            batch = trainer.batch(row.batch, questions, random.Random(1))
            row.patches = batch['grids'].prod(1).float().mean().item()
            row.forward_gflop = trainer.forward_flop(batch) / row.batch / 1e9
            row.attention = attention_kernels(trainer, batch)
            row.waits = count_waits(trainer, batch)
            runs.append((row, trainer))
            print(f'{row.kind} {row.pixels}, {questions} an image: steps of {row.batch}', file=sys.stderr, flush=True)
    for number in range(args.rounds):
        for row, trainer in runs:
            chance = random.Random(number)  # the same questions for all
            batches = [trainer.batch(row.batch, row.questions, chance) for _ in range(steps + cuda)]
            if cuda:
                torch.cuda.empty_cache()  # another model's blocks do not suit; the first step finds new ones
                trainer.seconds(batches[:1])
            memory = PeakMemory(device)
            if number == 0:
                memory.start()
            row.rates.append(row.batch * steps / trainer.seconds(batches[-steps:]))
            if number == 0 and (above := memory.bytes()) is not None:
                row.peak_gb = (above + trainer.own_bytes()) / 1e9
    return [row for row, _ in runs]


def ratio(rows: list[Row], row: Row) -> float:
    """ViLT's rate over this row's on as many questions an image: the median of the rounds' ratios."""
    vilt = next(other for other in rows if other.kind == 'ViLT' and other.questions == row.questions)
    return statistics.median(a / b for a, b in zip(vilt.rates, row.rates, strict=True))


def table(rows: list[Row]) -> str:
    """All rows as a table in Markdown."""
    head = [
        'model',
        'images, pixels',
        'questions an image',
        'batch',
        'parameters, M',
        'GFLOP forward a sample',
        'samples/s (range)',
        'TFLOP/s',
        'peak memory, GB',
        f'epoch of {ROWS:,}, h',
        "the paper's, h",
        'ViLT is faster by',
    ]
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for row in rows:
        peak = '' if row.peak_gb is None else f'{row.peak_gb:.1f}'
        cells = [
            row.kind,
            row.pixels,
            row.questions,
            row.batch,
            f'{row.parameters / 1e6:.1f}',
            f'{row.forward_gflop:.4g}',
            f'{row.rate:,.4g} ({min(row.rates):,.4g} - {max(row.rates):,.4g})',
            f'{row.tflops:.3g}',
            peak,
            f'{ROWS / row.rate / 3600:,.3g}',
            f'{PAPER[row.kind]:g}',
            '' if row.kind == 'ViLT' else f'{ratio(rows, row):.2f}',
        ]
        lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines)


def main(args: argparse.Namespace) -> None:
    import torch

    numbers = {
        '--sides': args.sides,
        '--questions': args.questions,
        '--batch': [args.batch],
        '--steps': [args.steps],
        '--rounds': [args.rounds],
    }
    for name, values in numbers.items():
        if any(value is not None and value < 1 for value in values or []):
            raise KoviltError(f'{name} must be at least 1')
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        raise KoviltError('--device cuda: this torch sees no GPU; leave it out for the CPU')
    if args.out and not Path(args.out).parent.is_dir():
        raise KoviltError(f'--out {args.out}: there is no folder {Path(args.out).parent}')
    start = time.perf_counter()
    rows = measure(args, device)
    print(f'{machine(device)}; {args.scale} size, median of {args.rounds} rounds, data loading left out\n')
    print(table(rows))
    print(f"\nThe paper's METER took {PAPER['METER'] / PAPER['ViLT']:g} times as long as its ViLT.")
    for row in rows:
        kernels = ', '.join(f'{name} {count}' for name, count in sorted(row.attention.items()))
        waits = '' if row.waits is None else f'; the host waits {row.waits} times a step'
        print(f'{row.kind} {row.pixels}, {row.questions} an image: attention by {kernels}{waits}')
    print(f'{time.perf_counter() - start:.0f} s in all', file=sys.stderr)
    if args.out:
        figures = [
            {
                **asdict(row),
                'samples_per_second': row.rate,
                'tflops': row.tflops,
                'epoch_hours': ROWS / row.rate / 3600,
                'paper_epoch_hours': PAPER[row.kind],
                'ratio': ratio(rows, row),
            }
            for row in rows
        ]
        record = {'machine': machine(device), 'scale': args.scale, 'rows_of_an_epoch': ROWS, 'models': figures}
        Path(args.out).write_text(json.dumps(record, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""ViLT and METER as benchmarks/vilt_against_meter.py trains them: built from their configs, fed with random batches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import ROOT, grid_shares, make_batch, sample_grids, sample_lengths
from benchmarks.memory import peak_memory
from benchmarks.timing import is_cuda, wall_clock
from kovilt.errors import KoviltError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kovilt.batch import Batch

SIZES = {'vocab_size': 42_000, 'num_answers': 3_129}  # kykim/bert-kor-base; VQAv2
CONFIGS = {'ViLT': 'kovilt_vqa_aihub.py', 'METER': 'meter_vqa_aihub.py'}
SCALES: dict[str, dict[str, Any]] = {
    'base': {'sides': [288, 384, 576], 'ViLT': [], 'METER': []},
    'tiny': {  # to try the script
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
FULL_GPU = 0.9  # share of the GPU's memory above which a batch counts as too large


class Trainer:
    """A model with its optimizer, and batches for it.

    Args:
        model_name: 'ViLT' or 'METER'.
        side: of METER's square images, in pixels; None for ViLT.
        scale: a key of `SCALES`.
        device: 'cuda' or 'cpu'.
    """

    def __init__(self, model_name: str, side: int | None, scale: str, device: str) -> None:
        import torch

        from kovilt.datasets import ResizeViLT
        from kovilt.engine.config import load_config
        from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision
        from kovilt.models.sizes import build_model, complete_model_config

        options = list(SCALES[scale][model_name]) + ([f'model.encoder.image_size={side}'] if side else [])
        config = load_config(ROOT / 'configs' / CONFIGS[model_name], options)
        pipeline = config.train_dataloader.dataset.image_pipeline
        self.model_name, self.device, self.patch_size = model_name, device, pipeline[-1].patch_size
        if side:
            if side % self.patch_size:
                raise KoviltError(f'--sides {side}: not a multiple of the patch size {self.patch_size}')
            self.pixels = f'{side} x {side}'
            self.grid_shares: Mapping[tuple[int, int], int] = {(side // self.patch_size,) * 2: 100}
        else:
            self.pixels = f'{pipeline[1].short}, at most {pipeline[1].long}'
            resize = ResizeViLT(**{key: value for key, value in pipeline[1].items() if key != 'type'})
            self.grid_shares = grid_shares(resize, self.patch_size)
        torch.manual_seed(0)
        with torch.device(device):
            self.model = build_model(complete_model_config(config.model.to_dict(), data_sizes=SIZES))
        self.model.to(device).train()
        wrapper = config.optim_wrapper.to_dict()
        wrapper.pop('constructor')
        paramwise = wrapper.pop('paramwise_cfg')
        wrapper = mixed_precision(wrapper, 'bfloat16') if is_cuda(device) else wrapper
        logging.disable(logging.INFO)  # a line for every parameter group
        try:
            self.optim_wrapper = ViLTOptimWrapperConstructor(wrapper, paramwise)(self.model)
        finally:
            logging.disable(logging.NOTSET)

    def make_batch(self, texts: int, questions: int, rng: torch.Generator) -> Batch:
        """`texts` questions, as many about each image; in pinned memory for a GPU. The pixels are always the same."""
        grids = sample_grids(-(-texts // questions), rng, self.grid_shares)
        lengths = sample_lengths(texts, rng)
        count = sum(rows * columns for rows, columns in grids) * 3 * self.patch_size**2
        return make_batch(
            grids,
            lengths,
            rng,
            patch_size=self.patch_size,
            pixels=random_pixels(count, self.device),
            **SIZES,
        )

    def step(self, batch: Batch) -> None:
        """A training step."""
        self.model.train_step([batch], self.optim_wrapper)

    def own_bytes(self) -> int:
        """Memory of the weights, the buffers and the optimizer's state."""
        states = [value for state in self.optim_wrapper.optimizer.state.values() for value in state.values()]
        tensors = [*self.model.parameters(), *self.model.buffers(), *states]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if hasattr(tensor, 'numel'))


_PIXELS: dict[str, Tensor] = {}


def random_pixels(count: int, device: str) -> Tensor:
    """uint8 (count,), sampled once and shared by all batches, as sampling would take longer than a GPU's step."""
    import torch

    if device not in _PIXELS or len(_PIXELS[device]) < count:
        pixels = torch.randint(256, (count,), dtype=torch.uint8)
        _PIXELS[device] = pixels.pin_memory() if is_cuda(device) else pixels
    return _PIXELS[device][:count]


def find_fastest_batch(trainer: Trainer, questions: int, largest: int) -> int:
    """The batch size with the most samples a second on a GPU: a power of two from 8 to `largest`, of those that fit.

    A size fits when it takes less than FULL_GPU of the memory. Where the host sets the pace, several sizes take equally
    long, so the search ends only with a size that does not fit; each size counts by the faster of two steps.

    Raises:
        KoviltError: not even the smallest size fits.
    """
    import torch

    rng = torch.Generator().manual_seed(0)
    rates: dict[int, float] = {}
    size = min(8, largest)
    while size <= largest:
        try:
            seconds = time_steps(trainer, trainer.make_batch(size, questions, rng))
        except torch.cuda.OutOfMemoryError:
            break
        if rates and gpu_is_full():
            break
        rates[size] = size / seconds
        size *= 2
    trainer.optim_wrapper.zero_grad()  # gradients of a step that did not fit
    if is_cuda(trainer.device):
        torch.cuda.empty_cache()
    if not rates:
        smallest = min(8, largest)
        raise KoviltError(
            f'{trainer.model_name} at {trainer.pixels} pixels: not even {smallest} questions fit this GPU'
        )
    return max(rates, key=lambda size: rates[size])


def time_steps(trainer: Trainer, batch: Batch) -> float:
    """Wall seconds of the faster of two steps on a GPU, after one that reserves memory."""
    import torch

    peak_memory(lambda: trainer.step(batch), trainer.device)
    seconds = []
    for _ in range(2):
        start = wall_clock()
        trainer.step(batch)
        torch.cuda.synchronize()
        seconds.append(wall_clock() - start)
    return min(seconds)


def gpu_is_full() -> bool:
    """Whether the last step took more than FULL_GPU of the memory, the weights of the other models included."""
    import torch

    if not torch.cuda.is_available():
        return False
    return torch.cuda.max_memory_allocated() > FULL_GPU * torch.cuda.get_device_properties(0).total_memory


def count_attention_kernels(trainer: Trainer, batch: Batch) -> dict[str, int]:
    """Which of torch's attention kernels the forward pass of a step calls, and how often.

    Torch's fall-back, plain products, shows as a softmax; so does the loss, once, as 'log_softmax'.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[str] = Counter()

    class CountKernels(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func).split('.')[1].strip('_')
            if 'backward' not in name and any(word in name for word in ('attention', 'attn', 'softmax')):
                found[name.removeprefix('scaled_dot_product_').removesuffix('_attention')] += 1
            return func(*args, **(kwargs or {}))

    with CountKernels():
        trainer.step(batch)
    return dict(found)

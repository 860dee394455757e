"""kovilt's and transformers' ViLT with the same weights, their steps, and batches that both take."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fixtures import PATCH_SIZE, make_batch, sample_grids, sample_lengths, transformers_inputs
from benchmarks.flops import forward_flops
from benchmarks.timing import autocast, is_cuda

if TYPE_CHECKING:
    import torch
    from mmengine.optim import OptimWrapper
    from torch import Tensor

    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

HEAD_SIZE = 64  # width of an attention head
MAX_TEXT_LEN, IMAGE_SIZE = 40, 384  # of transformers' default configuration


@dataclass(frozen=True)
class ModelSize:
    """The size of both models; the defaults are ViLT's base size with the answers of VQAv2."""

    hidden_size: int = 768
    num_layers: int = 12
    vocab_size: int = 42_000
    num_answers: int = 3_129

    def encoder_config(self) -> dict[str, Any]:
        """The config of kovilt's encoder, without dropout."""
        return dict(
            type='ViLT',
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.hidden_size // HEAD_SIZE,
            vocab_size=self.vocab_size,
            max_text_len=MAX_TEXT_LEN,
            patch_size=PATCH_SIZE,
            image_size=IMAGE_SIZE,
            mlp_ratio=4.0,
            drop_rate=0.0,
            norm_eps=1e-12,  # transformers has one epsilon for all norms
        )


class BothBatches(NamedTuple):
    """The same pairs for both models, on the device."""

    kovilt: Batch  # patches and labels on the device, the layout on the host
    transformers: dict[str, Tensor]

    @property
    def num_pairs(self) -> int:
        return len(self.kovilt['input_ids'])

    @property
    def sequence_lengths(self) -> list[int]:
        """Tokens, image CLS and patches of each pair."""
        return (self.kovilt['text_mask'].sum(dim=1) + self.kovilt['grids'].prod(dim=1) + 1).tolist()


def make_both_batches(num_pairs: int, size: ModelSize, device: str, seed: int = 0) -> BothBatches:
    """Pairs of a question and an image of its own."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    grids, lengths = sample_grids(num_pairs, rng), sample_lengths(num_pairs, rng)
    batch = make_batch(grids, lengths, rng, vocab_size=size.vocab_size, num_answers=size.num_answers)
    inputs = transformers_inputs(batch)
    inputs['labels'] = torch.nn.functional.one_hot(batch['label'], size.num_answers).float()
    batch['patches'], batch['label'] = batch['patches'].to(device), batch['label'].to(device)
    return BothBatches(batch, {name: value.to(device) for name, value in inputs.items()})


class BothModels:
    """The two models with the same weights, and their training and evaluation steps.

    Attributes:
        transformers: a ViltForQuestionAnswering.
        kovilt: a ViLTForVQA with the same loss.
        optimizers: one for each kind of step, created at its first step.
    """

    def __init__(self, size: ModelSize, device: str) -> None:
        import torch
        import transformers

        from kovilt.formats.huggingface import from_huggingface
        from kovilt.models.sizes import build_model

        self.size, self.device = size, device
        self.optimizers: dict[str, Any] = {}
        transformers.logging.set_verbosity_error()
        torch.manual_seed(0)
        config = transformers.ViltConfig(  # type: ignore[call-arg]  # num_labels goes to the base class by **kwargs
            vocab_size=size.vocab_size,
            hidden_size=size.hidden_size,
            num_hidden_layers=size.num_layers,
            num_attention_heads=size.hidden_size // HEAD_SIZE,
            intermediate_size=4 * size.hidden_size,
            max_position_embeddings=MAX_TEXT_LEN,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            num_labels=size.num_answers,
        )
        theirs: Any = transformers.ViltForQuestionAnswering(config)
        with torch.no_grad():  # random also where the initial values are zeros and ones
            for parameter in theirs.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        model = build_model(
            dict(
                type='ViLTForVQA',
                encoder=size.encoder_config(),
                vqa_head=dict(type='VQAHead', num_answers=size.num_answers, loss='bce'),  # transformers' loss
            ),
            answers=[str(number) for number in range(size.num_answers)],
        )
        model.load_state_dict(from_huggingface(theirs.state_dict(), source='transformers'))
        self.transformers, self.kovilt = theirs.to(device), model.to(device)

    def train(self, mode: bool = True) -> None:
        """Put both models into training or evaluation mode."""
        self.transformers.train(mode)
        self.kovilt.train(mode)

    def transformers_scores(self, batch: BothBatches) -> Tensor:
        inputs = {name: value for name, value in batch.transformers.items() if name != 'labels'}
        return self.transformers(**inputs).logits

    def kovilt_scores(self, batch: BothBatches) -> Tensor:
        return self.kovilt.scores(self.kovilt.data_preprocessor(batch.kovilt))

    def transformers_step(self, batch: BothBatches, *, fused: bool, precision: str) -> None:
        """A training step as transformers' Trainer takes it, with torch's default AdamW or the fused one."""
        import torch

        name = f'transformers, {fused}'
        if name not in self.optimizers:
            self.optimizers[name] = torch.optim.AdamW(self.transformers.parameters(), lr=1e-5, fused=fused or None)
        self.optimizers[name].zero_grad()
        with autocast(self.device, precision):
            loss = self.transformers(**batch.transformers).loss
        loss.backward()
        self.optimizers[name].step()

    def kovilt_step(self, batch: BothBatches, *, precision: str) -> None:
        """A training step as KoviltRunner takes it."""
        if precision not in self.optimizers:
            self.optimizers[precision] = build_optim_wrapper(self.kovilt, precision)
        self.kovilt.train_step([batch.kovilt], self.optimizers[precision])

    def free(self) -> None:
        """Drop optimizers and gradients."""
        self.optimizers.clear()
        self.clear_gradients()
        empty_cache(self.device)

    def clear_gradients(self) -> None:
        for model in (self.transformers, self.kovilt):
            model.zero_grad(set_to_none=True)


def build_optim_wrapper(model: torch.nn.Module, precision: str) -> OptimWrapper:
    """kovilt's fused AdamW in a precision, with the wrapper that training uses."""
    from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision

    config = {'type': 'ViLTOptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-5, 'weight_decay': 0.01}}
    config = config if precision == 'float32' else mixed_precision(config, precision)
    return ViLTOptimWrapperConstructor(config)(model)


def batch_flops(models: BothModels, batch: BothBatches, *, training: bool, plain: bool = False) -> float:
    """FLOPs of the matrix products of a batch, forward or in a training step.

    `plain`: of an unpadded ViLT whose last block computes every state; otherwise of what kovilt computes, whose last
    block computes keys and values of all states and the rest for the text's [CLS] alone.
    """
    d: int = models.kovilt.encoder.hidden_size
    forward = forward_flops(models.kovilt, batch.kovilt)
    if plain:
        forward += sum(20 * (n - 1) * d**2 + 4 * (n - 1) * n * d for n in batch.sequence_lengths)
    pixels = 2 * batch.kovilt['patches'].numel() * d
    return 3 * forward - pixels if training else forward  # no gradient is computed for pixels


# Options of kovilt


@contextmanager
def kovilt_options(
    model: ViLTForVQA, *, compiled: bool = False, checkpointed: bool = False, grouped: bool = False
) -> Iterator[None]:
    """kovilt with compiled blocks, with gradient checkpointing, or with attention group by group on a GPU as well.

    Group by group: one call of scaled_dot_product_attention for all pairs of equal lengths, in place of the kernel for
    packed sequences.
    """
    from kovilt.modules import attention

    encoder, has_kernel = model.encoder, attention.HAS_VARLEN
    attention.HAS_VARLEN = has_kernel and not grouped
    encoder.compile_blocks({} if compiled else None)
    encoder.with_cp = checkpointed
    try:
        yield
    finally:
        attention.HAS_VARLEN = has_kernel
        encoder.compile_blocks(None)
        encoder.with_cp = False


def with_options(models: BothModels, run: Callable[[], object], **options: bool) -> Callable[[], None]:
    """`run` under `kovilt_options`."""

    def changed() -> None:
        with kovilt_options(models.kovilt, **options):
            run()

    return changed


def training_variants(models: BothModels, batch: BothBatches) -> dict[str, Callable[[], None]]:
    """Training steps of both models: in float32 on a CPU, in mixed precision on a GPU."""
    theirs, ours = partial(models.transformers_step, batch), partial(models.kovilt_step, batch)
    if not is_cuda(models.device):
        return {
            'transformers': partial(theirs, fused=False, precision='float32'),
            'transformers, fused AdamW': partial(theirs, fused=True, precision='float32'),
            'kovilt': partial(ours, precision='float32'),
        }
    plain = partial(ours, precision='bfloat16')
    variants: dict[str, Callable[[], None]] = {
        'transformers': partial(theirs, fused=False, precision='bfloat16'),
        'transformers, fused AdamW': partial(theirs, fused=True, precision='bfloat16'),
        'kovilt': plain,
        'kovilt, compiled': with_options(models, plain, compiled=True),
        'kovilt, compiled, checkpointed': with_options(models, plain, compiled=True, checkpointed=True),
        'kovilt, float16 with a scaler': partial(ours, precision='float16'),
    }
    if batch.num_pairs <= 64:
        variants['transformers, float32'] = partial(theirs, fused=False, precision='float32')
        variants['kovilt, attention group by group'] = with_options(models, plain, grouped=True)
    return variants


def empty_cache(device: str) -> None:
    """Return unused memory of the GPU, so that the next variant finds it."""
    import torch

    gc.collect()
    if is_cuda(device):
        torch.cuda.empty_cache()

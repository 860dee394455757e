"""ViLT: text tokens and patches through one transformer (Kim, Son and Kim, ICML 2021, arXiv 2102.03334)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kovilt.modules.embeddings import PatchEmbedder, TextEmbedder
from kovilt.modules.initialization import init_weights, sincos_positions
from kovilt.modules.packing import Output, Packing, needs_shape_buckets
from kovilt.modules.transformer import Activation, Block
from kovilt.ranges import Layers, MLPRatio, Positive, Rate, Size, VocabSize, check_arguments


@dataclass(frozen=True)
class ViLTStates:
    """The states of B pairs after the last block and the final norm, packed."""

    packed: Tensor  # (R, D): of the tokens that `output` names, in packed order; with shape buckets, padding at the end
    packing: Packing
    output: Output
    inner: Tensor | None = None  # (T, D): of all tokens after `inner_block`, under a layer norm without weights

    def cls(self) -> Tensor:
        """The state of each pair's text [CLS], (B, D)."""
        return self.packed.index_select(0, self.packing.cls_index(self.output))

    def pack_text(self, per_token: Tensor) -> Tensor:
        """Bring a padded host tensor (B, L), such as labels, into the order of output 'text': (W,), on the host."""
        return self.packing.pack_text(per_token)

    def text(self, max_text_len: int) -> Tensor:
        """The states of the text tokens of output 'all', padded to (B, max_text_len, D) with arbitrary states."""
        return _gather(self.packed, self.packing.text_index(max_text_len))

    def patches(self) -> tuple[Tensor, Tensor]:
        """The states of the patches of output 'all', without image CLS, padded to (B, P, D), and their mask (B, P)."""
        index, mask = self.packing.patch_index()
        return _gather(self.packed, index), mask


def _gather(packed: Tensor, index: Tensor) -> Tensor:
    # As packed[index], whose backward pass would first sort the index.
    return packed.index_select(0, index.flatten()).unflatten(0, index.shape)


class ViLT(nn.Module):
    """ViLT as published (section 3, eq. 1-5): text tokens and patches attend to each other in every block.

    h0 = [text ; image CLS ; patches] of each pair (eq. 3); the text [CLS] feeds the pooler. The base size of the paper
    is hidden_size 768, 12 layers, 12 heads, patch 32, images up to 384 x 608: 88,154,112 + 768 x vocab_size parameters.

    Shapes: B pairs, I images, L text length, P patches of an image, p patch size, W text tokens of all pairs together,
    T tokens of the packed sequence, D hidden size.

    Args:
        hidden_size, num_layers, num_heads: D, the number of blocks, and of attention heads, which divides D.
        vocab_size: number of WordPiece tokens.
        max_text_len: longest text in tokens, [CLS] and [SEP] included.
        patch_size: side of a patch in pixels.
        image_size: side in pixels of the square image whose grid the position table is made for.
        mlp_ratio: width of the MLP over hidden_size.
        drop_rate: dropout on embeddings, attention output and MLP; never on attention weights, as in ViLT.
        norm_eps: epsilon of the layer norms of the blocks and of the final one.
        activation: of the MLPs and of the MLM head, 'gelu' (ViLT) or 'relu'.
        init_std: standard deviation of the initial weights; 0.02 suits D = 768, narrower models need more.
        pos_init: initial position table of images: 'normal', or 'sincos' for training small models from scratch.
        with_cp: gradient checkpointing: keep the input of each block alone and compute the rest again in the backward
            pass; equal results with less memory and more time.
    """

    blocks: Sequence[Block]
    packs_by_image = False  # on a CPU

    @check_arguments
    def __init__(
        self,
        *,
        hidden_size: Size,
        num_layers: Layers,
        num_heads: Size,
        vocab_size: VocabSize,
        max_text_len: Size,
        patch_size: Size,
        image_size: Size,
        mlp_ratio: MLPRatio,
        drop_rate: Rate,
        norm_eps: Positive = 1e-6,
        activation: Activation = 'gelu',
        init_std: Positive = 0.02,
        pos_init: Literal['normal', 'sincos'] = 'normal',
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_size, self.pooled_size = hidden_size, hidden_size
        self.vocab_size, self.max_text_len = vocab_size, max_text_len
        self.patch_size, self.image_size = patch_size, image_size
        self.activation, self.init_std, self.with_cp = activation, init_std, with_cp
        self.text = TextEmbedder(
            hidden_size=hidden_size, vocab_size=vocab_size, max_text_len=max_text_len, drop_rate=drop_rate
        )
        self.image = PatchEmbedder(
            hidden_size=hidden_size, patch_size=patch_size, image_size=image_size, drop_rate=drop_rate
        )
        self.modality_embed = nn.Embedding(2, hidden_size)  # V_type: 0 = text, 1 = image
        self.blocks = nn.ModuleList(  # type: ignore[assignment]  # torch does not type the elements
            Block(
                hidden_size=hidden_size,
                num_heads=num_heads,
                mlp_size=int(mlp_ratio * hidden_size),
                drop_rate=drop_rate,
                norm_eps=norm_eps,
                activation=activation,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.pooler = nn.Linear(hidden_size, hidden_size)
        self.apply(lambda module: init_weights(module, init_std))
        nn.init.normal_(self.image.cls_token, std=init_std)
        nn.init.normal_(self.image.pos_embed, std=init_std)
        if pos_init == 'sincos':
            self.image.pos_embed.data[1:] = sincos_positions(self.image.grid_size, hidden_size)

    def embed_images(self, patches: Tensor, grids: Tensor) -> Any:
        """Compute what depends on the images alone, once for all texts and passes of a batch; `forward` takes it.

        patches float32 (sum of P, 3 * p * p) in [-1, 1], on the device; grids int64 (I, 2), on the host. Here Emb_img
        of the images one after another, (sum of (1 + P), D).
        """
        return self.image(patches, grids) + self.modality_embed.weight[1]

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        images: Any,
        grids: Tensor,
        image_index: Tensor,
        output: Output = 'all',
        inner_block: int | None = None,
    ) -> ViLTStates:
        """Encode B pairs of a text and an image.

        Args:
            input_ids, text_mask, grids, image_index: of the batch (kovilt/batch.py), on the host.
            images: what `embed_images` returned.
            output: which states of the last block to return: of 'all' tokens, of the 'text', or of the text [CLS],
                'cls'. The values are the same; what is not returned is not computed.
            inner_block: also return the states of all tokens after this block, 1 to num_layers - 1.

        Raises:
            ValueError: a text is longer than max_text_len.
        """
        packing = self.make_packing(text_mask, grids, image_index, self.norm.weight.device)
        text = self.embed_text(input_ids, packing)
        x, inner = self.run_blocks(text, images, packing, output, inner_block)
        return ViLTStates(self.norm(x), packing, output, inner)

    def run_blocks(
        self, text: Tensor, images: Any, packing: Packing, output: Output, inner_block: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """The states (R, D) after the last block and those (T, D) after `inner_block`, as in `ViLTStates`.

        text (W, D) from `embed_text`, images from `embed_images`.
        """
        x = torch.cat([text, images.to(text.dtype)]).index_select(0, packing.gather_index)  # (T, D)
        inner = None
        for number, block in enumerate(self.blocks[:-1], 1):
            x = self.maybe_checkpoint(block, x, packing)
            if number == inner_block:
                inner = F.layer_norm(x, x.shape[-1:])
        return self.maybe_checkpoint(self.blocks[-1], x, packing, output), inner

    def pool(self, states: ViLTStates) -> Tensor:
        """The pooled state of each pair, tanh(Linear(text [CLS])), (B, D)."""
        return torch.tanh(self.pooler(states.cls()))

    def image_features(self, images: Any, grids: Tensor) -> Tensor:
        """A vector for each image that no text decides: the mean of its patch states, encoded without a text, (I, D).

        images from `embed_images`; grids int64 (I, 2), on the host.
        """
        no_text, index = torch.zeros(len(grids), 0, dtype=torch.int64), torch.arange(len(grids))
        states = self(input_ids=no_text, text_mask=no_text.bool(), images=images, grids=grids, image_index=index)
        patches, mask = states.patches()
        return (patches * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)

    def compile_blocks(self, options: Mapping[str, Any] | None) -> None:
        """Run the blocks, all but their attention, through torch.compile; None = no longer.

        `options` are arguments of torch.compile. The first steps then take long; it pays on GPUs.
        """
        for block in self.blocks:
            block.compile_options = options

    def make_packing(self, text_mask: Tensor, grids: Tensor, image_index: Tensor, device: torch.device) -> Packing:
        """The packed layout of the pairs that `forward` is given; raises ValueError as `forward`."""
        text_lengths = text_mask.sum(dim=1)
        if (longest := int(text_lengths.max())) > self.max_text_len:
            raise ValueError(f'a text of {longest} tokens is longer than max_text_len {self.max_text_len}')
        by_image, use_buckets = self.packs_by_image and device.type == 'cpu', needs_shape_buckets(device)
        return Packing(text_lengths, grids.prod(dim=1), image_index, device, by_image=by_image, use_buckets=use_buckets)

    def embed_text(self, input_ids: Tensor, packing: Packing) -> Tensor:
        """Emb_text of padded host ids (B, L), in packed order, (W, D)."""
        ids, positions = packing.pack_text(input_ids), packing.token_position
        return self.text(packing.to_device(ids), packing.to_device(positions)) + self.modality_embed.weight[0]

    def maybe_checkpoint(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """function(*inputs), under gradient checkpointing if `with_cp`."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

"""ViLT: one stream of words and patches (Kim, Son and Kim, ICML 2021, arXiv 2102.03334)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kovilt.modules.embeddings import PatchEmbedder, TextEmbedder, sincos_positions
from kovilt.modules.packing import Output, Packing, needs_shape_buckets
from kovilt.modules.transformer import Activation, Block


@dataclass(frozen=True)
class ViLTStates:
    """What the encoder says of B pairs: the rows that were output, after the final norm, in packed order."""

    rows: Tensor  # (R, D); where rows are rounded, more, of no meaning, at the end
    packing: Packing
    output: Output
    inner: Tensor | None = None  # (T, D), what `inner_block` gave, normalised

    def first(self) -> Tensor:
        """The state of each pair's text [CLS], (B, D)."""
        return self.rows.index_select(0, self.packing.cls_rows(self.output))

    def words(self, max_words: int) -> Tensor:
        """The states of the words, padded to (B, max_words, D); what lies beyond a text's end means nothing."""
        return _rows_of(self.rows, self.packing.token_grid(max_words))

    def patches(self) -> tuple[Tensor, Tensor]:
        """The states of the patches without the image CLS, padded to (B, P, D), and their mask (B, P)."""
        index, mask = self.packing.patch_grid()
        return _rows_of(self.rows, index), mask


def _rows_of(rows: Tensor, index: Tensor) -> Tensor:
    """rows[index]; but with a backward pass that need not sort the index first."""
    return rows.index_select(0, index.flatten()).unflatten(0, index.shape)


class ViLT(nn.Module):
    """Words and patches through one transformer; the text [CLS] feeds the pooler (section 3, eq. 1-5).

    h0 = [text ; image CLS ; patches] of each pair (eq. 3). The base size of the paper is hidden_size 768, 12 layers,
    12 heads, patch 32, images up to 384 x 608: 88,154,112 + 768 x vocab_size parameters.

    Shapes: B pairs, I images, L text length, P patches of an image, T rows of all pairs together, D hidden size.

    Args:
        hidden_size: D.
        num_layers: number of blocks.
        num_heads: attention heads; divides hidden_size.
        vocab_size: number of WordPiece tokens.
        max_text_len: longest text in tokens, [CLS] and [SEP] included.
        patch_size: side of a patch in pixels.
        image_size: side in pixels of the square image whose grid the position table is made for.
        mlp_ratio: width of the MLP over hidden_size.
        drop_rate: dropout on embeddings, attention output and MLP (never on attention weights, as in ViLT).
        norm_eps: epsilon of the blocks' norms and the final norm.
        activation: of the MLPs and the masked-word head, 'gelu' (ViLT) or 'relu'.
        init_std: standard deviation of the weights' normal start; 0.02 suits width 768, narrower models want more.
        pos_init: start of the image's position table: 'normal', or 'sincos' for training small models from nothing.
        with_cp: gradient checkpointing: keep what enters each block alone and compute the rest again in the backward
            pass; the same result in less memory and more time.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        vocab_size: int,
        max_text_len: int,
        patch_size: int,
        image_size: int,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.1,
        norm_eps: float = 1e-6,
        activation: Activation = 'gelu',
        init_std: float = 0.02,
        pos_init: Literal['normal', 'sincos'] = 'normal',
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.hidden_size, self.pooled_size = hidden_size, hidden_size
        self.vocab_size, self.max_text_len = vocab_size, max_text_len
        self.patch_size, self.image_size = patch_size, image_size
        self.activation, self.init_std = activation, init_std
        self.text = TextEmbedder(
            hidden_size=hidden_size, vocab_size=vocab_size, max_text_len=max_text_len, drop_rate=drop_rate
        )
        self.image = PatchEmbedder(
            hidden_size=hidden_size, patch_size=patch_size, image_size=image_size, drop_rate=drop_rate
        )
        self.modality_embed = nn.Embedding(2, hidden_size)
        self.blocks = nn.ModuleList(
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
        self.with_cp = with_cp
        self.apply(lambda module: init_weights(module, init_std))
        nn.init.normal_(self.image.cls_token, std=init_std)
        nn.init.normal_(self.image.pos_embed, std=init_std)
        if pos_init == 'sincos':
            self.image.pos_embed.data[1:] = sincos_positions(self.image.grid_size, hidden_size)

    def compile_rows(self, options: Mapping[str, Any] | None) -> None:
        """Let torch.compile fuse what the blocks do to each row by itself, all but attention; None = no longer.

        `options` are arguments of torch.compile. The first steps take long; worth it on GPUs.
        """
        for block in self.blocks:
            block.compiling = options

    def embed_images(self, patches: Tensor, grids: Tensor) -> Tensor:
        """Embed each image of the batch once, for all texts and passes that speak of it.

        patches (sum P, 3*p*p) in [-1, 1], grids int64 (I, 2) on the host; returns (sum (1 + P), D).
        """
        return self.image(patches, grids) + self.modality_embed.weight[1]

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        images: Tensor,
        grids: Tensor,
        image_index: Tensor,
        output: Output = 'all',
        inner_block: int | None = None,
    ) -> ViLTStates:
        """Encode B pairs of a text and an image.

        Args:
            input_ids: int64 (B, L), on the host, padded on the right.
            text_mask: bool (B, L), on the host, True = a token of the text.
            images: (sum (1 + P), D) from `embed_images`, on the device.
            grids: int64 (I, 2), on the host.
            image_index: int64 (B,), on the host.
            output: which states the caller wants of the last block: 'all', the 'text', or the 'cls' [CLS] alone. The
                values are the same; what nobody reads is not computed.
            inner_block: also keep all states after this block, 1 to num_layers - 1, under a layer norm without weights.

        Raises:
            ValueError: a text is longer than max_text_len.
        """
        packing = self.lay_out(text_mask, grids, image_index, images.device)
        words = self.embed_text(input_ids, packing)
        x = torch.cat([words, images.to(words.dtype)]).index_select(0, packing.source)  # (T, D)
        inner = None
        for number, block in enumerate(self.blocks[:-1], 1):
            x = self.maybe_checkpoint(block, x, packing)
            if number == inner_block:
                inner = F.layer_norm(x, x.shape[-1:])
        return ViLTStates(self.norm(self.maybe_checkpoint(self.blocks[-1], x, packing, output)), packing, output, inner)

    def maybe_checkpoint(self, part: Callable, *inputs: Any) -> Any:
        """part(*inputs), of which only the inputs are kept for the backward pass where `with_cp` says so."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def lay_out(self, text_mask: Tensor, grids: Tensor, image_index: Tensor, device: torch.device) -> Packing:
        """The packed layout of the pairs that `forward` is given; ValueError as there."""
        text_lengths = text_mask.sum(dim=1)
        if (longest := int(text_lengths.max())) > self.max_text_len:
            raise ValueError(f'a text of {longest} tokens is longer than max_text_len {self.max_text_len}')
        return Packing(text_lengths, grids.prod(dim=1), image_index, device, bucket_rows=needs_shape_buckets(device))

    def embed_text(self, input_ids: Tensor, packing: Packing) -> Tensor:
        """The embedded words of padded host ids (B, L), in packed order, (W, D)."""
        words = self.text(packing.move(packing.take_tokens(input_ids)), packing.move(packing.word_position))
        return words + self.modality_embed.weight[0]

    def pool(self, states: ViLTStates) -> Tensor:
        """tanh(Linear(text [CLS])), (B, D)."""
        return torch.tanh(self.pooler(states.first()))


def init_weights(module: nn.Module, std: float) -> None:
    """BERT's start, which ViLT keeps for what it does not load: weights N(0, std), biases 0, norms (1, 0)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)

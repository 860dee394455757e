"""METER's fusion of two encoders by co-attention (Dou et al., CVPR 2022, arXiv 2111.02387, section 3.2).

Shapes: B pairs, I images, L text length, N tokens of x or states of an image, M of the context, D hidden size, h heads.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.initialization import init_weights
from kovilt.modules.packing import Output
from kovilt.modules.transformer import MLP
from kovilt.ranges import Layers, MLPRatio, Positive, Rate, Size, check_arguments

_NORM_EPS = 1e-12  # BERT's


class PostNormAttention(nn.Module):
    """BERT's attention sublayer, LayerNorm(x + MHA(x, context)); `context` is x itself or the other modality."""

    def __init__(self, *, hidden_size: int, num_heads: int, drop_rate: float) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f'hidden_size {hidden_size} is not a multiple of num_heads {num_heads}')
        self.num_heads, self.drop_rate = num_heads, drop_rate
        self.q = nn.Linear(hidden_size, hidden_size)
        self.kv = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=_NORM_EPS)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None) -> Tensor:
        """x (B, N, D), context (B, M, D), context_mask bool (B, M) or None = all True; returns (B, N, D)."""
        q = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, h, N, D/h)
        kv = self.kv(context).unflatten(-1, (2, self.num_heads, -1))  # (B, M, 2, h, D/h)
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, h, M, D/h)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.drop_rate if self.training else 0.0)
        return self.norm(x + self.dropout(self.proj(y.transpose(1, 2).flatten(2))))


class CoAttentionBlock(nn.Module):
    """A layer of one modality: self-attention, cross-attention to the other modality, MLP, each with BERT's post-norm.

    We depart from METER in the MLP, which is that of `ViLT` and in training also drops out after its activation.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, mlp_size: int, drop_rate: float) -> None:
        super().__init__()
        self.attn = PostNormAttention(hidden_size=hidden_size, num_heads=num_heads, drop_rate=drop_rate)
        self.cross = PostNormAttention(hidden_size=hidden_size, num_heads=num_heads, drop_rate=drop_rate)
        self.mlp = MLP(hidden_size=hidden_size, mlp_size=mlp_size, drop_rate=drop_rate, activation='gelu')
        self.norm = nn.LayerNorm(hidden_size, eps=_NORM_EPS)

    def forward(
        self, x: Tensor, other: Tensor, mask: Tensor | None, other_mask: Tensor | None, *, first_only: bool = False
    ) -> Tensor:
        """x (B, N, D) and the other modality (B, M, D) with their masks, bool or None = all True; returns (B, N, D).

        first_only: return the first state of each pair alone, (B, 1, D); its value is the same.
        """
        x = self.attn(x[:, :1] if first_only else x, x, mask)
        x = self.cross(x, other, other_mask)
        return self.norm(x + self.mlp(x))


class CrossModal(nn.Module):
    """Fuse the states of a text encoder and an image encoder: projections, type embeddings, co-attention, poolers.

    In every layer each modality attends to the states of the other after the layer before. METER trains the type
    embeddings at the learning rate of the encoders; here they are new weights like the other parameters.

    Args:
        text_dim, image_dim: widths of the text encoder and the image encoder.
        num_layers: co-attention layers of each modality.
        drop_rate: dropout on attention weights, attention output and MLP.
        image_pooling: what feeds the image pooler, the 'first' state (CLS of a ViT) or the 'mean' (Swin has no CLS).
        hidden_size (D), num_heads, mlp_ratio, init_std: as of `ViLT`.
    """

    @check_arguments
    def __init__(
        self,
        *,
        text_dim: Size,
        image_dim: Size,
        hidden_size: Size,
        num_layers: Layers,
        num_heads: Size,
        mlp_ratio: MLPRatio,
        drop_rate: Rate,
        image_pooling: Literal['first', 'mean'],
        init_std: Positive,
    ) -> None:
        super().__init__()
        self.image_pooling = image_pooling
        mlp_size = int(mlp_ratio * hidden_size)
        block = partial(
            CoAttentionBlock, hidden_size=hidden_size, num_heads=num_heads, mlp_size=mlp_size, drop_rate=drop_rate
        )
        self.text_proj, self.image_proj = nn.Linear(text_dim, hidden_size), nn.Linear(image_dim, hidden_size)
        self.modality_embed = nn.Embedding(2, hidden_size)
        self.text_blocks = nn.ModuleList(block() for _ in range(num_layers))
        self.image_blocks = nn.ModuleList(block() for _ in range(num_layers))
        self.text_pooler, self.image_pooler = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.apply(lambda module: init_weights(module, init_std))

    def embed_images(self, states: Tensor) -> Tensor:
        """The states of the image encoder (I, N, image_dim) as input of the first layer, (I, N, D)."""
        return self.image_proj(states) + self.modality_embed.weight[1]

    def forward(
        self, text: Tensor, text_mask: Tensor, images: Tensor, *, output: Output = 'all'
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse text (B, L, text_dim), text_mask bool (B, L), with the image of each text, (B, N, D) of `embed_images`.

        Returns the states of the text (B, L, D), arbitrary where the mask is False, and of the images (B, N, D). With
        output 'text' the images are None; with 'cls' only what `pool` needs is returned: the first text state (B, 1, D)
        and, with image_pooling 'first', the first image state. The values are the same.
        """
        x = self.text_proj(text) + self.modality_embed.weight[0]
        layers = list(zip(self.text_blocks, self.image_blocks, strict=True))
        for text_block, image_block in layers[:-1]:
            x, images = text_block(x, images, text_mask, None), image_block(images, x, None, text_mask)
        text_block, image_block = layers[-1]
        last_text = text_block(x, images, text_mask, None, first_only=output == 'cls')
        if output == 'text':
            return last_text, None
        first_only = output == 'cls' and self.image_pooling == 'first'
        return last_text, image_block(images, x, None, text_mask, first_only=first_only)

    def pool(self, text: Tensor, images: Tensor) -> Tensor:
        """tanh(Linear(.)) of the text's [CLS] and of the image, concatenated, (B, 2 D)."""
        image = images[:, 0] if self.image_pooling == 'first' else images.mean(dim=1)
        return torch.cat([self.text_pooler(text[:, 0]), self.image_pooler(image)], dim=1).tanh()

"""METER's fusion: two encoders that look at each other (Dou et al., CVPR 2022, arXiv 2111.02387, "co-attention")."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.packing import Output
from kovilt.modules.transformer import MLP
from kovilt.modules.vilt import init_weights

_NORM_EPS = 1e-12  # BERT's


class PostNormAttention(nn.Module):
    """BERT's attention sublayer, LayerNorm(x + MHA(x, context)); `context` is x itself or the other modality.

    Shapes: B pairs, N rows that ask, M rows that answer, D hidden size, h heads.
    """

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
        """x (B, N, D), context (B, M, D), context_mask bool (B, M) or None for all of it; returns (B, N, D)."""
        q = self.q(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, h, N, D/h)
        kv = self.kv(context).unflatten(-1, (2, self.num_heads, -1))  # (B, M, 2, h, D/h)
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, h, M, D/h)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.drop_rate if self.training else 0.0)
        return self.norm(x + self.dropout(self.proj(y.transpose(1, 2).flatten(2))))


class CoAttentionBlock(nn.Module):
    """One layer of one encoder: self-attention, attention to the other encoder, MLP, each with BERT's post-norm.

    A departure: the MLP is kovilt's, which in training also drops after its activation.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, mlp_size: int, drop_rate: float) -> None:
        super().__init__()
        sizes = dict(hidden_size=hidden_size, drop_rate=drop_rate)
        self.attn = PostNormAttention(num_heads=num_heads, **sizes)
        self.cross = PostNormAttention(num_heads=num_heads, **sizes)
        self.mlp = MLP(mlp_size=mlp_size, activation='gelu', **sizes)
        self.norm = nn.LayerNorm(hidden_size, eps=_NORM_EPS)

    def forward(
        self, x: Tensor, other: Tensor, mask: Tensor | None, other_mask: Tensor | None, *, first: bool = False
    ) -> Tensor:
        """x (B, N, D) and the other encoder's `other` (B, M, D) with their masks, bool or None; returns (B, N, D).

        `first`: the first state of each row alone, (B, 1, D), of the same value.
        """
        x = self.attn(x[:, :1] if first else x, x, mask)
        x = self.cross(x, other, other_mask)
        return self.norm(x + self.mlp(x))


class CrossModal(nn.Module):
    """From what the two encoders say to one state for each pair: projections, types, co-attention, poolers.

    In every layer each encoder attends to the other's states of the layer before. METER trains type embeddings at the
    encoder's rate; here they are new weights like all others of this part.

    Shapes: B pairs, I images, L text length, N states of an image, D hidden size.

    Args:
        text_dim: width of the text encoder.
        image_dim: width of the image encoder.
        hidden_size: D.
        num_layers: co-attention layers of each encoder.
        num_heads: attention heads; divides hidden_size.
        mlp_ratio: width of the MLPs over hidden_size.
        drop_rate: dropout on attention weights, attention output and MLP.
        image_pooling: what the image's pooler reads, the 'first' state (a ViT's CLS) or the 'mean' (Swin has no CLS).
        init_std: standard deviation of the weights' start.
    """

    def __init__(
        self,
        *,
        text_dim: int,
        image_dim: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_ratio: float,
        drop_rate: float,
        image_pooling: Literal['first', 'mean'],
        init_std: float,
    ) -> None:
        super().__init__()
        if image_pooling not in ('first', 'mean'):
            raise ValueError(f"image_pooling {image_pooling!r} is neither 'first' nor 'mean'")
        self.image_pooling = image_pooling

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                CoAttentionBlock(
                    hidden_size=hidden_size,
                    num_heads=num_heads,
                    mlp_size=int(mlp_ratio * hidden_size),
                    drop_rate=drop_rate,
                )
                for _ in range(num_layers)
            )

        self.text_proj, self.image_proj = nn.Linear(text_dim, hidden_size), nn.Linear(image_dim, hidden_size)
        self.modality_embed = nn.Embedding(2, hidden_size)
        self.text_blocks, self.image_blocks = blocks(), blocks()
        self.text_pooler, self.image_pooler = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.apply(lambda module: init_weights(module, init_std))

    def embed_images(self, states: Tensor) -> Tensor:
        """The image encoder's states (I, N, image_dim) as they enter the first layer, (I, N, D)."""
        return self.image_proj(states) + self.modality_embed.weight[1]

    def forward(
        self, text: Tensor, text_mask: Tensor, images: Tensor, *, output: Output = 'all'
    ) -> tuple[Tensor, Tensor | None]:
        """text (B, L, text_dim), text_mask bool (B, L), images (B, N, D) of `embed_images`, one for each text.

        Returns the states of the words (B, L, D), of no meaning where the mask is False, and of the images (B, N, D).
        `output` says which the caller wants of the last layer: 'all', the 'text' (the images are None then), or what
        `pool` reads, 'cls' (the first of each where it reads that). The values are the same; what nobody reads is
        not computed.
        """
        words = self.text_proj(text) + self.modality_embed.weight[0]
        layers = list(zip(self.text_blocks, self.image_blocks, strict=True))
        for text_block, image_block in layers[:-1]:
            words, images = (
                text_block(words, images, text_mask, None),
                image_block(images, words, None, text_mask),
            )
        text_block, image_block = layers[-1]
        last_words = text_block(words, images, text_mask, None, first=output == 'cls')
        if output == 'text':
            return last_words, None
        first = output == 'cls' and self.image_pooling == 'first'
        return last_words, image_block(images, words, None, text_mask, first=first)

    def pool(self, words: Tensor, images: Tensor) -> Tensor:
        """tanh(Linear(.)) of the text's [CLS] and of the image, side by side, (B, 2 D)."""
        image = images[:, 0] if self.image_pooling == 'first' else images.mean(dim=1)
        return torch.cat([self.text_pooler(words[:, 0]), self.image_pooler(image)], dim=1).tanh()

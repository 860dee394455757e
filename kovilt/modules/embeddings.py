"""Words and patches become states (eq. 1 and 2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules.packing import bucket_size, needs_shape_buckets, segment_ids_and_offsets, segment_starts, to_device


class TextEmbedder(nn.Module):
    """Words as states: Emb_text = WordEmbedding(WordPiece ids) + V_pos + V_type, then LayerNorm and dropout (eq. 2).

    ViLT keeps BERT's segment table (two rows, of which row 0 is used) beside its own modality table; so do we, so that
    every public ViLT loads.
    """

    def __init__(self, *, hidden_size: int, vocab_size: int, max_text_len: int, drop_rate: float) -> None:
        super().__init__()
        self.word_embed = nn.Embedding(vocab_size, hidden_size)
        self.pos_embed = nn.Embedding(max_text_len, hidden_size)
        self.segment_embed = nn.Embedding(2, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """input_ids and positions int64 (W,), of all words of a batch in a row; returns (W, D)."""
        x = self.word_embed(input_ids) + self.pos_embed(positions) + self.segment_embed.weight[0]
        return self.dropout(self.norm(x))


class PatchEmbedder(nn.Module):
    """Images as states: Emb_img = Linear(patch) + V_pos, with an image CLS before each image (eq. 1).

    One linear layer looks at the pixels; there is no convolutional backbone. The position table is made for a square
    grid of `image_size / patch_size` patches a side and is interpolated (bilinear, corners aligned, as ViLT does) once
    for each distinct grid of a batch.
    """

    def __init__(self, *, hidden_size: int, patch_size: int, image_size: int, drop_rate: float) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f'image_size {image_size} is not a multiple of patch_size {patch_size}')
        self.grid_size = image_size // patch_size
        self.proj = nn.Linear(3 * patch_size**2, hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1 + self.grid_size**2, hidden_size))
        self.dropout = nn.Dropout(drop_rate)
        self._weights: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, patches: Tensor, grids: Tensor) -> Tensor:
        """patches (sum P, 3*p*p) scaled to [-1, 1], grids int64 (I, 2) on the host; returns (sum (1 + P), D).

        Each image is its CLS, then its patches; one with grid (0, 0) has its CLS alone.
        """
        patches = patches.reshape(-1, self.proj.in_features)  # (0, 0) where nobody has an image
        count = len(patches)
        if needs_shape_buckets(patches.device):
            patches = F.pad(patches, (0, 0, 0, bucket_size(count) - count))
        x = self.proj(patches)[:count]
        x = x + self._positions_of(grids)
        image, place = segment_ids_and_offsets(grids.prod(dim=1) + 1)
        source = torch.where(place == 0, 0, torch.arange(len(image)) - image)  # row 0 of [cls ; x] is the CLS
        x = torch.cat([self.cls_token + self.pos_embed[:1], x])
        return self.dropout(x.index_select(0, to_device(source, x.device)))

    def _positions_of(self, grids: Tensor) -> Tensor:
        """V_pos of each patch, float32 (sum P, D): tables of the distinct grids in one product, then one look-up."""
        shapes, of_image = torch.unique(grids, dim=0, return_inverse=True)
        counts = shapes.prod(dim=1)
        image, place = segment_ids_and_offsets(grids.prod(dim=1))
        row = segment_starts(counts)[of_image][image] + place
        weights = [self._interpolation(*shape) for shape in shapes.tolist()]
        tables = self._interpolated(torch.cat(weights) if weights else self.pos_embed.new_zeros(0, self.grid_size**2))
        return tables.index_select(0, to_device(row, tables.device))

    def positions(self, rows: int, columns: int) -> Tensor:
        """V_pos for a grid of rows x columns patches; returns (rows * columns, D)."""
        return self._interpolated(self._interpolation(rows, columns))

    def _interpolated(self, weights: Tensor) -> Tensor:
        with torch.autocast('cpu' if weights.is_meta else weights.device.type, enabled=False):
            return weights @ self.pos_embed[1:].float()

    def _interpolation(self, rows: int, columns: int) -> Tensor:
        """What each patch takes of the square table, (rows * columns, grid_size^2): bilinear, with aligned corners.

        Made once for each grid and device.
        """
        key = (rows, columns, self.pos_embed.device)
        if key not in self._weights:
            with torch.inference_mode(False):  # a tensor born in inference mode could not be trained with later
                of_row, of_column = (self._along_axis(size) for size in (rows, columns))
                both = of_row[:, None, :, None] * of_column[None, :, None, :]  # (rows, columns, g, g)
                self._weights[key] = both.flatten(2).flatten(0, 1).to(self.pos_embed.device)
        return self._weights[key]

    def _along_axis(self, size: int) -> Tensor:
        """Weights (size, grid_size)."""
        place = torch.linspace(0, self.grid_size - 1, size) if size > 1 else torch.zeros(size)
        return (1 - (place[:, None] - torch.arange(self.grid_size)).abs()).clamp(min=0)


def sincos_positions(grid_size: int, hidden_size: int) -> Tensor:
    """Fixed sine and cosine codes of a square grid (MoCo v3, arXiv 2104.02057, section 4.1); returns (grid_size^2, D).

    Used as a starting value that is learned on: small models learn from scratch sooner when neighbours look alike.

    Raises:
        ValueError: hidden_size is not a multiple of 4 (sine and cosine of two axes).
    """
    if hidden_size % 4:
        raise ValueError(f'hidden_size {hidden_size} is not a multiple of 4')
    axis = torch.arange(grid_size, dtype=torch.float32)
    rates = torch.exp(-math.log(100.0) * torch.arange(hidden_size // 4) / (hidden_size // 4))
    angles = axis[:, None] * rates  # (g, D/4)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)  # (g, D/2)
    return torch.cat([code.repeat_interleave(grid_size, 0), code.repeat(grid_size, 1)], dim=1)

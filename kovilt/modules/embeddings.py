"""Token ids and patches become embeddings (eq. 1 and 2).

Shapes: W text tokens of all pairs, I images, P patches of an image (differs from image to image), p patch size,
D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kovilt.modules.packing import (
    needs_shape_buckets,
    pad_to_bucket,
    segment_ids_and_offsets,
    segment_starts,
    to_device,
)


class TextEmbedder(nn.Module):
    """Embed text tokens: Emb_text = WordEmbedding(WordPiece ids) + V_pos, then LayerNorm and dropout (eq. 2).

    V_type is added by the encoder. As ViLT does, we keep BERT's segment table, of whose two rows row 0 is used, beside
    the modality table of V_type, so that every public ViLT loads.
    """

    def __init__(self, *, hidden_size: int, vocab_size: int, max_text_len: int, drop_rate: float) -> None:
        super().__init__()
        self.word_embed = nn.Embedding(vocab_size, hidden_size)
        self.pos_embed = nn.Embedding(max_text_len, hidden_size)
        self.segment_embed = nn.Embedding(2, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """input_ids int64 (W,) and the position of each token in its text, int64 (W,); returns (W, D)."""
        x = self.word_embed(input_ids) + self.pos_embed(positions) + self.segment_embed.weight[0]
        return self.dropout(self.norm(x))


class PatchEmbedder(nn.Module):
    """Embed images: Emb_img = Linear(patch) + V_pos, with an image CLS before the patches of each image (eq. 1).

    The patch embedding is one linear layer; there is no convolutional backbone. V_type is added by the encoder. The
    position table is that of a square grid of g = `image_size / patch_size` patches a side; it is interpolated to the
    grid of each image (bilinear, corners aligned, as in ViLT), once for each distinct grid of a batch.
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
        self._interpolations: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, patches: Tensor, grids: Tensor) -> Tensor:
        """patches (sum of P, 3 * p * p) in [-1, 1], grids int64 (I, 2) on the host; returns (sum of (1 + P), D).

        Each image is its CLS, then its patches; an image with grid (0, 0) is its CLS alone.
        """
        patches = patches.reshape(-1, self.proj.in_features)  # also the (0, 0) of a batch without any patch
        count = len(patches)
        x = self.proj(pad_to_bucket(patches) if needs_shape_buckets(patches.device) else patches)[:count]
        x = x + self._patch_positions(grids)
        image, offset = segment_ids_and_offsets(grids.prod(dim=1) + 1)
        index = torch.where(offset == 0, 0, torch.arange(len(image)) - image)  # row 0 of [CLS ; x] is the CLS
        x = torch.cat([self.cls_token + self.pos_embed[:1], x])
        return self.dropout(x.index_select(0, to_device(index, x.device)))

    def positions(self, rows: int, columns: int) -> Tensor:
        """V_pos of a grid of `rows` x `columns` patches: (rows * columns, D)."""
        return self._interpolate(self._interpolation(rows, columns))

    def _patch_positions(self, grids: Tensor) -> Tensor:
        """V_pos of each patch, float32 (sum of P, D): one product for all distinct grids, then one look-up."""
        shapes, shape_of_image = torch.unique(grids, dim=0, return_inverse=True)
        image, offset = segment_ids_and_offsets(grids.prod(dim=1))
        row = segment_starts(shapes.prod(dim=1))[shape_of_image][image] + offset
        weights = [self._interpolation(*shape) for shape in shapes.tolist()]
        tables = self._interpolate(torch.cat(weights) if weights else self.pos_embed.new_zeros(0, self.grid_size**2))
        return tables.index_select(0, to_device(row, tables.device))

    def _interpolate(self, weights: Tensor) -> Tensor:
        """weights (N, g*g) times the position table, in float32 whatever the autocast: (N, D)."""
        with torch.autocast('cpu' if weights.is_meta else weights.device.type, enabled=False):
            return weights @ self.pos_embed[1:].float()

    def _interpolation(self, rows: int, columns: int) -> Tensor:
        """Weights of bilinear interpolation with aligned corners, (rows * columns, g*g), cached by grid and device."""
        key = (rows, columns, self.pos_embed.device)
        if key not in self._interpolations:
            with torch.inference_mode(False):  # a tensor created in inference mode cannot take part in training later
                by_row, by_column = (self._interpolation_along_axis(size) for size in (rows, columns))
                weights = by_row[:, None, :, None] * by_column[None, :, None, :]  # (rows, columns, g, g)
                self._interpolations[key] = weights.flatten(2).flatten(0, 1).to(self.pos_embed.device)
        return self._interpolations[key]

    def _interpolation_along_axis(self, size: int) -> Tensor:
        """Weights of linear interpolation from g places to `size` places, (size, g)."""
        place = torch.linspace(0, self.grid_size - 1, size) if size > 1 else torch.zeros(size)
        return (1 - (place[:, None] - torch.arange(self.grid_size)).abs()).clamp(min=0)

"""Attention of texts to an image that they share: to its keys and values where they lie, without a copy for each text.

Shapes: W text tokens of all pairs together, S tokens (CLS and patches) of all images together, h heads, D hidden size;
a chunk has w text tokens, its image n tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules import attention
from kovilt.modules.packing import Output, Packing, segment_ids_and_offsets, segment_starts

# Texts of one image attend together, hidden from each other by a mask. The products that the mask discards take less
# time than a copy of the image for each text, as long as the texts together are not much longer than an image.
MAX_CHUNK = 128  # text tokens


@dataclass
class Chunk:
    """Texts about one image, neighbours in packed order, that attend in one call."""

    image: int
    lengths: list[int] = field(default_factory=list)  # tokens of each text


class TextAttention:
    """How the texts of a batch attend to themselves and to their images.

    Args:
        packing: of the pairs; on a CPU by image.
        patch_counts: int64 (I,): patches of each image.

    Attributes:
        chunks: the texts that attend in one call on a CPU in float32, where a copy of their image's keys and values is
            made for each chunk.
    """

    def __init__(self, packing: Packing, patch_counts: Tensor) -> None:
        self._packing = packing
        self._image_lengths: list[int] = (patch_counts + 1).tolist()
        self.chunks: list[Chunk] = []
        self._biases: dict[Output, list[Tensor]] = {}
        images, lengths = packing.image_index[packing.order].tolist(), packing.text_lengths[packing.order].tolist()
        for image, length in zip(images, lengths, strict=True):
            last = self.chunks[-1] if self.chunks else None
            if last is None or last.image != image or sum(last.lengths) + length > MAX_CHUNK:
                self.chunks.append(last := Chunk(image))
            last.lengths.append(length)

    def __call__(self, q: Tensor, kv_text: Tensor, kv_images: Tensor, output: Output) -> Tensor:
        """The values that the text tokens named by `output`, 'text' or 'cls', attend to.

        q (R, h, D/h) of the W text tokens, or of the text [CLS] of each pair; kv_text (W, 2, h, D/h) and kv_images
        (S, 2, h, D/h), the images in their order. Returns (R, h, D/h).
        """
        if q.device.type == 'cpu' and not attention.is_cpu_bfloat16(q):
            return self._attend_chunks(q, kv_text, kv_images.to(kv_text.dtype), output)
        return attention.attend_segments(q, self.pack(kv_text, kv_images), self._packing, output)

    def pack(self, of_text: Tensor, of_images: Tensor) -> Tensor:
        """The packed sequence of the pairs (T, ...) from values of text tokens (W, ...) and of images (S, ...)."""
        of_text = of_text[: len(self._packing.token_pair)]  # with shape buckets, padding may end it
        return torch.cat([of_text, of_images.to(of_text.dtype)]).index_select(0, self._packing.gather_index)

    def _attend_chunks(self, q: Tensor, kv_text: Tensor, kv_images: Tensor, output: Output) -> Tensor:
        tokens = [sum(chunk.lengths) for chunk in self.chunks]
        queries = tokens if output == 'text' else [len(chunk.lengths) for chunk in self.chunks]
        images = kv_images.split(self._image_lengths)
        parts = zip(self.chunks, q.split(queries), kv_text.split(tokens), self._chunk_biases(output), strict=True)
        out = []
        for chunk, q_, of_text, bias in parts:
            k, v = torch.cat([images[chunk.image], of_text]).transpose(0, 2).unbind(1)  # each (h, n + w, D/h)
            y = F.scaled_dot_product_attention(q_.transpose(0, 1)[None], k[None], v[None], attn_mask=bias.to(q.dtype))
            out.append(y[0].transpose(0, 1))
        return torch.cat(out)

    def _chunk_biases(self, output: Output) -> list[Tensor]:
        """For each chunk what is added to the scores of its queries for n + w keys: 0, or -inf for another text."""
        if output not in self._biases:
            self._biases[output] = []
            for chunk in self.chunks:
                lengths = torch.tensor(chunk.lengths)
                text, _ = segment_ids_and_offsets(lengths)
                hidden = text[:, None] != text
                if output == 'cls':
                    hidden = hidden[segment_starts(lengths)]
                bias = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
                self._biases[output].append(F.pad(bias, (self._image_lengths[chunk.image], 0)))
        return self._biases[output]

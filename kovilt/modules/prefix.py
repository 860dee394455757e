"""ViLT with the image as a prefix: asked many questions, an image is looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules.packing import Output, Packing, bucket_size, needs_shape_buckets
from kovilt.modules.transformer import Block
from kovilt.modules.vilt import ViLT, ViLTStates


@dataclass(frozen=True)
class EncodedImages:
    """All that words ever see of I images: the keys and values of their CLS and patches in each block.

    Shapes: n blocks; S rows of all images, where rows are rounded with some of no meaning among them; h heads.
    """

    keys_values: list[Tensor]  # n of (S, 2, h, D/h)
    rows: Tensor  # int64: where the rows of image 0 lie, then of 1, ...
    states: list[Tensor] | None  # n of (S, D), what enters each block; None where only answers are wanted
    packing: Packing | None  # of `states`

    def without_states(self) -> EncodedImages:
        """What is kept of an image that will be asked about again: 8 n S D bytes in float32."""
        # contiguous: as part of what also holds the queries, keys and values would keep these in memory
        return EncodedImages([block.contiguous() for block in self.keys_values], self.rows, None, None)

    @staticmethod
    def joined(images: Sequence[EncodedImages]) -> EncodedImages:
        """Images that were encoded one by one as those of one batch, in this order; without their states."""
        if len(images) == 1:
            return images[0].without_states()
        counts = [len(image.keys_values[0]) for image in images]
        rows = torch.cat([image.rows + sum(counts[:i]) for i, image in enumerate(images)])
        blocks = zip(*(image.keys_values for image in images), strict=True)
        return EncodedImages([torch.cat(block) for block in blocks], rows, None, None)


class PrefixViLT(ViLT):
    """ViLT in which patches attend to patches only, and words to words and patches.

    What an image is then does not depend on what is asked about it: `embed_images` takes it through all blocks once,
    and each text, each pass, and each later question pays for its words alone. The parameters are those of `ViLT` under
    the same names, so that every ViLT's weights load; but it computes something else, and with weights that were
    trained as `ViLT` it has to be trained on. In training, dropout draws once for an image, not once for each text.

    Arguments and shapes are those of `ViLT`, with W words of all pairs together.
    """

    def embed_images(self, patches: Tensor, grids: Tensor) -> EncodedImages:
        """Encode each image of the batch once, for all texts and passes that speak of it.

        patches (sum P, 3*p*p) in [-1, 1], grids int64 (I, 2) on the host.
        """
        x = super().embed_images(patches, grids)
        packing = Packing(
            grids.new_zeros(len(grids)),
            grids.prod(dim=1),
            torch.arange(len(grids)),
            x.device,
            bucket_rows=needs_shape_buckets(x.device),
        )
        x = x.index_select(0, packing.source)  # (S, D)
        states, keys_values = [], []
        for block in self.blocks[:-1]:
            q, kv = block.attn.project(block.norm1(x))
            states.append(x)
            keys_values.append(kv)
            x = self.maybe_checkpoint(block.update, x, block.attn.attend(q, kv, packing, 'all'))
        last = self.blocks[-1]  # see `_last_states`
        keys_values.append(last.attn.keys_values(last.norm1(x)))
        return EncodedImages(keys_values, packing.image_rows(), [*states, x], packing)

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        images: EncodedImages,
        grids: Tensor,
        image_index: Tensor,
        output: Output = 'all',
        inner_block: int | None = None,
    ) -> ViLTStates:
        """As `ViLT.forward`, of images that `embed_images` has encoded.

        Raises:
            ValueError: a text is longer than max_text_len, or states are asked of images that were kept without.
        """
        if images.states is None and (output == 'all' or inner_block is not None):
            raise ValueError('the images were kept without their states: only their words can be read')
        packing = self.lay_out(text_mask, grids, image_index, images.rows.device)
        words = self.embed_text(input_ids, packing)
        count = len(words)  # W
        # (T,) rows of [words ; encoded images]: those of [words ; images], but the images lie in their own order
        source = torch.cat([torch.arange(count, device=words.device), count + images.rows])[packing.source]

        def together(of_words: Tensor, of_images: Tensor) -> Tensor:
            return torch.cat([of_words[:count], of_images.to(of_words.dtype)]).index_select(0, source)

        first = packing.cls_rows('text').sort().values  # (B,) each [CLS], in packed order
        x, inner = words, None
        if packing.bucket_rows:
            x = F.pad(words, (0, 0, 0, bucket_size(count) - count))
        for number, block in enumerate(self.blocks, 1):
            asked: Output = 'cls' if output == 'cls' and number == len(self.blocks) else 'text'
            rows = first if asked == 'cls' else None
            q, kv = block.attn.project(block.norm1(x), rows)
            attended = block.attn.attend(q, together(kv, images.keys_values[number - 1]), packing, asked)
            x = self.maybe_checkpoint(block.update, x if rows is None else x.index_select(0, rows), attended)
            if number == inner_block:
                inner = together(x, images.states[number])
                inner = F.layer_norm(inner, inner.shape[-1:])
        if output == 'all':
            x = together(x, _last_states(self.blocks[-1], images))
        return ViLTStates(self.norm(x), packing, output, inner)


def _last_states(block: Block, images: EncodedImages) -> Tensor:
    """The images' states (S, D) after the last block, which no word sees: worked out for alignment alone."""
    x = images.states[-1]
    q = block.attn.queries(block.norm1(x))
    return block.update(x, block.attn.attend(q, images.keys_values[-1], images.packing, 'all'))

"""ViLT with the picture as a prefix: asked many questions, a picture is looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules.packing import Packing, Read, rounded, rounds_rows
from kovilt.modules.transformer import Block
from kovilt.modules.vilt import ViLT, ViLTStates


@dataclass(frozen=True)
class EncodedPictures:
    """All that words ever see of I pictures: the keys and values of their CLS and patches in each block.

    Shapes: n blocks; S rows of all pictures, where rows are rounded with some of no meaning among them; h heads.
    """

    keys_values: list[Tensor]  # n of (S, 2, h, D/h)
    rows: Tensor  # int64: where the rows of picture 0 lie, then of 1, ...
    states: list[Tensor] | None  # n of (S, D), what enters each block; None where only answers are wanted
    packing: Packing | None  # of `states`

    def without_states(self) -> EncodedPictures:
        """What is kept of a picture that will be asked about again: 8 n S D bytes in float32."""
        # contiguous: as part of what also holds the queries, keys and values would keep these in memory
        return EncodedPictures([block.contiguous() for block in self.keys_values], self.rows, None, None)

    @staticmethod
    def joined(pictures: Sequence[EncodedPictures]) -> EncodedPictures:
        """Pictures that were encoded one by one as those of one batch, in this order; without their states."""
        if len(pictures) == 1:
            return pictures[0].without_states()
        counts = [len(picture.keys_values[0]) for picture in pictures]
        rows = torch.cat([picture.rows + sum(counts[:i]) for i, picture in enumerate(pictures)])
        blocks = zip(*(picture.keys_values for picture in pictures), strict=True)
        return EncodedPictures([torch.cat(block) for block in blocks], rows, None, None)


class PrefixViLT(ViLT):
    """ViLT in which patches attend to patches only, and words to words and patches.

    What a picture is then does not depend on what is asked about it: `embed_pictures` takes it through all blocks once,
    and each text, each pass, and each later question pays for its words alone. The parameters are those of `ViLT` under
    the same names, so that every ViLT's weights load; but it computes something else, and with weights that were
    trained as `ViLT` it has to be trained on. In training, dropout draws once for a picture, not once for each text.

    Arguments and shapes are those of `ViLT`, with W words of all pairs together.
    """

    def embed_pictures(self, patches: Tensor, grids: Tensor) -> EncodedPictures:
        """Encode each picture of the batch once, for all texts and passes that speak of it.

        patches (sum P, 3*p*p) in [-1, 1], grids int64 (I, 2) on the host.
        """
        x = super().embed_pictures(patches, grids)
        packing = Packing(
            grids.new_zeros(len(grids)),
            grids.prod(dim=1),
            torch.arange(len(grids)),
            x.device,
            round_rows=rounds_rows(x.device),
        )
        x = x.index_select(0, packing.source)  # (S, D)
        states, keys_values = [], []
        for block in self.blocks[:-1]:
            q, kv = block.attn.project(block.norm1(x))
            states.append(x)
            keys_values.append(kv)
            x = self.recomputed(block.update, x, block.attn.attend(q, kv, packing, 'all'))
        last = self.blocks[-1]  # see `_last_states`
        keys_values.append(last.attn.keys_values(last.norm1(x)))
        return EncodedPictures(keys_values, packing.picture_rows(), [*states, x], packing)

    def forward(
        self,
        *,
        input_ids: Tensor,
        text_mask: Tensor,
        pictures: EncodedPictures,
        grids: Tensor,
        image_index: Tensor,
        read: Read = 'all',
        inner_block: int | None = None,
    ) -> ViLTStates:
        """As `ViLT.forward`, of pictures that `embed_pictures` has encoded.

        Raises:
            ValueError: a text is longer than max_text_len, or states are asked of pictures that were kept without.
        """
        if pictures.states is None and (read == 'all' or inner_block is not None):
            raise ValueError('the pictures were kept without their states: only their words can be read')
        packing = self.lay_out(text_mask, grids, image_index, pictures.rows.device)
        words = self.embed_words(input_ids, packing)
        count = len(words)  # W
        # (T,) rows of [words ; encoded pictures]: those of [words ; pictures], but the pictures lie in their own order
        source = torch.cat([torch.arange(count, device=words.device), count + pictures.rows])[packing.source]

        def together(of_words: Tensor, of_pictures: Tensor) -> Tensor:
            return torch.cat([of_words[:count], of_pictures.to(of_words.dtype)]).index_select(0, source)

        first = packing.first_rows('words').sort().values  # (B,) each [CLS], in packed order
        x, inner = words, None
        if packing.round_rows:
            x = F.pad(words, (0, 0, 0, rounded(count) - count))
        for number, block in enumerate(self.blocks, 1):
            asked: Read = 'pooled' if read == 'pooled' and number == len(self.blocks) else 'words'
            rows = first if asked == 'pooled' else None
            q, kv = block.attn.project(block.norm1(x), rows)
            attended = block.attn.attend(q, together(kv, pictures.keys_values[number - 1]), packing, asked)
            x = self.recomputed(block.update, x if rows is None else x.index_select(0, rows), attended)
            if number == inner_block:
                inner = together(x, pictures.states[number])
                inner = F.layer_norm(inner, inner.shape[-1:])
        if read == 'all':
            x = together(x, _last_states(self.blocks[-1], pictures))
        return ViLTStates(self.norm(x), packing, read, inner)


def _last_states(block: Block, pictures: EncodedPictures) -> Tensor:
    """The pictures' states (S, D) after the last block, which no word sees: worked out for alignment alone."""
    x = pictures.states[-1]
    q = block.attn.queries(block.norm1(x))
    return block.update(x, block.attn.attend(q, pictures.keys_values[-1], pictures.packing, 'all'))

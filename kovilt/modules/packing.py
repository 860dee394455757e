"""The packed layout: which row of the packed states belongs to which word or patch of which pair.

Shapes: B pairs, I images, W words in all, T words and patches of all pairs together.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Output = Literal['all', 'text', 'cls']


class ShapeGroup(NamedTuple):
    """Neighbouring pairs of one shape: each has `words` words, then the image CLS and `patches` patches."""

    pairs: int
    words: int
    patches: int

    @property
    def length(self) -> int:
        return self.words + 1 + self.patches

    def length_of(self, output: Output) -> int:
        """How many leading rows of each pair are read out of the last block."""
        return {'all': self.length, 'text': self.words, 'cls': 1}[output]


class Packing:
    """Rows of the packed states of B pairs: [words ; image CLS ; patches] of each, no padding anywhere.

    Pairs of equal shape are laid next to each other (a run), so attention needs neither padding nor a mask: every
    run is a plain (pairs, length) rectangle. All sizes are worked out on the host from the small tensors
    `text_lengths`, `patch_counts` and `image_index`; nothing here ever waits for an accelerator.

    Args:
        text_lengths: int64 (B,), words of each pair with its [CLS] and [SEP]; 0 of all pairs for images alone.
        patch_counts: int64 (I,), patches of each image; 0 = no image was given.
        image_index: int64 (B,), the image of each pair.
        device: where the index tensors are needed.
        bucket_rows: add rows of no pair at the end, copies of row 0 that nobody reads, so that few distinct sizes occur
            (see `rounded`).
    """

    def __init__(
        self,
        text_lengths: Tensor,
        patch_counts: Tensor,
        image_index: Tensor,
        device: torch.device,
        *,
        bucket_rows: bool = False,
    ) -> None:
        self.bucket_rows = bucket_rows
        self._rectangles: dict[Output, tuple[Tensor, Tensor, Tensor]] = {}
        self._cu_seqlens: dict[Output, tuple[Tensor, int]] = {}
        patches = patch_counts[image_index]  # (B,)
        shape = torch.stack([text_lengths, patches], dim=1)
        order = torch.argsort(text_lengths * (int(patches.max()) + 1) + patches, stable=True)
        shapes, pairs = torch.unique_consecutive(shape[order], dim=0, return_counts=True)
        self.runs = [
            ShapeGroup(n, words, count) for n, (words, count) in zip(pairs.tolist(), shapes.tolist(), strict=True)
        ]
        self.num_pairs = len(text_lengths)
        self.device = device
        self.text_lengths, self.patch_counts = text_lengths, patches

        words, lengths = text_lengths[order], text_lengths[order] + 1 + patches[order]  # in packed order
        self.starts = self._by_pair(order, segment_starts(lengths))  # (B,) first row of each pair
        self.word_starts = self._by_pair(order, segment_starts(words))  # (B,) likewise, words only

        pair, position = segment_ids_and_offsets(lengths)  # both (T,)
        image_starts = segment_starts(patch_counts + 1)
        word_row = segment_starts(words)[pair] + position
        image_row = int(words.sum()) + image_starts[image_index[order]][pair] + position - words[pair]
        # (T,) rows of [words ; images]
        self.source = self.move(self._filled(torch.where(position < words[pair], word_row, image_row)))

        word_pair, word_position = segment_ids_and_offsets(words)
        self.word_pair, self.word_position = order[word_pair], word_position  # (W,) where each packed word is from

    def rows(self, output: Output) -> Tensor:
        """The packed rows that `output` keeps, in packed order: (T,), (W,) or (B,)."""
        if output == 'cls':
            return self.move(self.starts.sort().values)
        if output == 'text':
            return self.move(self._filled(self.starts[self.word_pair] + self.word_position))
        return torch.arange(len(self.source), device=self.device)

    def cls_rows(self, output: Output) -> Tensor:
        """Row of each pair's text [CLS] among the rows that `output` kept, by pair: (B,)."""
        if output == 'cls':
            return self.move(self.starts.argsort().argsort())
        return self.move(self.word_starts if output == 'text' else self.starts)

    def cu_seqlens(self, output: Output) -> tuple[Tensor, int]:
        """Where each pair's rows end among those that `output` keeps, int32 (B + 1,) on the device, and the longest."""
        if output not in self._cu_seqlens:
            counts = [run.length_of(output) for run in self.runs for _ in range(run.pairs)]
            ends = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
            self._cu_seqlens[output] = self.move(ends), max(counts)
        return self._cu_seqlens[output]

    def rectangle(self, output: Output) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs as one padded rectangle (B, N), N rounded: for devices on which many small runs are slow.

        Returns, in packed order and on the device, the row at each place among those that `output` kept (row 0 where
        there is none), flat (B * N,); bool (B, N), whether a row is there; and the way back: for each row that was
        kept, its place in the flat rectangle.
        """
        if output not in self._rectangles:
            counts = torch.tensor([run.length_of(output) for run in self.runs for _ in range(run.pairs)])
            longest = int(counts.max())
            place = torch.arange(bucket_size(longest, 16) if self.bucket_rows and longest > 1 else longest)
            inside = place < counts[:, None]
            index = (segment_starts(counts)[:, None] + place).masked_fill(~inside, 0).flatten()
            back = inside.flatten().nonzero().squeeze(1)
            back = back if output == 'cls' else self._filled(back)
            self._rectangles[output] = self.move(index), self.move(inside), self.move(back)
        return self._rectangles[output]

    def image_rows(self) -> Tensor:
        """Where pairs of an image alone, without words, have come to lie: those of image 0, then of 1, ...; (T,)."""
        image, place = segment_ids_and_offsets(self.patch_counts + 1)
        return self.move(self.starts[image] + place)

    def take_tokens(self, per_word: Tensor) -> Tensor:
        """The real words of a padded host tensor (B, L), in packed order and still on the host, (W,)."""
        return per_word[self.word_pair, self.word_position]

    def token_grid(self, max_words: int) -> Tensor:
        """Rows of the words among all packed rows, (B, max_words); beyond a text's end any rows."""
        return self._grid(self.starts, max_words)

    def patch_grid(self) -> tuple[Tensor, Tensor]:
        """Rows of the patches among all packed rows, (B, P), and which of them are the pair's own, (B, P)."""
        most = int(self.patch_counts.max()) if self.num_pairs else 0
        mask = torch.arange(most) < self.patch_counts[:, None]
        return self._grid(self.starts + self.text_lengths + 1, most), self.move(mask)

    def _grid(self, first: Tensor, count: int) -> Tensor:
        # Beyond a pair's own rows come its neighbour's: of one row for all, a GPU would add up gradients one by one.
        return self.move((first[:, None] + torch.arange(count)).clamp(max=len(self.source) - 1))

    def move(self, index: Tensor) -> Tensor:
        """A small host tensor, on the device."""
        return to_device(index, self.device)

    def _filled(self, rows: Tensor) -> Tensor:
        more = bucket_size(len(rows)) - len(rows) if self.bucket_rows else 0
        return torch.cat([rows, rows.new_zeros(more)]) if more else rows

    @staticmethod
    def _by_pair(order: Tensor, values: Tensor) -> Tensor:
        return torch.empty_like(values).scatter_(0, order, values)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A small host tensor, on the device: by way of pinned memory, from which a copy to a GPU makes nobody wait."""
    if device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def needs_shape_buckets(device: torch.device) -> bool:
    """Whether numbers of rows should be `rounded` here: under bfloat16 autocast on a CPU.

    oneDNN, which multiplies bfloat16 there, builds a program for every size that it meets, and each batch has its own
    number of words: building would take longer than a small model's step.
    """
    return (
        device.type == 'cpu' and torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu') == torch.bfloat16
    )


def bucket_size(rows: int, least: int = 32) -> int:
    """The next number of which there are few: multiples of `least` or, from 8 of those on, eight sizes an octave."""
    step = max(least, 1 << max(rows.bit_length() - 4, 0))
    return -(-rows // step) * step


def segment_starts(lengths: Tensor) -> Tensor:
    """First row of each of the stacked pieces."""
    return lengths.cumsum(0) - lengths


def segment_ids_and_offsets(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For every row of the stacked pieces: which piece it is of, and its place in that piece."""
    piece = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return piece, torch.arange(len(piece)) - segment_starts(lengths)[piece]

"""The packed layout: which row of the packed states belongs to which word or patch of which pair.

Shapes: B pairs, I pictures, W words in all, T words and patches of all pairs together.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Read = Literal['all', 'words', 'pooled']


class Run(NamedTuple):
    """Neighbouring pairs of one shape: each has `words` words, then the image CLS and `patches` patches."""

    pairs: int
    words: int
    patches: int

    @property
    def length(self) -> int:
        return self.words + 1 + self.patches

    def read(self, read: Read) -> int:
        """How many leading rows of each pair are read out of the last block."""
        return {'all': self.length, 'words': self.words, 'pooled': 1}[read]


class Packing:
    """Rows of the packed states of B pairs: [words ; image CLS ; patches] of each, no padding anywhere.

    Pairs of equal shape are laid next to each other (a run), so attention needs neither padding nor a mask: every
    run is a plain (pairs, length) rectangle. All sizes are worked out on the host from the small tensors
    `text_lengths`, `patch_counts` and `image_index`; nothing here ever waits for an accelerator.

    Args:
        text_lengths: int64 (B,), words of each pair with its [CLS] and [SEP]; 0 of all pairs for pictures alone.
        patch_counts: int64 (I,), patches of each picture; 0 = no picture was given.
        image_index: int64 (B,), the picture of each pair.
        device: where the index tensors are needed.
        round_rows: add rows of no pair at the end, copies of row 0 that nobody reads, so that few distinct sizes occur
            (see `rounded`).
    """

    def __init__(
        self,
        text_lengths: Tensor,
        patch_counts: Tensor,
        image_index: Tensor,
        device: torch.device,
        *,
        round_rows: bool = False,
    ) -> None:
        self.round_rows = round_rows
        self._rectangles: dict[Read, tuple[Tensor, Tensor, Tensor]] = {}
        self._boundaries: dict[Read, tuple[Tensor, int]] = {}
        patches = patch_counts[image_index]  # (B,)
        shape = torch.stack([text_lengths, patches], dim=1)
        order = torch.argsort(text_lengths * (int(patches.max()) + 1) + patches, stable=True)
        shapes, pairs = torch.unique_consecutive(shape[order], dim=0, return_counts=True)
        self.runs = [Run(n, words, count) for n, (words, count) in zip(pairs.tolist(), shapes.tolist(), strict=True)]
        self.num_pairs = len(text_lengths)
        self.device = device
        self.text_lengths, self.patch_counts = text_lengths, patches

        words, lengths = text_lengths[order], text_lengths[order] + 1 + patches[order]  # in packed order
        self.starts = self._by_pair(order, starts_of(lengths))  # (B,) first row of each pair
        self.word_starts = self._by_pair(order, starts_of(words))  # (B,) likewise, words only

        pair, position = ramp(lengths)  # both (T,)
        picture_starts = starts_of(patch_counts + 1)
        word_row = starts_of(words)[pair] + position
        picture_row = int(words.sum()) + picture_starts[image_index[order]][pair] + position - words[pair]
        # (T,) rows of [words ; pictures]
        self.source = self.move(self._filled(torch.where(position < words[pair], word_row, picture_row)))

        word_pair, word_position = ramp(words)
        self.word_pair, self.word_position = order[word_pair], word_position  # (W,) where each packed word is from

    def rows(self, read: Read) -> Tensor:
        """The packed rows that `read` keeps, in packed order: (T,), (W,) or (B,)."""
        if read == 'pooled':
            return self.move(self.starts.sort().values)
        if read == 'words':
            return self.move(self._filled(self.starts[self.word_pair] + self.word_position))
        return torch.arange(len(self.source), device=self.device)

    def first_rows(self, read: Read) -> Tensor:
        """Row of each pair's text [CLS] among the rows that `read` kept, by pair: (B,)."""
        if read == 'pooled':
            return self.move(self.starts.argsort().argsort())
        return self.move(self.word_starts if read == 'words' else self.starts)

    def boundaries(self, read: Read) -> tuple[Tensor, int]:
        """Where each pair's rows end among those that `read` keeps, int32 (B + 1,) on the device, and the longest."""
        if read not in self._boundaries:
            counts = [run.read(read) for run in self.runs for _ in range(run.pairs)]
            ends = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
            self._boundaries[read] = self.move(ends), max(counts)
        return self._boundaries[read]

    def rectangle(self, read: Read) -> tuple[Tensor, Tensor, Tensor]:
        """All pairs as one padded rectangle (B, N), N rounded: for devices on which many small runs are slow.

        Returns, in packed order and on the device, the row at each place among those that `read` kept (row 0 where
        there is none), flat (B * N,); bool (B, N), whether a row is there; and the way back: for each row that was
        kept, its place in the flat rectangle.
        """
        if read not in self._rectangles:
            counts = torch.tensor([run.read(read) for run in self.runs for _ in range(run.pairs)])
            longest = int(counts.max())
            place = torch.arange(rounded(longest, 16) if self.round_rows and longest > 1 else longest)
            inside = place < counts[:, None]
            index = (starts_of(counts)[:, None] + place).masked_fill(~inside, 0).flatten()
            back = inside.flatten().nonzero().squeeze(1)
            back = back if read == 'pooled' else self._filled(back)
            self._rectangles[read] = self.move(index), self.move(inside), self.move(back)
        return self._rectangles[read]

    def picture_rows(self) -> Tensor:
        """Where pairs of a picture alone, without words, have come to lie: those of picture 0, then of 1, ...; (T,)."""
        picture, place = ramp(self.patch_counts + 1)
        return self.move(self.starts[picture] + place)

    def take_words(self, per_word: Tensor) -> Tensor:
        """The real words of a padded host tensor (B, L), in packed order and still on the host, (W,)."""
        return per_word[self.word_pair, self.word_position]

    def word_grid(self, max_words: int) -> Tensor:
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
        more = rounded(len(rows)) - len(rows) if self.round_rows else 0
        return torch.cat([rows, rows.new_zeros(more)]) if more else rows

    @staticmethod
    def _by_pair(order: Tensor, values: Tensor) -> Tensor:
        return torch.empty_like(values).scatter_(0, order, values)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A small host tensor, on the device: by way of pinned memory, from which a copy to a GPU makes nobody wait."""
    if device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def rounds_rows(device: torch.device) -> bool:
    """Whether numbers of rows should be `rounded` here: under bfloat16 autocast on a CPU.

    oneDNN, which multiplies bfloat16 there, builds a program for every size that it meets, and each batch has its own
    number of words: building would take longer than a small model's step.
    """
    return (
        device.type == 'cpu' and torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu') == torch.bfloat16
    )


def rounded(rows: int, least: int = 32) -> int:
    """The next number of which there are few: multiples of `least` or, from 8 of those on, eight sizes an octave."""
    step = max(least, 1 << max(rows.bit_length() - 4, 0))
    return -(-rows // step) * step


def starts_of(lengths: Tensor) -> Tensor:
    """First row of each of the stacked pieces."""
    return lengths.cumsum(0) - lengths


def ramp(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For every row of the stacked pieces: which piece it is of, and its place in that piece."""
    piece = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return piece, torch.arange(len(piece)) - starts_of(lengths)[piece]

"""The packed layout of a batch: one sequence of tokens and patches without padding, and where each pair lies in it.

The packed sequence holds the segments of B pairs one after another. The segment of a pair is
[text tokens ; image CLS ; patches] (eq. 3). Pairs lie in the order of length, those of equal shape next to each other,
or, if they are packed by image, in the order of their images.

Shapes: B pairs, I images, L text length of a padded batch, P patches of an image, W text tokens of all pairs together,
T tokens of the packed sequence (text tokens, image CLS and patches of all pairs), R of them that a block outputs.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules.padded_attention import PaddedLayout

# Which states the last block outputs: of all tokens, of the text tokens, or of the text [CLS] alone.
Output = Literal['all', 'text', 'cls']


class ShapeGroup(NamedTuple):
    """Neighbouring pairs of equal shape: a rectangle of `pairs` segments of `length` tokens, without padding."""

    pairs: int
    text_length: int
    patch_count: int

    @property
    def length(self) -> int:
        return self.text_length + 1 + self.patch_count

    def output_length(self, output: Output) -> int:
        """How many tokens of each segment, counted from its start, are output."""
        return {'all': self.length, 'text': self.text_length, 'cls': 1}[output]


class Packing:
    """The layout of the packed sequence of B pairs.

    All sizes are computed on the host from the small tensors `text_lengths`, `patch_counts` and `image_index`; nothing
    here waits for an accelerator. Indices are on the device, all other tensors on the host.

    Args:
        text_lengths: int64 (B,): tokens of each text with its [CLS] and [SEP]; 0 for all pairs encodes images alone.
        patch_counts: int64 (I,): patches of each image; 0 = no image was given.
        image_index: int64 (B,): the image of each pair.
        by_image: pack pairs in the order of their images, so that the texts of an image are neighbours.
        use_buckets: append copies of position 0, which are not used, up to the next `bucket_size`, so that few distinct
            lengths occur (see `needs_shape_buckets`).

    Attributes:
        image_index: int64 (B,), as given.
        order: int64 (B,): the pairs in packed order.
        groups: the groups of equal shape, in packed order.
        starts: int64 (B,): packed position of the first token of each pair.
        text_starts: int64 (B,): the same where text tokens alone are packed.
        token_pair, token_position: int64 (W,): the pair and the position in its text of each packed text token.
        gather_index: int64 (T,): builds the packed sequence from [text tokens in packed order ; images in order].
    """

    def __init__(
        self,
        text_lengths: Tensor,
        patch_counts: Tensor,
        image_index: Tensor,
        device: torch.device,
        *,
        by_image: bool = False,
        use_buckets: bool = False,
    ) -> None:
        self.use_buckets, self.image_index = use_buckets, image_index
        self._padded_layouts: dict[tuple[Output, int], PaddedLayout] = {}
        self._cu_seqlens: dict[Output, tuple[Tensor, int]] = {}
        pair_patches = patch_counts[image_index]  # (B,)
        shapes = torch.stack([text_lengths, pair_patches], dim=1)
        # By length, so that neighbours fit into one rectangle, then by text length.
        shape = (text_lengths + pair_patches) * (int(text_lengths.max()) + 1) + text_lengths
        self.order = order = torch.argsort(image_index if by_image else shape, stable=True)
        distinct, counts = torch.unique_consecutive(shapes[order], dim=0, return_counts=True)
        self.groups = [ShapeGroup(n, *shape) for n, shape in zip(counts.tolist(), distinct.tolist(), strict=True)]
        self.num_pairs = len(text_lengths)
        self.device = device
        self.text_lengths, self.patch_counts = text_lengths, pair_patches

        # In packed order: text and segment lengths of each pair.
        packed_text, packed_length = text_lengths[order], text_lengths[order] + 1 + pair_patches[order]
        rank = order.argsort()  # of each pair in packed order
        self.starts = segment_starts(packed_length)[rank]
        self.text_starts = segment_starts(packed_text)[rank]

        pair, offset = segment_ids_and_offsets(packed_length)  # both (T,)
        text_row = segment_starts(packed_text)[pair] + offset
        image_starts = segment_starts(patch_counts + 1)[image_index[order]]
        image_row = int(packed_text.sum()) + image_starts[pair] + offset - packed_text[pair]
        self.gather_index = self.to_device(self._pad(torch.where(offset < packed_text[pair], text_row, image_row)))

        text_pair, self.token_position = segment_ids_and_offsets(packed_text)
        self.token_pair = order[text_pair]

    def output_index(self, output: Output) -> Tensor:
        """Packed positions of the tokens that are output, in packed order: (T,), (W,) or (B,)."""
        if output == 'cls':
            return self.to_device(self.starts.sort().values)
        if output == 'text':
            return self.to_device(self._pad(self.starts[self.token_pair] + self.token_position))
        return torch.arange(len(self.gather_index), device=self.device)

    def cls_index(self, output: Output) -> Tensor:
        """Position of each pair's text [CLS] among the tokens that are output, (B,)."""
        if output == 'cls':
            return self.to_device(self.starts.argsort().argsort())
        return self.to_device(self.text_starts if output == 'text' else self.starts)

    def cu_seqlens(self, output: Output) -> tuple[Tensor, int]:
        """Cumulative segment lengths of the tokens that are output, int32 (B + 1,) on the device, and max_seqlen."""
        if output not in self._cu_seqlens:
            lengths = self._output_lengths(output)
            cu_seqlens = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
            self._cu_seqlens[output] = self.to_device(cu_seqlens), int(lengths.max())
        return self._cu_seqlens[output]

    def padded_layout(self, output: Output, num_heads: int) -> PaddedLayout:
        """The tokens that are output in padded rectangles of neighbouring pairs, for `num_heads` heads."""
        key = output, num_heads
        if key not in self._padded_layouts:
            self._padded_layouts[key] = PaddedLayout(self._output_lengths(output), num_heads, self.device)
        return self._padded_layouts[key]

    def pack_text(self, per_token: Tensor) -> Tensor:
        """Pack a padded host tensor (B, L), such as token ids or labels: (W,) in packed order, still on the host."""
        return per_token[self.token_pair, self.token_position]

    def text_index(self, max_text_len: int) -> Tensor:
        """Packed positions of each pair's text tokens, padded to (B, max_text_len); arbitrary beyond a text's end."""
        return self._pair_index(self.starts, max_text_len)

    def patch_index(self) -> tuple[Tensor, Tensor]:
        """Packed positions of each pair's patches, padded to (B, P), and their mask, bool (B, P)."""
        most = int(self.patch_counts.max()) if self.num_pairs else 0
        mask = torch.arange(most) < self.patch_counts[:, None]
        return self._pair_index(self.starts + self.text_lengths + 1, most), self.to_device(mask)

    def to_device(self, values: Tensor) -> Tensor:
        """A small host tensor, on the device of the packing."""
        return to_device(values, self.device)

    def _output_lengths(self, output: Output) -> Tensor:
        """int64 (B,), in packed order."""
        return torch.tensor([group.output_length(output) for group in self.groups for _ in range(group.pairs)])

    def _pair_index(self, first: Tensor, count: int) -> Tensor:
        # Padding points at the next pair's tokens: if all of it pointed at one token, the backward pass on a GPU would
        # add up its gradients one by one.
        return self.to_device((first[:, None] + torch.arange(count)).clamp(max=len(self.gather_index) - 1))

    def _pad(self, index: Tensor) -> Tensor:
        return pad_to_bucket(index) if self.use_buckets else index


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small host tensor to the device: to a GPU by way of pinned memory, so that the host does not wait."""
    if device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def needs_shape_buckets(device: torch.device) -> bool:
    """Whether sequence lengths should be padded to a bucket: under bfloat16 autocast on a CPU.

    There oneDNN compiles a kernel for every new shape of a matrix product, longer than a step of a small model takes.
    """
    autocast = device.type == 'cpu' and torch.is_autocast_enabled('cpu')
    return autocast and torch.get_autocast_dtype('cpu') == torch.bfloat16


def bucket_size(length: int) -> int:
    """The smallest bucket that holds `length`: a multiple of 32 or, from 2,048 on, one of 32 an octave."""
    step = max(32, 1 << max(length.bit_length() - 6, 0))
    return -(-length // step) * step


def pad_to_bucket(x: Tensor, value: float = 0) -> Tensor:
    """Pad the first axis of x (N, ...) to `bucket_size(N)` with `value`."""
    more = bucket_size(len(x)) - len(x)
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, more), value=value) if more else x


def segment_starts(lengths: Tensor) -> Tensor:
    """Position of the first element of each segment, when segments of these lengths follow one another."""
    return lengths.cumsum(0) - lengths


def segment_ids_and_offsets(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For every element of the packed segments: the segment that it belongs to, and its position in that segment."""
    segment = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return segment, torch.arange(len(segment)) - segment_starts(lengths)[segment]

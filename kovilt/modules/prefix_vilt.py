"""ViLT with the image as a prefix: an image is encoded once, however many questions are asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules.attention import attend_segments
from kovilt.modules.packing import Output, Packing, needs_shape_buckets, pad_to_bucket
from kovilt.modules.prefix_attention import TextAttention
from kovilt.modules.vilt import ViLT


@dataclass
class PrefixImages:
    """I images, and what the pass that encodes them leaves for later passes and questions.

    Shapes: n blocks, S tokens (image CLS and patches) of all images together, D hidden size, h heads.

    Attributes:
        patch_counts: int64 (I,), on the host.
        inputs: the input of each block, (S, D); of images that are not encoded that of the first block alone. None =
            not kept.
        keys_values: the keys and values in each block, (S, 2, h, D/h), to which text tokens attend; empty until the
            images are encoded.
    """

    patch_counts: Tensor
    inputs: list[Tensor] | None
    keys_values: list[Tensor] = field(default_factory=list)

    def without_inputs(self) -> PrefixImages:
        """What later questions need of encoded images, to be cached: 8 n S D bytes in float32."""
        # contiguous: as a view it would keep the queries in memory, which were computed in the same tensor.
        return PrefixImages(self.patch_counts, None, [kv.contiguous() for kv in self.keys_values])

    def last(self) -> PrefixImages:
        """The last of encoded images, without inputs."""
        tokens = int(self.patch_counts[-1]) + 1  # and its CLS
        return PrefixImages(self.patch_counts[-1:], None, [kv[-tokens:].clone() for kv in self.keys_values])

    def require_inputs(self) -> list[Tensor]:
        if self.inputs is None:
            raise ValueError('the images were cached without their states: only text states can be output')
        return self.inputs

    def packing(self, device: torch.device, *, use_buckets: bool) -> Packing:
        """The layout of the images alone, in their order."""
        count = len(self.patch_counts)
        no_text, index = torch.zeros(count, dtype=torch.int64), torch.arange(count)
        return Packing(no_text, self.patch_counts, index, device, by_image=True, use_buckets=use_buckets)

    @staticmethod
    def concatenate(images: Sequence[PrefixImages]) -> PrefixImages:
        """Images that were encoded one by one as those of one batch, in this order, without inputs."""
        if len(images) == 1:
            return images[0].without_inputs()
        counts = torch.cat([image.patch_counts for image in images])
        keys_values = zip(*(image.keys_values for image in images), strict=True)
        return PrefixImages(counts, None, [torch.cat(parts) for parts in keys_values])


class PrefixViLT(ViLT):
    """ViLT in which patches attend to patches alone, and text tokens to text tokens and patches.

    The states of an image then do not depend on the text: the first pass over an image encodes it, and each further
    text, each later pass and each later question costs its own tokens alone. Weights of `ViLT` load, but the function
    is another one: a model that was trained as `ViLT` has to be trained further. In training, dropout is sampled once
    for an image, not once for each of its texts.

    Arguments and shapes are those of `ViLT`; S tokens of all images together.
    """

    packs_by_image = True

    def embed_images(self, patches: Tensor, grids: Tensor) -> PrefixImages:
        """As `ViLT.embed_images`; the first `forward` with the images takes them through the blocks as well.

        There they share the products of the linear layers with the texts: a product of few rows is slow, as it reads
        all weights like one of many rows.
        """
        return PrefixImages(grids.prod(dim=1), [super().embed_images(patches, grids)])

    def encode_images(self, images: PrefixImages) -> PrefixImages:
        """Take embedded images through the blocks without a text, to cache them; returns them."""
        (x,) = inputs = images.require_inputs()
        rows = _Rows(0, len(x), needs_shape_buckets(x.device))
        packing, x = images.packing(x.device, use_buckets=rows.use_buckets), rows.join(x)
        for block in self.blocks[:-1]:
            q, kv = block.attn.project(block.norm1(x))
            images.keys_values.append(rows.split(kv)[1])
            attended = attend_segments(q, kv, packing, 'all')
            x = self.maybe_checkpoint(block.add_residuals, x, block.attn.proj(attended.flatten(1)))
            inputs.append(rows.split(x)[1])
        last = self.blocks[-1]  # text needs its keys and values alone
        images.keys_values.append(last.attn.project_kv(last.norm1(inputs[-1])))
        return images

    def image_features(self, images: PrefixImages, grids: Tensor) -> Tensor:
        """As `ViLT.image_features`: the mean of the values to which texts attend in the last block, (I, D).

        Of images that have been encoded already it costs nothing else.
        """
        encoded = images if images.keys_values else self.encode_images(images)
        values = encoded.keys_values[-1][:, 1].flatten(1)  # (S, D)
        return torch.stack([own.mean(dim=0) for own in values.split((encoded.patch_counts + 1).tolist())])

    def run_blocks(
        self, text: Tensor, images: PrefixImages, packing: Packing, output: Output, inner_block: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """As `ViLT.run_blocks`.

        Raises:
            ValueError: output 'all' or `inner_block` needs states that the images were cached without.
        """
        encodes = not images.keys_values
        rows = _Rows(len(text), len(images.require_inputs()[0]) if encodes else 0, packing.use_buckets)
        x = rows.join(text, *([images.require_inputs()[0]] if encodes else []))
        image_packing = images.packing(x.device, use_buckets=packing.use_buckets)
        attend_texts = TextAttention(packing, images.patch_counts)
        inner = None
        for number, block in enumerate(self.blocks[:-1], 1):
            q, kv = block.attn.project(block.norm1(x))
            (q_text, q_images), (kv_text, kv_images) = rows.split(q), rows.split(kv)
            if encodes:
                images.keys_values.append(kv_images)
            parts = [attend_texts(q_text, kv_text, images.keys_values[number - 1], 'text')]
            if encodes:
                parts.append(attend_segments(q_images, kv_images, image_packing, 'all'))
            x = self.maybe_checkpoint(block.add_residuals, x, block.attn.proj(rows.join(*parts).flatten(1)))
            x_text, x_images = rows.split(x)
            if encodes:
                images.require_inputs().append(x_images)
            if number == inner_block:
                inner = attend_texts.pack(x_text, images.require_inputs()[number])
                inner = F.layer_norm(inner, inner.shape[-1:])
        index = packing.to_device(_output_rows(packing, output))
        q, kv = (last := self.blocks[-1]).attn.project(last.norm1(x), index)
        kv_text, kv_images = rows.split(kv)
        if encodes:
            images.keys_values.append(kv_images)
        y = attend_texts(q, kv_text, images.keys_values[-1], 'cls' if output == 'cls' else 'text')
        x = self.maybe_checkpoint(last.add_residuals, x.index_select(0, index), last.attn.proj(y.flatten(1)))
        if output == 'all':  # of the images' states after the last block, to which no text attends
            states = images.require_inputs()[-1]
            q = last.attn.project_q(last.norm1(states))
            y = last.attn.attend(q, images.keys_values[-1], image_packing, 'all')
            x = attend_texts.pack(x, last.add_residuals(states, y))
        return x, inner


def _output_rows(packing: Packing, output: Output) -> Tensor:
    """Packed positions of the text tokens that the last block computes: (W,), with shape buckets padded, or (B,)."""
    if output == 'cls':
        return packing.text_starts.sort().values
    index = torch.arange(len(packing.token_pair))
    return pad_to_bucket(index) if packing.use_buckets else index


class _Rows(NamedTuple):
    """The rows of a tensor: text tokens, then image tokens, then padding if `use_buckets`."""

    num_text: int
    num_images: int
    use_buckets: bool

    def join(self, *parts: Tensor) -> Tensor:
        x = torch.cat(parts)
        return pad_to_bucket(x) if self.use_buckets else x

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the text and of the images."""
        # Not by slices, as the gradient of each would be a tensor of the size of x.
        padding = len(x) - self.num_text - self.num_images
        text, images, _ = x.split([self.num_text, self.num_images, padding])
        return text, images

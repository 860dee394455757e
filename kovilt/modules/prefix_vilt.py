"""ViLT with the image as a prefix: an image is encoded once, however many questions are asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kovilt.modules.packing import Output, Packing, pad_to_bucket
from kovilt.modules.vilt import ViLT


@dataclass(frozen=True)
class ImageStates:
    """The input of each block for the tokens of I images, packed: n blocks of (S, D)."""

    inputs: list[Tensor]
    packing: Packing


@dataclass(frozen=True)
class EncodedImages:
    """I images as text tokens attend to them: the keys and values of image CLS and patches in each block.

    Shapes: n blocks, S tokens of all images together (with shape buckets also padding), D hidden size, h heads.
    """

    keys_values: list[Tensor]  # n of (S, 2, h, D/h)
    order: Tensor  # int64: positions in S of the CLS and patches of image 0, of image 1, ...
    states: ImageStates | None  # for output 'all' and `inner_block`; None after `without_states`

    def without_states(self) -> EncodedImages:
        """What later questions need, to be cached: 8 n S D bytes in float32."""
        # contiguous: as a view it would keep the queries in memory, which were computed in the same tensor.
        return EncodedImages([x.contiguous() for x in self.keys_values], self.order, None)

    def require_states(self) -> ImageStates:
        if self.states is None:
            raise ValueError('the images were cached without their states: only text states can be output')
        return self.states

    @staticmethod
    def concatenate(images: Sequence[EncodedImages]) -> EncodedImages:
        """Images that were encoded one by one as those of one batch, in this order, without their states."""
        if len(images) == 1:
            return images[0].without_states()
        counts = [len(image.keys_values[0]) for image in images]
        order = torch.cat([image.order + sum(counts[:i]) for i, image in enumerate(images)])
        keys_values = zip(*(image.keys_values for image in images), strict=True)
        return EncodedImages([torch.cat(parts) for parts in keys_values], order, None)


class PrefixViLT(ViLT):
    """ViLT in which patches attend to patches alone, and text tokens to text tokens and patches.

    The states of an image then do not depend on the text: `embed_images` takes an image through all blocks once, and
    each text, each pass and each later question costs its own tokens alone. Weights of `ViLT` load, but the function is
    another one: a model that was trained as `ViLT` has to be trained further. In training, dropout is sampled once for
    an image, not once for each of its texts.

    Arguments and shapes are those of `ViLT`; S tokens of all images together.
    """

    def embed_images(self, patches: Tensor, grids: Tensor) -> EncodedImages:
        """Take each image of the batch through all blocks, once for all texts and passes."""
        x = super().embed_images(patches, grids)
        no_text = torch.zeros(len(grids), 0, dtype=torch.bool)
        packing = self.make_packing(no_text, grids, torch.arange(len(grids)), x.device)
        x = x.index_select(0, packing.gather_index)  # (S, D)
        inputs, keys_values = [], []
        for block in self.blocks[:-1]:
            inputs.append(x)
            q, kv = block.attn.project(block.norm1(x))
            keys_values.append(kv)
            x = self.maybe_checkpoint(block.add_residuals, x, block.attn.attend(q, kv, packing, 'all'))
        inputs.append(x)
        last = self.blocks[-1]  # text needs its keys and values alone
        keys_values.append(last.attn.project_kv(last.norm1(x)))
        return EncodedImages(keys_values, packing.image_order(), ImageStates(inputs, packing))

    def run_blocks(
        self, text: Tensor, images: EncodedImages, packing: Packing, output: Output, inner_block: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """As `ViLT.run_blocks`.

        Raises:
            ValueError: output 'all' or `inner_block` needs states that the images were cached without.
        """
        count = len(text)  # W
        # (T,): the packed sequence from [text ; images] where the images lie in the order of their own packing.
        order = torch.cat([torch.arange(count, device=text.device), count + images.order])
        gather_index = order[packing.gather_index]

        def pack(of_text: Tensor, of_images: Tensor) -> Tensor:
            return torch.cat([of_text[:count], of_images.to(of_text.dtype)]).index_select(0, gather_index)

        x = pad_to_bucket(text) if packing.use_buckets else text
        inner = None
        for number, block in enumerate(self.blocks, 1):
            index = None
            if output == 'cls' and number == len(self.blocks):
                index = packing.cls_index('text').sort().values  # (B,) in packed order
            q, kv = block.attn.project(block.norm1(x), index)
            kv = pack(kv, images.keys_values[number - 1])
            attended = block.attn.attend(q, kv, packing, 'text' if index is None else 'cls')
            x = x if index is None else x.index_select(0, index)
            x = self.maybe_checkpoint(block.add_residuals, x, attended)
            if number == inner_block:
                inner = pack(x, images.require_states().inputs[number])
                inner = F.layer_norm(inner, inner.shape[-1:])
        if output == 'all':  # of the images' states after the last block, to which no text attends
            states, last = images.require_states(), self.blocks[-1]
            q = last.attn.project_q(last.norm1(states.inputs[-1]))
            attended = last.attn.attend(q, images.keys_values[-1], states.packing, 'all')
            x = pack(x, last.add_residuals(states.inputs[-1], attended))
        return x, inner

"""Pre-training: masked words, image-text matching and word-patch alignment, L = L1 + L2 + 0.5 L3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kovilt.batch import Batch
from kovilt.models.base import KoviltModel
from kovilt.modules.packing import Output, to_device
from kovilt.modules.prefix import EncodedImages
from kovilt.modules.vilt import ViLTStates
from kovilt.registry import MODELS

Images = Tensor | EncodedImages  # what an encoder makes of the images of a batch, as it wants them back


class PreTrainingModel(KoviltModel):
    """A model that is validated by what it is trained by. Subclasses write `losses`."""

    def predict(self, batch: Batch) -> list[dict]:
        """What is watched in validation: one dict of this batch's means under the names of `losses`, and `rows`."""
        if not len(batch['input_ids']):
            return []
        values = {name: float(value) for name, value in self.losses(batch).items()}
        return [dict(values, rows=len(batch['input_ids']))]


@MODELS.register_module()
class ViLTForPreTraining(PreTrainingModel):
    """ViLT with the three objectives of section 3, in two passes over each batch.

    (a) damaged captions with their images: masked words; (b) whole captions, half of them with another image:
    matching and alignment. Images are embedded, and by `PrefixViLT` encoded, once for both.

    Args:
        encoder: config of `ViLT` or `PrefixViLT`.
        mlm_head: config of `MLMHead`, or None to leave masked words out.
        itm_head: config of `ITMHead`, or None.
        wpa_head: config of `WPAHead`, or None; it shares the pass of `itm_head` and needs it.
        matching_every: every n-th pair takes part in the matching pass; 1 = all, as in the paper. Masked words teach a
            small model to look sooner than matching does, so it may spend its time there.
        data_preprocessor: config of the preprocessor, `ViLTPreprocessor` unless another is named.
    """

    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        mlm_head: dict[str, Any] | None,
        itm_head: dict[str, Any] | None,
        wpa_head: dict[str, Any] | None,
        matching_every: int = 1,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if wpa_head and not itm_head:
            raise ValueError('wpa_head needs itm_head: its pairs come from the matching pass')
        block = (wpa_head or {}).get('block')
        if block is not None and not 0 < block < encoder['num_layers']:
            raise ValueError(f'wpa_head.block {block} is not between 1 and num_layers - 1')
        if matching_every < 1:
            raise ValueError(f'matching_every {matching_every} is less than 1')
        self.matching_every = matching_every
        self.encoder = MODELS.build(encoder)
        shared = dict(hidden_size=self.encoder.hidden_size, init_std=self.encoder.init_std)
        self.mlm_head = mlm_head and MODELS.build(
            dict(mlm_head, vocab_size=self.encoder.vocab_size, activation=self.encoder.activation, **shared)
        )
        self.itm_head = itm_head and MODELS.build(dict(itm_head, **shared))
        self.wpa_head = wpa_head and MODELS.build(wpa_head)

    @property
    def loss_names(self) -> tuple[str, ...]:
        mlm = ('mlm_loss', 'mlm_accuracy') if self.mlm_head else ()
        itm = ('itm_loss', 'itm_accuracy') if self.itm_head else ()
        wpa = ('wpa_loss', 'wpa_matched_distance', 'wpa_mismatched_distance') if self.wpa_head else ()
        return mlm + itm + wpa

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images = self.encoder.embed_images(batch['patches'], batch['grids'])
        losses = {}
        if self.mlm_head:
            losses |= self._masked_words(batch, images)
        if self.itm_head:
            losses |= self._matching(batch, images)
        return losses

    def _masked_words(self, batch: Batch, images: Images) -> dict[str, Tensor]:
        damaged, labels = self.mlm_head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])
        states = self._encode(batch, images, damaged, batch['image_index'], output='text')
        return self.mlm_head.loss(states.rows, states.packing.take_tokens(labels))

    def _matching(self, batch: Batch, images: Images) -> dict[str, Tensor]:
        per_pair = ('input_ids', 'text_mask', 'word_ids', 'image_index', 'sample_seed')
        batch = dict(batch, **{key: batch[key][:: self.matching_every] for key in per_pair})
        image_index, matched = self.itm_head.sample_negatives(
            batch['image_index'], batch['image_id'], batch['sample_seed']
        )
        states = self._encode(batch, images, batch['input_ids'], image_index, output='cls', align=True)
        matched = to_device(matched, states.rows.device)
        losses = self.itm_head.loss(self.encoder.pool(states), matched)
        if self.wpa_head:
            losses |= self.wpa_head.loss(*self._aligned(batch, states), matched)
        return losses

    def _aligned(self, batch: Batch, states: ViLTStates) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Words (B, L, D), their mask (B, L), patches (B, P, D) and their mask (B, P), as `WPAHead` takes them."""
        if states.inner is not None:
            states = ViLTStates(states.inner, states.packing, 'all')
        word_mask = to_device(batch['word_ids'] >= 0, states.rows.device)
        return states.words(batch['input_ids'].shape[1]), word_mask, *states.patches()

    def _encode(
        self,
        batch: Batch,
        images: Images,
        input_ids: Tensor,
        image_index: Tensor,
        output: Output,
        align: bool = False,
    ) -> ViLTStates:
        """The states of a pass: the batch with its own words (B, L) or damaged ones, and true or exchanged images.

        `align`: keep, beside those that `output` names, the states that the alignment head asks for.
        """
        inner_block = self.wpa_head.block if align and self.wpa_head else None
        if align and self.wpa_head and inner_block is None:
            output = 'all'
        return self.encoder(
            input_ids=input_ids,
            text_mask=batch['text_mask'],
            images=images,
            grids=batch['grids'],
            image_index=image_index,
            output=output,
            inner_block=inner_block,
        )

    @torch.no_grad()
    def align(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Transport plans (B, L, P) of a batch's true pairs, with the word mask (B, L) and the patch mask (B, P)."""
        batch = self.data_preprocessor(batch)
        images = self.encoder.embed_images(batch['patches'], batch['grids'])
        states = self._encode(batch, images, batch['input_ids'], batch['image_index'], output='cls', align=True)
        words, word_mask, patches, patch_mask = self._aligned(batch, states)
        _, plan = self.wpa_head(words, word_mask, patches, patch_mask)
        return plan, word_mask, patch_mask

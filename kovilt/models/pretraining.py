"""Pre-training: masked language modelling, image-text matching and word-patch alignment, L = L1 + L2 + 0.5 L3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kovilt.batch import Batch
from kovilt.models.base import KoviltModel
from kovilt.modules.heads.itm import ITMHead
from kovilt.modules.heads.mlm import IGNORE_INDEX, MLMHead
from kovilt.modules.heads.wpa import WPAHead
from kovilt.modules.packing import to_device
from kovilt.modules.vilt import ViLTStates
from kovilt.ranges import Count, check_arguments
from kovilt.registry import MODELS


@MODELS.register_module()
class ViLTForPreTraining(KoviltModel):
    """ViLT with the three objectives of section 3, in two passes over each batch.

    (a) masked captions with their own images: masked language modelling (MLM); (b) whole captions, half of them with
    another image: image-text matching (ITM) and word-patch alignment (WPA). Images are embedded once for both passes;
    `PrefixViLT` also encodes them once.

    Shapes: B pairs, L text length, P patches, D hidden size.

    Args:
        encoder: config of `ViLT` or `PrefixViLT`.
        mlm_head: config of `MLMHead` without what the model passes; None leaves the objective out.
        itm_head: config of `ITMHead`, or None.
        wpa_head: config of `WPAHead`, or None; it shares the pass of `itm_head` and needs it.
        matching_every: every n-th pair takes part in pass (b); 1 = all, as in the paper. Small models learn to use the
            image from MLM sooner than from ITM, so their time is better spent on pass (a).
    """

    @check_arguments
    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        mlm_head: dict[str, Any] | None,
        itm_head: dict[str, Any] | None,
        wpa_head: dict[str, Any] | None,
        matching_every: Count = 1,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        if wpa_head and not itm_head:
            raise ValueError('wpa_head needs itm_head: it aligns the pairs of the matching pass')
        block = (wpa_head or {}).get('block')
        if block is not None and not 0 < block < encoder['num_layers']:
            raise ValueError(f'wpa_head.block {block} is not between 1 and num_layers - 1')
        self.matching_every = matching_every
        self.mlm_head: MLMHead | None = None
        self.itm_head: ITMHead | None = None
        self.wpa_head: WPAHead | None = None
        init_std = self.encoder.init_std
        if mlm_head:
            sizes = dict(hidden_size=self.encoder.hidden_size, vocab_size=self.encoder.vocab_size)
            self.mlm_head = MODELS.build(dict(mlm_head, **sizes, activation=self.encoder.activation, init_std=init_std))
            self.loss_names += ('mlm_loss', 'mlm_accuracy')
        if itm_head:
            self.itm_head = MODELS.build(dict(itm_head, hidden_size=self.encoder.pooled_size, init_std=init_std))
            self.loss_names += ('itm_loss', 'itm_accuracy')
        if wpa_head:
            self.wpa_head = MODELS.build(wpa_head)
            self.loss_names += ('wpa_loss', 'wpa_matched_distance', 'wpa_mismatched_distance')

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        images = self.encoder.embed_images(batch['patches'], batch['grids'])
        losses: dict[str, Tensor] = {}
        if self.mlm_head:  # pass (a)
            input_ids, labels = self.mlm_head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])
            states = self.encode({**batch, 'input_ids': input_ids}, images, 'text')
            losses |= self.mlm_head.loss(states.packed, states.pack_text(labels))
        if self.itm_head:  # pass (b)
            batch = _every_nth_pair(batch, self.matching_every)
            image_index, matched = self.itm_head.sample_negatives(
                batch['image_index'], batch['image_id'], batch['sample_seed']
            )
            states = self._encode_for_matching({**batch, 'image_index': image_index}, images)
            matched = to_device(matched, states.packed.device)
            losses |= self.itm_head.loss(self.encoder.pool(states), matched)
            if self.wpa_head:
                losses |= self.wpa_head.loss(*alignment_inputs(batch, states), matched)
        return losses

    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """One dict of the batch's mean values under the names of `losses`, and of `num_pairs`, their weight."""
        if not len(batch['input_ids']):
            return []
        values = {name: float(value) for name, value in self.losses(batch).items()}
        return [dict(values, num_pairs=len(batch['input_ids']))]

    def _encode_for_matching(self, batch: Batch, images: Any) -> Any:
        """The states of the text [CLS] and, beside them, those that `wpa_head` aligns."""
        if self.wpa_head is None:
            return self.encode(batch, images, 'cls')
        block = self.wpa_head.block
        return self.encode(batch, images, 'all' if block is None else 'cls', inner_block=block)

    @torch.no_grad()
    def fill_masks(
        self, batch: Batch, masked: Tensor | None = None, topk: int = 3
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the model puts into the masked places of its captions, M of all B captions.

        Args:
            masked: bool (B, L), the tokens of words to mask, all by [MASK]; None = words chosen as in training, of
                which some become random tokens and some stay.
            topk: K, how many tokens to give for each place.

        Returns:
            the masked ids (B, L) on the host; the places, int64 (M, 2), a caption and a position each; the ids of the
            K most probable tokens of each place (M, K) and their probabilities (M, K), on the host.

        Raises:
            ValueError: the model has no `mlm_head`.
        """
        if self.mlm_head is None:
            raise ValueError('the model has no mlm_head, so it fills no masks')
        batch = self.data_preprocessor(batch)
        images = self.encoder.embed_images(batch['patches'], batch['grids'])
        if masked is None:
            input_ids, labels = self.mlm_head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])
            masked = labels != IGNORE_INDEX
        else:
            input_ids = batch['input_ids'].masked_fill(masked, self.mlm_head.mask_token_id)
        states = self.encode({**batch, 'input_ids': input_ids}, images, 'text')
        index = states.pack_text(masked).nonzero().squeeze(1)  # in the order of captions and places
        scores = self.mlm_head(states.packed[index.to(states.packed.device)]).float()
        best = scores.softmax(1).topk(min(topk, scores.shape[1]), dim=1)
        return input_ids, masked.nonzero(), best.indices.cpu(), best.values.cpu()

    @torch.no_grad()
    def align(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Transport plans (B, L, P) of the true pairs, with the token mask (B, L) and the patch mask (B, P).

        Raises:
            ValueError: the model has no `wpa_head`.
        """
        if self.wpa_head is None:
            raise ValueError('the model has no wpa_head, so it aligns nothing')
        batch = self.data_preprocessor(batch)
        states = self._encode_for_matching(batch, self.encoder.embed_images(batch['patches'], batch['grids']))
        tokens, token_mask, patches, patch_mask = alignment_inputs(batch, states)
        _, plan = self.wpa_head(tokens, token_mask, patches, patch_mask)
        return plan, token_mask, patch_mask


def _every_nth_pair(batch: Batch, n: int) -> Batch:
    """Every n-th pair of a batch, with all of its images."""
    part = batch.copy()
    for key in ('input_ids', 'text_mask', 'word_ids', 'image_index', 'sample_seed'):
        part[key] = batch[key][::n]
    return part


def alignment_inputs(batch: Batch, states: ViLTStates) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens (B, L, D), their mask (B, L), patches (B, P, D) and their mask (B, P), as `WPAHead` takes them."""
    if states.inner is not None:
        states = ViLTStates(states.inner, states.packing, 'all')
    token_mask = to_device(batch['word_ids'] >= 0, states.packed.device)
    return states.text(batch['input_ids'].shape[1]), token_mask, *states.patches()

"""Multiple choice: a score for each option of a question. A pre-trained model can be asked before it is fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.answering import AnsweringModel, rank_options
from kovilt.modules.heads.choice import ChoiceHead
from kovilt.ranges import check_arguments
from kovilt.registry import MODELS

_PAIR_KEYS = ('input_ids', 'text_mask', 'image_index')
_PRETRAINING_HEADS = ('mlm_head', 'itm_head', 'wpa_head')


@MODELS.register_module()
class ViLTForMultipleChoice(AnsweringModel):
    """An encoder with a choice head on the pooled state of each pair of a question and one of its options.

    Options are scored independently of each other, so that their order and number change no score, and answers may be
    given that training has never seen. The images of a batch are embedded once for all options; `PrefixViLT` also
    encodes them once.

    Shapes: B pairs, Q questions, D width of the pooled state.

    Args:
        encoder: config of `ViLT` or `PrefixViLT`; of `METER` for a `METERForMultipleChoice`.
        choice_head: config of `ChoiceHead` without the sizes of the encoder, which the model passes. A training that
            starts from a pre-trained model begins with its matching (ITM) head (`from_matching`).

    Attributes:
        pairs_at_once: pairs that are encoded together where no gradients are needed: a question may have thousands.
    """

    loss_names = ('choice_loss', 'choice_accuracy')
    pairs_at_once = 256

    @check_arguments
    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        choice_head: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        sizes = dict(hidden_size=self.encoder.pooled_size, init_std=self.encoder.init_std)
        self.choice_head = MODELS.build(choice_head | sizes)

    @property
    def head(self) -> nn.Module:
        return self.choice_head

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.choice_head.loss(self.pooled(batch), batch['label'], batch['option_offsets'])

    def scores(self, batch: Batch) -> Tensor:
        """The scores of the pairs of a preprocessed batch, float32 (B,)."""
        count = len(batch['input_ids'])
        with self.answer_context():
            images, parts = self.embedded_images(batch), []
            for start in range(0, count, self.pairs_at_once):
                part = batch.copy()
                for key in _PAIR_KEYS:
                    part[key] = batch[key][start : start + self.pairs_at_once]  # type: ignore[literal-required]
                parts.append(self.choice_head(self.encoder.pool(self.encode(part, images, 'cls'))).float())
        return torch.cat(parts).squeeze(1)

    def answer(self, batch: Batch, topk: int, choices: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """For each question of a batch of `PairCollate` what `rank_options` gives of its choices.

        Threads may share the model.
        """
        return rank_options(self.scores(self.data_preprocessor(batch)) / self.temperature, choices, topk)

    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """For each question its best option, the softmax probability, all options by both, and the question's record.

        Raises:
            KoviltError: the batch has no records, whose `options` name the answers.
        """
        if not len(batch['input_ids']):
            return []
        if 'records' not in batch:
            raise KoviltError('a ChoiceDataset of an evaluation needs keep_record=True, which names the options')
        scores, options = self.scores(batch), [record['options'] for record in batch['records']]
        ranked = rank_options(scores / self.temperature, options)
        return self.join_records(ranked, batch['records'], scores.split([len(texts) for texts in options]))

    @staticmethod
    def from_matching(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a pre-training model as those of this one: its encoder, its matching head as choice head.

        Raises:
            KoviltError: the model was pre-trained without a matching head.
        """
        if 'itm_head.fc.weight' not in state:
            raise KoviltError('pre-trained without image-text matching (ITM), so it cannot choose; fine-tune it first')
        kept = {name: tensor for name, tensor in state.items() if name.split('.')[0] not in _PRETRAINING_HEADS}
        weight, bias = ChoiceHead.from_matching(state['itm_head.fc.weight'], state['itm_head.fc.bias'])
        return kept | {'choice_head.fc.weight': weight, 'choice_head.fc.bias': bias}

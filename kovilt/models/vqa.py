"""Fine-tuning and prediction: visual question answering over the answers of the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.answering import AnsweringModel, rank_answers
from kovilt.ranges import Count, check_arguments
from kovilt.registry import MODELS
from kovilt.unanswerable import is_no_answer


@MODELS.register_module()
class ViLTForVQA(AnsweringModel):
    """An encoder with an answer head on the pooled state of each pair.

    Shapes: B pairs, C answers.

    Args:
        encoder: config of `ViLT` or `PrefixViLT`; of `METER` for a `METERForVQA`.
        vqa_head: config of `VQAHead` without the sizes of the encoder, which the model passes.
        topk: how many answers a prediction lists, best first.

    Attributes:
        answers: the answer vocabulary in label order; empty until `set_answers`.
    """

    loss_names: tuple[str, ...] = ('vqa_loss', 'vqa_accuracy')

    @check_arguments
    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        vqa_head: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        topk: Count = 5,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, data_preprocessor, init_cfg)
        sizes = dict(hidden_size=self.encoder.hidden_size, init_std=self.encoder.init_std)
        if self.encoder.pooled_size != self.encoder.hidden_size:  # else a head of a plugin need not take it
            sizes['pooled_size'] = self.encoder.pooled_size
        self.vqa_head = MODELS.build(vqa_head | sizes)
        self.num_answers: int = vqa_head['num_answers']
        if getattr(self.vqa_head, 'distillation_weight', 0):  # a head of a plugin need not have it
            self.loss_names = ('vqa_loss', 'distillation_loss', 'vqa_accuracy')
        self.topk = topk
        self.answers: list[str] = []
        self._no_answer: list[int] = []  # the classes that say that a question cannot be answered

    def set_answers(self, answers: Sequence[str]) -> None:
        """Name the labels of the answer head; `kovilt.models.sizes.build_model` calls it.

        Raises:
            ValueError: other than one answer for each label, or an answer twice.
        """
        if len(answers) != self.num_answers:
            raise ValueError(f'{len(answers)} answers, but {self.num_answers} in the answer head')
        if len(set(answers)) != len(answers):
            raise ValueError(f'{len(answers)} answers, but only {len(set(answers))} different ones')
        self.answers = list(answers)
        self._no_answer = [label for label, answer in enumerate(answers) if is_no_answer(answer)]

    @property
    def head(self) -> nn.Module:
        return self.vqa_head

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if 'distillation_loss' not in self.loss_names:
            return self.vqa_head.loss(self.pooled(batch), batch['label'])
        if 'teacher_log_probs' not in batch:
            raise KoviltError(
                "model.vqa_head.distillation_weight needs a teacher's scores; give "
                'train_dataloader.dataset.teacher_answers, a file of kovilt distill'
            )
        return self.vqa_head.loss(self.pooled(batch), batch['label'], batch['teacher_log_probs'])

    def scores(self, batch: Batch) -> Tensor:
        """Scores before the softmax of a preprocessed batch, float32 (B, C)."""
        with self.answer_context():
            return self.vqa_head(self.pooled(batch)).float()

    def answer(self, batch: Batch, topk: int, choices: Sequence[Sequence[str]] = ()) -> list[dict[str, Any]]:
        """For each pair of a batch of `PairCollate` what `rank_answers` gives. Threads may share the model."""
        return rank_answers(self.scores(self.data_preprocessor(batch)) / self.temperature, self.answers, topk, choices)

    def predict(self, batch: Batch) -> list[dict[str, Any]]:
        """For each pair its best answer, the softmax probability, the `topk` best of both, and the pair's record.

        A question whose record has `options` is answered with one of them. A model with a class for questions that
        cannot be answered (`is_no_answer`) also gives its probability, `unanswerable`.
        """
        if not len(batch['input_ids']):
            return []
        records = batch.get('records') or [{}] * len(batch['input_ids'])
        options = [record['options'] for record in records if 'options' in record]
        scores = self.scores(batch)
        ranked = rank_answers(scores / self.temperature, self.answers, self.topk, options)
        if self._no_answer and not options:
            shares = (scores / self.temperature).softmax(dim=1)[:, self._no_answer].sum(dim=1).tolist()
            ranked = [dict(best, unanswerable=share) for best, share in zip(ranked, shares, strict=True)]
        return self.join_records(ranked, records, scores)

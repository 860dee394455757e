"""What the models that answer questions share: the pooled state of each pair, its scores, and their ranking."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.models.base import KoviltModel


class AnsweringModel(KoviltModel):
    """An encoder with a head on the pooled state of each pair.

    Attributes:
        answers_in_bfloat16: whether scores are computed in bfloat16; see `kovilt.apis.precision.set_precision`.
        temperature: by which scores are divided before the softmax; see `kovilt.weights.calibration`.
        keeps_scores: whether predictions hold `scores`, numpy float32 (C,), before that division.
    """

    answers_in_bfloat16 = False
    temperature = 1.0
    keeps_scores = False

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """It takes pooled states (B, encoder.pooled_size) and gives the scores of each pair."""

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """The scores of a preprocessed batch, float32: for each pair one, or one for each answer."""

    def pooled(self, batch: Batch) -> Tensor:
        """The pooled state of each pair of a preprocessed batch, (B, encoder.pooled_size)."""
        return self.encoder.pool(self.encode(batch, self.embedded_images(batch), 'cls'))

    def embedded_images(self, batch: Batch) -> Any:
        """The images of a preprocessed batch, as the encoder takes them."""
        images = batch.get('encoded_images')  # of `PrefixViLT`, from the cache of `VQAInferencer`
        return self.encoder.embed_images(batch['patches'], batch['grids']) if images is None else images

    def join_records(
        self, ranked: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]], scores: Iterable[Tensor]
    ) -> list[dict[str, Any]]:
        """Predictions as the metric takes them: ranked answers with their records and, if asked for, their scores."""
        found = [dict(best, record=record) for best, record in zip(ranked, records, strict=True)]
        if self.keeps_scores:
            found = [dict(one, scores=own.cpu().numpy()) for one, own in zip(found, scores, strict=True)]
        return found

    def image_features(self, batch: Batch) -> Tensor:
        """A vector for each image of a preprocessed batch, which no question decides, float32 (I, F)."""
        with self.answer_context():
            return self.encoder.image_features(self.embedded_images(batch), batch['grids']).float()

    def answer_context(self) -> AbstractContextManager[Any]:
        """The context in which the encoder and the head compute scores."""
        if not self.answers_in_bfloat16:
            return nullcontext()
        return torch.autocast(next(self.parameters()).device.type, torch.bfloat16)


def rank_answers(
    scores: Tensor, answers: Sequence[str], topk: int, choices: Sequence[Sequence[str]] = ()
) -> list[dict[str, Any]]:
    """For each pair of scores (B, C) its best answer, the softmax probability, and the `topk` best of both.

    Args:
        choices: for each pair the answers among which it chooses, as `rank_options` does. One that is none of `answers`
            has probability 0, unless that holds for all.
    """
    if choices:
        classes = {answer: number for number, answer in enumerate(answers)}
        lowest = torch.finfo(scores.dtype).min
        flat = [
            row[classes[choice]] if choice in classes else lowest
            for row, own in zip(scores.tolist(), choices, strict=True)
            for choice in own
        ]
        return rank_options(torch.tensor(flat), choices, topk)
    best = scores.softmax(dim=1).topk(min(topk, len(answers)), dim=1)
    ranked = []
    for labels, values in zip(best.indices.tolist(), best.values.float().tolist(), strict=True):
        listed = [dict(answer=answers[label], score=value) for label, value in zip(labels, values, strict=True)]
        ranked.append(dict(listed[0], topk=listed))
    return ranked


def rank_options(scores: Tensor, options: Sequence[Sequence[str]], topk: int | None = None) -> list[dict[str, Any]]:
    """For each question its best option, the softmax probability, `choice` (the option's number), the `topk` best.

    Args:
        scores: (B,), of the options of all questions one after another.
        options: of each question.
        topk: None = list all options. Of equal scores the option that was given first comes first.
    """
    ranked = []
    for own, texts in zip(scores.float().cpu().split([len(texts) for texts in options]), options, strict=True):
        values, order = own.softmax(dim=0).sort(descending=True, stable=True)
        listed = [
            dict(answer=texts[number], score=value)
            for number, value in zip(order[:topk].tolist(), values[:topk].tolist(), strict=True)
        ]
        ranked.append(dict(listed[0], choice=int(order[0]), topk=listed))
    return ranked

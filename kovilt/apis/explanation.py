"""Shows where a model looks when it answers a question about an image: as arrays, PNG, HTML and in a notebook."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from kovilt.apis.pair_transforms import ImageLike, Part, ReadQuestion
from kovilt.apis.questions import clean_question
from kovilt.datasets.collate import pack
from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError, KoviltWarning, nearest
from kovilt.files import atomic_path
from kovilt.models.memory import memory_errors
from kovilt.visualization.explanation import (
    Box,
    ExplainedImage,
    ExplainedWord,
    draw_explanation,
    explanation_html,
    plan_images,
    relevance_image,
    write_explanation_page,
)
from kovilt.weights import GraphVQA

if TYPE_CHECKING:
    from kovilt.apis.vqa import VQAInferencer
    from kovilt.models.explaining import PairRelevance

FILES = ('explanation.png', 'explanation.html', 'explanation.npz')  # that `Explanation.save` writes


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for an answer: the relevance of each patch and each token, and where each token's mass goes.

    Relevance is that of Chefer, Gur and Wolf (kovilt/modules/relevance.py): 0 or more, on one scale for patches and
    tokens. In a notebook it shows itself.

    Shapes: L tokens, W words (eojeols) as far as the model reads them.

    Attributes:
        image: upright, RGB.
        question: normalized.
        answer, score: that is explained, and its softmax probability, calibrated if the model is.
        best_answer: the answer that the model gives, or would give if it did not abstain.
        abstention: what the model answers in its place, below its threshold; None = it does not abstain.
        patch_relevance: float32 (rows, columns).
        attention: float32 (rows, columns), of the text [CLS] to each patch in the last block, for comparison: it is no
            explanation.
        tokens, word_ids: the L tokens as text, and the number of the word of each, -1 for [CLS] and [SEP].
        token_relevance: float32 (L,).
        transport_plan: float32 (L, rows, columns), the mass that each token sends to each patch; None for METER.
        part: of the image that the patches cover: left, top, right, bottom as shares of its width and height.
        source: the model.
    """

    image: Image.Image
    question: str
    answer: str
    score: float
    best_answer: str
    patch_relevance: np.ndarray
    attention: np.ndarray
    tokens: list[str]
    word_ids: np.ndarray
    token_relevance: np.ndarray
    transport_plan: np.ndarray | None
    part: Part
    source: str
    abstention: str | None = None

    @property
    def words(self) -> list[str]:
        """The words of the question that the model reads."""
        return self.question.split()[: int(self.word_ids.max(initial=-1)) + 1]

    @property
    def word_relevance(self) -> np.ndarray:
        """float32 (W,): the sum over the tokens of each word."""
        return np.stack([self.token_relevance[self.word_ids == n].sum() for n in range(len(self.words))])

    @property
    def word_plan(self) -> np.ndarray | None:
        """float32 (W, rows, columns): the sum over the tokens of each word."""
        if self.transport_plan is None:
            return None
        return np.stack([self.transport_plan[self.word_ids == n].sum(axis=0) for n in range(len(self.words))])

    @property
    def most_relevant_patch(self) -> tuple[int, int]:
        """Row and column."""
        row, column = divmod(int(self.patch_relevance.argmax()), self.patch_relevance.shape[1])
        return row, column

    def patch_box(self, row: int, column: int) -> Box:
        """Left, top, right and bottom of a patch in pixels of the image."""
        rows, columns = self.patch_relevance.shape
        left, top, right, bottom = self.part
        width, height = (right - left) * self.image.width / columns, (bottom - top) * self.image.height / rows
        left, top = left * self.image.width + column * width, top * self.image.height + row * height
        return round(left), round(top), round(left + width), round(top + height)

    def relevance_image(self, width: int = 480) -> Image.Image:
        """The image, `width` pixels wide, coloured by relevance; the most relevant patch has the strongest colour."""
        return relevance_image(self._explained(), width)

    def plan_images(self, width: int = 480) -> list[Image.Image]:
        """For each of `words` the image coloured by where its mass goes, on one scale; empty for METER."""
        return [shown for _, shown in plan_images(self._explained(), width)]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the FILES into a folder, in place of older ones, and return it.

        explanation.npz holds the arrays, with texts as arrays of text: `numpy.load` reads it without pickle.

        Raises:
            KoviltError: the folder cannot be written.
        """
        folder = Path(folder)
        png, page, arrays = (folder / name for name in FILES)
        explained = self._explained()
        try:
            draw_explanation(explained, png)
            footer = f'{self.source}. Relevance: Chefer, Gur and Wolf, ICCV 2021.'
            write_explanation_page(explained, page, title=self.question, footer=footer)
            with atomic_path(arrays) as draft, open(draft, 'wb') as file:
                np.savez(file, allow_pickle=False, **self._arrays())
        except OSError as error:
            raise KoviltError(
                f'{folder}: cannot be written ({error.strerror or error}); choose another place'
            ) from error
        return folder

    def _repr_html_(self) -> str:
        """For notebooks."""
        return explanation_html(self._explained())

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = dict(
            patch_relevance=self.patch_relevance,
            attention=self.attention,
            tokens=np.array(self.tokens),
            word_ids=self.word_ids,
            token_relevance=self.token_relevance,
            words=np.array(self.words),
            word_relevance=self.word_relevance,
            part=np.array(self.part),
            question=np.array(self.question),
            answer=np.array(self.answer),
            score=np.array(self.score),
        )
        return arrays if self.transport_plan is None else arrays | {'transport_plan': self.transport_plan}

    def _explained(self) -> ExplainedImage:
        total = max(float(self.patch_relevance.sum() + self.token_relevance.sum()), 1e-30)
        plans = self.word_plan
        return ExplainedImage(
            image=self.image,
            part=pixel_box(self.part, self.image.size),
            patches=self.patch_relevance / total,
            question=self.question,
            answer=self.answer,
            score=self.score,
            best=None if self.best_answer == self.answer else self.best_answer,
            abstention=self.abstention,
            words=[
                ExplainedWord(word, float(share) / total, None if plans is None else plans[number])
                for number, (word, share) in enumerate(zip(self.words, self.word_relevance, strict=True))
            ],
        )


def pixel_box(part: Part, size: tuple[int, int]) -> Box:
    """A part of an image of `size` (width, height), in pixels."""
    left, top, right, bottom = (round(share * side) for share, side in zip(part, size * 2, strict=True))
    return left, top, right, bottom


def explain_answer(
    inferencer: VQAInferencer, image: ImageLike, question: str, answer: str | None = None
) -> Explanation:
    """See `VQAInferencer.explain`."""
    _check_explainable(inferencer)
    model = inferencer.model
    text = clean_question(question, 'question')
    label = None if answer is None else _find_label(inferencer.answers, answer)
    read = inferencer.transforms.read_question(text)
    for message in read.warnings:
        warnings.warn(f'question: {message}', KoviltWarning, stacklevel=3)
    pixels, part = inferencer.transforms.read_source(image)
    found = find_relevance(inferencer, inferencer.transforms.read_image(image), read, label)
    probabilities = (found.scores / model.temperature).softmax(dim=0)
    return Explanation(
        image=Image.fromarray(pixels),
        question=text,
        answer=model.answers[found.label],
        score=float(probabilities[found.label]),
        best_answer=model.answers[int(probabilities.argmax())],
        patch_relevance=found.patches.cpu().numpy(),
        attention=found.attention.cpu().numpy(),
        tokens=inferencer.transforms.token_texts(read.tokens['input_ids'].tolist()),
        word_ids=read.tokens['word_ids'],
        token_relevance=found.tokens.cpu().numpy(),
        transport_plan=None if found.plan is None else found.plan.cpu().numpy(),
        part=part,
        source=inferencer.source,
        abstention=inferencer.abstention if float(probabilities.max()) < inferencer.threshold else None,
    )


def find_relevance(
    inferencer: VQAInferencer, image: Mapping[str, Any], question: ReadQuestion, label: int | None = None
) -> PairRelevance:
    """What speaks for an answer to a question about an image, both read by `inferencer.transforms`.

    Args:
        label: number of the answer; None = the one that the model gives.

    Raises:
        KoviltError: a graph, another precision than float32, or an encoder for which no rule of relevance is known.
    """
    from kovilt.models.explaining import explain_pair

    _check_explainable(inferencer)
    sample = dict(question.tokens, image=image, image_id=0, sample_seed=0)
    with torch.inference_mode(False):
        batch = pack([sample])
        with memory_errors([batch], 'prediction'):
            return explain_pair(inferencer.model, batch, label)


def _check_explainable(inferencer: VQAInferencer) -> None:
    """KoviltError unless gradients can be computed."""
    if isinstance(inferencer.model, GraphVQA):
        raise KoviltError(
            f'{inferencer.source}: a graph has no gradients, which explain needs; give the model folder or checkpoint '
            'that it was exported from'
        )
    if inferencer.chooses:
        raise KoviltError(f'{inferencer.source}: explain is for models that have answers, not for multiple choice')
    if inferencer.precision != 'float32':
        raise KoviltError(f'precision {inferencer.precision}: explain computes gradients in float32; leave it out')


def _find_label(answers: list[str], answer: object) -> int:
    text = normalize_korean(answer) if isinstance(answer, str) else answer
    if text not in answers:
        hint = nearest(str(answer), answers)
        raise KoviltError(f'answer {answer!r}: none of the {len(answers):,} answers of the model{hint}')
    return answers.index(str(text))

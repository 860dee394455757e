"""What the tabs of the demo show, without the page: answers, where a model looks, masked words, errors."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from kovilt.apis import VQAInferencer
from kovilt.apis.masked_words import FilledWord, MaskFiller
from kovilt.apis.questions import clean_question
from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.errors import KoviltError
from kovilt.evaluation.breakdown import Prediction, read_all_predictions
from kovilt.files import read_bytes
from kovilt.model_names import find_model
from kovilt.reporting.images import find_image
from kovilt.rooms.captions import write_captions
from kovilt.rooms.draw_scene import draw_scene
from kovilt.rooms.questions import write_questions
from kovilt.rooms.scene import sample_scene
from kovilt.serving.demo.settings import DemoSettings

Order = Literal['surest', 'least sure', 'file']

_TOPK = 5
_MAX_ROWS = 500  # of the table of errors


class Asked(NamedTuple):
    """The answers to a question with their probability, best first, and what the model cannot read of the question.

    Attributes:
        abstention: what the model answers in place of the best one, which is below its threshold; None = it does not
            abstain.
        unlike_training: whether the image is unlike those of training; False if the model has no image detector.
    """

    answers: dict[str, float]
    warnings: list[str]
    abstention: str | None = None
    unlike_training: bool = False

    @property
    def best(self) -> str:
        """The most probable answer, which the model gives if it does not abstain."""
        return next(iter(self.answers))

    @property
    def given(self) -> str:
        """What the model answers."""
        return self.best if self.abstention is None else self.abstention


class Looked(NamedTuple):
    """Where a model looks for an answer.

    Attributes:
        answer: that is explained.
        image: coloured by the relevance of its patches for the answer.
        words: of the question, each with its share of all relevance, 0 to 1.
        plans: the image coloured by the transport plan of each word; empty for METER.
        abstention: what the model answers in place of its best answer; None = it does not abstain.
    """

    answer: str
    image: Image.Image
    words: list[tuple[str, float]]
    plans: list[Image.Image]
    abstention: str | None = None

    @property
    def most_relevant_word(self) -> int:
        return max(range(len(self.words)), key=lambda number: self.words[number][1])


class Example(NamedTuple):
    """A drawn image with a question and a caption."""

    image: str
    question: str
    caption: str


class Demo:
    """The models and the predictions that the demo shows. Threads may share one; models answer one after the other.

    Raises:
        KoviltError: a model or the predictions cannot be loaded.
    """

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.model = settings.open_model()
        self.other = None if settings.compare is None else VQAInferencer(settings.compare, device=settings.device)
        for name, model in zip(self.names, (self.model, self.other), strict=False):
            if model is not None and model.chooses:
                raise KoviltError(
                    f'{name}: a model of multiple choice, for which the demo has no tab; name another one'
                )
        self.filler = MaskFiller(settings.pretrained, device=settings.device)
        self.predictions = _read_predictions(settings)
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Of the models that answer."""
        return [name for name in (self.settings.model, self.settings.compare) if name is not None]

    def ask(self, pixels: np.ndarray, question: str) -> Asked:
        """Raises KoviltError for a question or an image that cannot be used, as all methods do."""
        return self._ask(self.model, pixels, question)

    def compare(self, pixels: np.ndarray, question: str) -> list[Asked]:
        """The answers of both models to one question."""
        return [self._ask(model, pixels, question) for model in (self.model, self.other) if model is not None]

    def _ask(self, model: VQAInferencer, pixels: np.ndarray, question: str) -> Asked:
        read = model.transforms.read_question(clean_question(question, 'question'))
        with self._lock:
            (found,) = model(pixels, question, topk=_TOPK)
        answers = {one['answer']: one['score'] for one in found['topk']}
        abstention = found['answer'] if found.get('abstained') else None
        return Asked(answers, read.warnings, abstention, found.get('unlike_training', False))

    def look(self, pixels: np.ndarray, question: str, answer: str | None = None) -> Looked:
        """Where the model looks for an answer, None = its own."""
        with self._lock:
            found = self.model.explain(pixels, question, answer)
        total = max(float(found.patch_relevance.sum() + found.token_relevance.sum()), 1e-30)
        words = [(word, float(share) / total) for word, share in zip(found.words, found.word_relevance, strict=True)]
        return Looked(found.answer, found.relevance_image(), words, found.plan_images(), found.abstention)

    def fill(self, pixels: np.ndarray, caption: str, hidden: int) -> FilledWord:
        """What the pre-trained model puts in the place of a word of a caption."""
        with self._lock:
            return self.filler(pixels, caption, hidden, _TOPK)

    @property
    def answer_types(self) -> list[tuple[str, int]]:
        """The answer types of the predictions and how many there are, the most frequent first."""
        return Counter(one['answer_type'] for one in self.predictions).most_common()

    def choose_predictions(self, answer_type: str | None, *, wrong_only: bool, order: Order) -> tuple[list[int], int]:
        """The numbers of the predictions of an answer type, None = any, at most 500 of them; and how many there are."""
        chosen = [
            number
            for number, one in enumerate(self.predictions)
            if answer_type in (None, one['answer_type']) and not (wrong_only and one['correct'] > 0)
        ]
        if order != 'file':
            sign = -1 if order == 'surest' else 1
            chosen.sort(key=lambda number: sign * self.predictions[number]['score'])
        return chosen[:_MAX_ROWS], len(chosen)


def _read_predictions(settings: DemoSettings) -> list[Prediction]:
    if settings.predictions is not None:
        return read_all_predictions(settings.predictions)
    file = Path(find_model(settings.model), 'predictions.jsonl')
    return read_all_predictions(file) if file.is_file() else []


def read_upload(upload: dict[str, Any], folder: Path) -> tuple[str, np.ndarray]:
    """The name of an uploaded image and its pixels, uint8 RGB (H, W, 3), upright. All images pass the same checks here.

    Args:
        upload: what Gradio tells of a file, `path` and `orig_name`.
        folder: that uploads are written to.

    Raises:
        KoviltError: a file outside the folder, or one that is not a readable image.
    """
    path = Path(upload.get('path') or '').resolve()
    if not path.is_relative_to(folder.resolve()):
        raise KoviltError('the image was not uploaded here; upload it')
    name = str(upload.get('orig_name') or 'image')
    return name, LoadImage().transform({'img_path': name, 'img_bytes': read_bytes(path, 'image')})['img']


def read_prediction_image(prediction: Prediction) -> np.ndarray | None:
    """The pixels of the image of a prediction; None if it is absent or cannot be read."""
    try:
        place = find_image(prediction['image'])
        return None if place is None else LoadImage().transform({'img_path': place})['img']
    except KoviltError:
        return None


def draw_examples(folder: Path, count: int = 6) -> Sequence[Example]:
    """Write images of the validation data of Rooms into a folder, each with a question and a caption."""
    examples = []
    for index in range(count):
        scene = sample_scene(0, 'val', index)
        file = folder / f'room{index + 1}.jpg'
        draw_scene(scene, 0, 'val', index)[0].save(file, 'JPEG', quality=90)
        questions = write_questions(scene, 0, 'val', index)
        captions, _ = write_captions(scene, 0, 'val', index)
        examples.append(Example(str(file), questions[index % len(questions)][0], captions[0]))
    return examples

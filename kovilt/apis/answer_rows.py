"""Answers many questions in bulk.

Worker processes read images and tokenize questions while the model computes. They take the rows in windows, whole
images at a time: an image is read once for its questions, and the pairs of a window are sorted by size, so that a
batch holds pairs of about one shape. A `PrefixViLT` encodes it once, too.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from kovilt.apis.pair_transforms import ReadQuestion
from kovilt.apis.question_rows import QuestionRow
from kovilt.apis.questions import check_asked, clean_choices, clean_question
from kovilt.apis.vqa import VQAInferencer
from kovilt.batch import Batch
from kovilt.datasets.collate import pack
from kovilt.datasets.members import Member
from kovilt.errors import KoviltError, RunFault
from kovilt.models.memory import memory_errors
from kovilt.modules.prefix_vilt import PrefixImages, PrefixViLT

_BATCHES_OF_WINDOW = 8  # 200 MB of patches at 384 x 640 pixels, 32 questions a batch, each about another image

Window = list[tuple[int, QuestionRow]]  # rows with their numbers


class PreparedBatch(NamedTuple):
    """Some rows as a model reads them."""

    numbers: list[int]
    batch: Batch
    notes: list[dict[str, Any]]  # of each row: `unknown_token_share`, and `warnings` if there are any
    choices: list[list[str]]  # of each row: the answers among which to choose, none = all of the model


class PreparedWindow(NamedTuple):
    """The rows of a window, in batches, and those that cannot be answered, with the reason."""

    batches: list[PreparedBatch]
    errors: list[tuple[int, str]]


def make_windows(rows: Sequence[QuestionRow], batch_size: int) -> Iterator[Window]:
    """Divide the rows into windows of several batches; the rows of an image stand together, in one window."""
    images: dict[Path | Member, Window] = {}
    for number, row in enumerate(rows):
        images.setdefault(row.place, []).append((number, row))
    window: Window = []
    for group in images.values():
        window += group
        if len(window) >= batch_size * _BATCHES_OF_WINDOW:
            yield window
            window = []
    if window:
        yield window


def answer_windows(
    inferencer: VQAInferencer, windows: Sequence[Window], *, topk: int, workers: int
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Give the results of each batch with the numbers of their rows.

    A result is what `VQAInferencer` returns and maybe `warnings`, or `error` of a row that cannot be answered.

    Args:
        workers: processes that read images; with 0, or a single window, this process does.
    """
    for window in prepare_windows(inferencer, windows, workers=workers):
        if window.errors:
            yield [(number, {'error': message}) for number, message in window.errors]
        encoder = _ImageEncoder(inferencer.model) if inferencer.encodes_once else None
        for numbers, batch, notes, choices in window.batches:
            with torch.inference_mode(), memory_errors([batch], 'prediction'):
                answers = inferencer.rank(encoder.encode(batch) if encoder else batch, choices, topk)
            yield [(number, one | note) for number, one, note in zip(numbers, answers, notes, strict=True)]


def prepare_windows(inferencer: VQAInferencer, windows: Sequence[Window], *, workers: int) -> Iterator[PreparedWindow]:
    """The batches of each window and its errors, in order; `workers` as for `answer_windows`.

    Raises:
        RunFault: a worker was killed.
    """
    workers = workers if len(windows) > 1 else 0
    can_fork = 'fork' in multiprocessing.get_all_start_methods()  # a forked worker shares the rows and the tokenizer
    loader: DataLoader[PreparedWindow] = DataLoader(
        _Windows(windows, inferencer),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=1 if workers else None,
        multiprocessing_context='fork' if workers and can_fork else None,
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith('DataLoader worker'):
            raise
        raise RunFault(
            'a process that reads images was killed, perhaps for lack of memory; the answers so far are safe: repeat '
            'the command with fewer --workers'
        ) from error


def _prepare(samples: list[dict[str, Any]]) -> PreparedBatch:
    numbers, notes, choices = ([one[key] for one in samples] for key in ('row', 'note', 'choices'))
    return PreparedBatch(numbers, pack(samples), notes, choices)


class _ImageEncoder:
    """Encodes the images of a window's batches for a `PrefixViLT`, each once.

    The pairs of an image stand together: if they fill more than a batch, the next one begins with its last image.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._last: tuple[int, PrefixImages] | None = None  # the last image that was encoded, with its id

    def encode(self, batch: Batch) -> Batch:
        """The batch with encoded images in place of their patches."""
        ids, grids, patches = batch['image_id'].tolist(), batch['grids'], batch['patches']
        parts = []
        if self._last is not None and self._last[0] == ids[0]:
            parts.append(self._last[1])
            patches, grids = patches[int(grids[0].prod()) :], grids[1:]
        if len(grids):
            encoder: PrefixViLT = self._model.encoder
            with self._model.answer_context():
                inputs = self._model.data_preprocessor({'patches': patches})
                parts.append(encoder.encode_images(encoder.embed_images(inputs['patches'], grids)))
        images = PrefixImages.concatenate(parts)
        self._last = ids[-1], images.last()
        encoded = batch.copy()
        encoded['encoded_images'] = images
        del encoded['patches']
        return encoded


def _unchanged(window: Any) -> Any:
    """Instead of DataLoader's own conversion, which would turn named tuples and lists into tensors."""
    return window


class _Windows(Dataset[PreparedWindow]):
    """Windows as batches that a model can take."""

    def __init__(self, windows: Sequence[Window], inferencer: VQAInferencer) -> None:
        self._windows, self._transforms, self._batch_size = windows, inferencer.transforms, inferencer.batch_size
        self._chooses, self._choices = inferencer.chooses, inferencer.choices

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> PreparedWindow:
        images: dict[Path | Member, dict[str, Any] | KoviltError] = {}
        image_ids: dict[Path | Member, int] = {}
        samples: list[dict[str, Any]] = []
        errors: list[tuple[int, str]] = []
        for number, row in self._windows[index]:
            try:
                question = self._read_question(row)
                image = images[row.place] = images.get(row.place) or self._read_image(row.place)
                if isinstance(image, KoviltError):
                    raise image
            except KoviltError as error:
                errors.append((number, str(error)))
                continue
            note: dict[str, Any] = {'unknown_token_share': question.unknown_token_share}
            if question.warnings:
                note['warnings'] = question.warnings
            image_id = image_ids.setdefault(row.place, len(image_ids))
            known = dict(image=image, image_id=image_id, sample_seed=0)
            samples.append(question.tokens | known | dict(row=number, note=note, choices=question.choices))
        samples.sort(key=lambda one: (len(one['image']['patches']), one['image_id'], len(one['input_ids'])))
        parts = [samples[at : at + self._batch_size] for at in range(0, len(samples), self._batch_size)]
        return PreparedWindow([_prepare(part) for part in parts], errors)

    def _read_question(self, row: QuestionRow) -> ReadQuestion:
        choices = self._choices
        if self._chooses and row.choices:
            choices = clean_choices(row.choices, 'options')
        check_asked(choices, chooses=self._chooses)
        return self._transforms.read_question(
            clean_question(row.question, 'question', may_be_empty=self._chooses), choices
        )

    def _read_image(self, place: Path | Member) -> dict[str, Any] | KoviltError:
        try:
            return self._transforms.read_image(place)
        except KoviltError as error:
            return error

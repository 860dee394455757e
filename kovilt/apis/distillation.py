"""Lets a trained model, the teacher, answer the questions of a data set for a student that learns from its scores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from kovilt.apis.device import check_device, move_to_device
from kovilt.apis.loading import build_pipelines, load_trained
from kovilt.apis.precision import Precision, check_precision, set_precision
from kovilt.datasets.collate import collate_pairs
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.samplers import GlobalBatchSampler, ImageGroupSampler
from kovilt.datasets.teacher_answers import SUFFIX, write_teacher_answers
from kovilt.engine.loader import watch_workers
from kovilt.errors import KoviltError
from kovilt.models.memory import memory_errors
from kovilt.registry import DATASETS
from kovilt.version import __version__
from kovilt.weights.folder import TrainedModel

_TEACHERS = ('ViLTForVQA', 'METERForVQA')


class Distilled(NamedTuple):
    """What `write_teacher_scores` has written."""

    rows: int
    left_out: int  # rows whose image is broken
    answers: int  # of the teacher
    listed: float  # mean probability that the listed answers have together, 0 to 1
    outside: float | None  # of this, the share of answers outside the data's vocabulary, 0 to 1; None = it has none


def write_teacher_scores(
    teacher: str | os.PathLike[str],
    data: Config,
    out: str | Path,
    *,
    split: str = 'train',
    topk: int = 20,
    config: str | None = None,
    tokenizer: str | None = None,
    batch_size: int = 64,
    workers: int = 0,
    device: str | None = None,
    precision: Precision = 'float32',
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Distilled:
    """Write the teacher's scores for every question of a split into a file that `QuestionDataset` takes.

    The rows are those that a training on `data` uses; images and questions are prepared as the teacher's own config
    does. The file appears when it is complete.

    Args:
        teacher, config, tokenizer: as of `load_trained`.
        data: a config with a `<split>_dataloader` whose dataset has questions.
        out: the file, .arrow.
        topk: how many answers to list for a question, the best ones.
        progress: called with (done, total) questions.

    Raises:
        KoviltError: `out` exists, or has another ending; a teacher without answer head, or whose scores are not finite;
            data without such a split or without questions; as of `load_trained` and the dataset.
    """
    out = Path(out)
    _check_out(out, overwrite)
    check_precision(precision, device)
    device = 'cpu' if precision == 'int8' else device
    check_device(device)
    trained = load_trained(teacher, config=config, tokenizer=tokenizer, kind=_TEACHERS)
    model = trained.model
    answers = [normalize_korean(answer) for answer in model.answers]
    if not answers:
        raise KoviltError(f'{teacher}: it does not say which answers its scores are of; give its model folder')
    build_pipelines(trained)  # checks the tokenizer
    dataset = open_questions(data, split, trained)
    about = {
        'kovilt': __version__,
        'teacher': trained.source or str(teacher),
        'weights': _digest_weights(model),
        'answers': len(answers),
        'topk': topk,
        'data': str(dataset.data_root),
        'split': split,
    }
    move_to_device(model, device)
    set_precision(model, precision, teacher)
    loader = watch_workers(
        DataLoader(
            dataset,
            batch_sampler=GlobalBatchSampler(ImageGroupSampler(dataset, shuffle=False, seed=0), batch_size),
            num_workers=workers,
            collate_fn=collate_pairs,
        )
    )
    vocabulary = dataset.answer_vocabulary
    known = None if vocabulary is None else torch.from_numpy(vocabulary.classes(answers) >= 0)
    shares = _Shares(known)
    rows = write_teacher_answers(
        out, _score_rows(trained, answers, loader, topk, shares, len(dataset), progress), about
    )
    return Distilled(rows, len(dataset) - rows, len(answers), shares.listed / rows, shares.outside_share())


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix != SUFFIX:
        raise KoviltError(f'--out {out}: name a file that ends in {SUFFIX}, such as {out.with_suffix(SUFFIX)}')
    if out.is_dir():
        raise KoviltError(f'--out {out}: this is a folder; name a file in it, such as {out}/teacher{SUFFIX}')
    if out.exists() and not overwrite:
        raise KoviltError(f'--out {out}: there is such a file; name another, or give --overwrite to replace it')


def open_questions(data: Config, split: str, trained: TrainedModel) -> QuestionDataset:
    """The rows of a split that a training on `data` uses, with the pipelines of a trained model.

    Raises:
        KoviltError: there is no such split, or it has no open questions.
    """
    loader = data.get(f'{split}_dataloader')
    if loader is None:
        raise KoviltError(f'--split {split}: the data has no {split}_dataloader, so it names no such split')
    arguments = loader.dataset.to_dict()
    arguments.pop('teacher_answers', None)  # of another teacher, or the file that is about to be written
    arguments |= dict(
        image_pipeline=trained.image_pipeline,
        text_pipeline=trained.text_pipeline,
        keep_record=True,
        cache_images=False,
        test_mode=False,
    )
    with DefaultScope.overwrite_default_scope(data.get('default_scope')):
        dataset = DATASETS.build(arguments)
    if not isinstance(dataset, QuestionDataset):
        raise KoviltError(f'{arguments["type"]}: a teacher scores the questions of a QuestionDataset, and this is none')
    return dataset


class _Shares:
    """Adds up how much probability is listed, and how much of it on answers that the student does not know."""

    def __init__(self, known: torch.Tensor | None) -> None:
        self._known, self.listed, self.outside = known, 0.0, 0.0

    def add(self, labels: torch.Tensor, log_probabilities: torch.Tensor) -> None:
        shares = log_probabilities.double().exp()
        self.listed += shares.sum().item()
        if self._known is not None:
            self.outside += (shares * ~self._known[labels]).sum().item()

    def outside_share(self) -> float | None:
        return None if self._known is None else self.outside / self.listed


@torch.inference_mode()
def _score_rows(
    trained: TrainedModel,
    answers: list[str],
    loader: DataLoader,
    topk: int,
    shares: _Shares,
    total: int,
    progress: Callable[[int, int], None],
) -> Iterator[dict[str, Any]]:
    """A row of the file for each question."""
    model, done = trained.model, 0
    progress(0, total)
    for (batch,) in loader:
        if not len(batch['input_ids']):
            continue  # all images of the batch are broken
        with memory_errors([batch], 'prediction'):
            scores = model.scores(model.data_preprocessor(batch))
            best = scores.log_softmax(dim=1).topk(min(topk, len(answers)), dim=1)
            labels, values = best.indices.cpu(), best.values.cpu()
        if not values.isfinite().all():
            raise KoviltError(f'{trained.source}: its scores are not finite; a teacher must be a model that answers')
        shares.add(labels, values)
        images = batch['image_id'][batch['image_index']].tolist()
        for record, image_id, own, log_probabilities in zip(
            batch['records'], images, labels.tolist(), values.tolist(), strict=True
        ):
            yield {
                'question_id': record['question_id'],
                'image_id': image_id,
                'question': record['question'],
                'answers': [answers[label] for label in own],
                'log_probabilities': log_probabilities,
            }
        done += len(images)
        progress(done, total)
    if not done:
        raise KoviltError(f'none of the images of {total:,} questions can be read; kovilt verify tells why')


def _digest_weights(model: torch.nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()

"""Rows of what changes between save and resume."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.checks import Silent, digest_folder, expect_told
from benchmarks.faults.rig import STEPS, Try, at_step
from benchmarks.faults.rows_data import images_of
from benchmarks.faults.rows_ranks import other_label, other_tokenizer
from benchmarks.faults.suite import row

Change = Callable[[Try], tuple[tuple[str, ...], dict[str, str], Callable[[], None] | None]]


def option(text: str) -> Change:
    return lambda attempt: ((text,), {}, None)


def data(make: Callable[[Try], dict[str, str]]) -> Change:
    return lambda attempt: ((), make(attempt), None)


def other_image(attempt: Try) -> dict[str, str]:
    """A copy of the data in which one image has been replaced by another."""
    rooms = Path(shutil.copytree(attempt.data, attempt.folder / 'other'))
    first, second, *_ = images_of(rooms, 'vqa', 'train')
    shutil.copyfile(second, first)
    return {'KOVILT_ROOMS': str(rooms)}


def other_version(attempt: Try) -> tuple[tuple[str, ...], dict[str, str], Callable[[], None] | None]:
    def fault() -> None:
        import kovilt

        kovilt.__version__ = '99.0'

    return (), {}, fault


# What changes, and the key that is named.
CHANGES: list[tuple[Change, str]] = [
    (option('optim_wrapper.optimizer.lr=0.01'), 'optim_wrapper.optimizer.lr'),
    (option('optim_wrapper.optimizer.weight_decay=0.3'), 'optim_wrapper.optimizer.weight_decay'),
    (option('optim_wrapper.clip_grad.max_norm=9.0'), 'optim_wrapper.clip_grad.max_norm'),
    (option('param_scheduler.warmup=0.5'), 'param_scheduler.warmup'),
    (option('model.encoder.drop_rate=0.3'), 'model.encoder.drop_rate'),
    (option('model.encoder.activation=gelu'), 'model.encoder.activation'),
    (option('model.encoder.num_heads=4'), 'model.encoder.num_heads'),
    (option('train_dataloader.dataset.limit=56'), 'train_dataloader.dataset.limit'),
    (option('train_dataloader.dataset.answers.min_count=1'), 'answer'),
    (option('train_dataloader.dataset.text_pipeline.0.max_text_len=12'), 'max_text_len'),
    (option('train_dataloader.dataset.image_pipeline.1.short=48'), 'image_pipeline'),
    (option('train_dataloader.batch_size=4'), 'pairs_per_step'),
    (option('randomness.seed=5'), 'seed'),
    (data(other_label), ''),
    (data(other_image), ''),
    (data(other_tokenizer), 'tokenizer'),
    (other_version, '99.0'),
]
HARMLESS = (
    ('train_dataloader.num_workers=1',),
    ('default_hooks.checkpoint.interval=5',),
    ('default_hooks.logger.interval=1', 'val_dataloader.num_workers=1'),
)


@row(
    'F24',
    'changed between save and resume: config, data, images, tokenizer, seed, code',
    '저장과 재개 사이의 변경: 설정, 데이터, 이미지, 토크나이저, 시드, 코드',
    tries=len(CHANGES) + len(HARMLESS),
    fast=1,
)
def changed(attempt: Try) -> None:
    """Each change is named and refused, and the work folder stays as it was; the unchanged command then goes on
    exactly. What cannot change the result may change."""
    attempt.task = 'vqa'
    step = attempt.rng.randint(3, STEPS - 1)
    expect_told(attempt.train(fault=at_step('before_step', step, 'SIGTERM')), 75)
    if attempt.number >= len(CHANGES):
        attempt.resume_exactly(*HARMLESS[attempt.number - len(CHANGES)], lost=0)
        return
    change, key = CHANGES[attempt.number]
    options, environment, fault = change(attempt)
    before = digest_folder(attempt.work)
    refused = attempt.train(*options, resume=True, environment=environment, fault=fault)
    expect_told(refused, 2, key)
    if digest_folder(attempt.work) != before:
        raise Silent('the refused run has changed the work folder')
    attempt.resume_exactly(lost=0)

"""A Rooms folder of a few images, and configs of two layers that train on it in a second."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kovilt.datasets import AIHubCOCOKoreanReader, AIHubLivingReader, train_tokenizer
from kovilt.rooms import make_rooms, write_choices

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'

TINY = """
_base_ = {base!r}
model = dict(encoder=dict(
    hidden_size=16, num_layers=2, num_heads=2, patch_size=16, image_size=64, max_text_len=24, drop_rate={drop_rate}),
    {wpa})
{pipelines}
train_dataloader = dict(batch_size=16, num_workers=0, dataset=dict(
    image_pipeline=images, text_pipeline=texts{answers}{limit}))
val_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(image_pipeline=images, text_pipeline=texts))
default_hooks = dict(
    logger=dict(interval=2), run_record=dict(interval=1),
    checkpoint=dict(interval={save_every}, max_keep_ckpts=-1, by_epoch={by_epoch}))
train_cfg = dict(_delete_=True, {length})
log_processor = dict(by_epoch={by_epoch})
load_from = None
{more}
"""
PIPELINES = """
images = [dict(type='LoadImage'), dict(type='ResizeViLT', short=64, long=107),
          dict(type='Patchify')]
texts = [dict(type='TokenizeKorean', tokenizer={tokenizer!r}, max_text_len=24)]
"""


def tiny_rooms(root: Path, images: int = 12, val_images: int = 4) -> Path:
    """Generate Rooms with a tokenizer in the folder that configs of this process and its children read."""
    make_rooms(root, images=images, val_images=val_images, seed=0)
    write_choices(root)
    texts: list[str] = []
    for reader, folder in ((AIHubLivingReader, 'vqa'), (AIHubCOCOKoreanReader, 'captions')):
        texts += reader(data_root=str(root / folder), split='train').read_rows().texts()
    train_tokenizer(texts, root / 'tokenizer', vocab_size=300)
    os.environ['KOVILT_ROOMS'] = str(root)
    return root


def tiny_teacher(path: Path, share: float = 0.7) -> Path:
    """Write a teacher's answers to the training questions: the right one with this share, others with the rest."""
    rows = AIHubLivingReader(data_root=f'{os.environ["KOVILT_ROOMS"]}/vqa', split='train').read_rows().table
    with path.open('w', encoding='utf-8') as file:
        for question_id, answer in zip(rows['question_id'].to_pylist(), rows['answer'].to_pylist(), strict=True):
            answers = {answer: share, '아마도': 0.1, ('아니요' if answer == '예' else '예'): 0.9 - share}
            line = {'question_id': question_id, 'answers': answers}
            file.write(json.dumps(line, ensure_ascii=False) + '\n')
    return path


def tiny_config(
    path: Path,
    *,
    task: str = 'vqa',
    epochs: int = 0,
    steps: int = 0,
    save_every: int = 1,
    drop_rate: float = 0.0,
    limit: int | None = None,
    more: str = '',
) -> Path:
    """Writes a config that inherits from configs/rooms/`task`.py and runs for `epochs` or for `steps`."""
    length = f'by_epoch=True, max_epochs={epochs}' if epochs else f"type='StepTrainLoop', max_iters={steps}"
    path.write_text(
        TINY.format(
            base=str(CONFIGS / 'rooms' / f'{task}.py'),
            drop_rate=drop_rate,
            save_every=save_every,
            by_epoch=bool(epochs),
            length=length,
            more=more,
            wpa='wpa_head=dict(block=1)' if task == 'pretrain' else '',
            answers='' if task in ('pretrain', 'choice') else ', answers=dict(min_count=2)',
            limit=f', limit={limit}' if limit else '',
            pipelines=PIPELINES.format(tokenizer=f'{os.environ["KOVILT_ROOMS"]}/tokenizer'),
        ),
        encoding='utf-8',
    )
    return path

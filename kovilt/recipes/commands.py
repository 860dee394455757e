"""The command lines of kovilt's verbs, as lists of what follows `python`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kovilt.model_names import ASSETS

SHIPPED_ENCODER = str(ASSETS / 'rooms_encoder')  # a model folder; its README tells more
PRETRAINING_LOSSES = ('mlm_loss', 'itm_loss', 'wpa_loss')
VQA_SCALARS = ('vqa_loss', 'vqa_accuracy')


def kovilt(verb: str, *arguments: object) -> list[str]:
    return ['-m', 'kovilt', verb, *map(str, arguments)]


def make_rooms(folder: Path | str, images: int, val_images: int) -> list[str]:
    return kovilt('rooms', folder, '--images', images, '--val-images', val_images)


def make_single_objects(folder: Path | str, images: int) -> list[str]:
    """Rooms images that show a single object each, drawn with a seed of their own."""
    return [*make_rooms(folder, images, 1), '--alone', '1', '--seed', '1']


def train_tokenizer(folder: Path | str, data: Path | str) -> list[str]:
    corpus = ['--captions', f'{data}/captions', '--questions', f'{data}/vqa']
    return kovilt('tokenizer', folder, '--vocab-size', 1000, *corpus)


def train(
    config: str,
    work_dir: Path | str,
    options: Sequence[str] = (),
    *,
    load_from: str = '',
    seed: int | None = None,
    amp: str = 'auto',
    report: bool = False,
) -> list[str]:
    """A training that resumes when it is started again.

    amp: of --amp; '' = full precision. report: it leaves one, with a model folder.
    """
    start = ['--load-from', load_from] if load_from else []
    start += [] if report else ['--no-report']
    if seed is not None:
        start += ['--seed', f'{seed}']
    start += ['--cfg-options', *options] if options else []
    precision = {'auto': ['--amp'], '': []}.get(amp, ['--amp', amp])
    return kovilt('train', config, '--work-dir', work_dir, *precision, '--resume', *start)


def length_options(steps: int, val_interval: int, log_interval: int) -> list[str]:
    """Config options of a training of so many optimizer steps."""
    options = [f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={val_interval}']
    return options + [f'default_hooks.{hook}.interval={log_interval}' for hook in ('logger', 'run_record')]


def tokenizer_options(tokenizer: str, *loaders: str) -> list[str]:
    """Config options that give the loaders ('train', 'val') another tokenizer; '' = the one that the config names."""
    if not tokenizer:
        return []
    return [f'{loader}_dataloader.dataset.text_pipeline.0.tokenizer={tokenizer}' for loader in loaders]


def test(config: str, checkpoint: str, work_dir: Path | str, options: Sequence[str] = ()) -> list[str]:
    """An evaluation that writes metrics.json and predictions.jsonl."""
    command = kovilt('test', config, checkpoint, '--work-dir', work_dir, '--out', f'{work_dir}/predictions.jsonl')
    command.append('--no-report')
    return [*command, '--cfg-options', *options] if options else command


def score_alignment(model: str, rooms: Path | str, out: Path | str) -> list[str]:
    return kovilt('alignment', model, rooms, '--out', out)


def export(checkpoint: str, out: Path | str) -> list[str]:
    return kovilt('export', checkpoint, out, '--overwrite')

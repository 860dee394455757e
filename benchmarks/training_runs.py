"""Trainings that a benchmark repeats in one folder, with several seeds: what is complete is not done again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.files import read_json, read_json_lines, write_json
from kovilt.recipes import commands

Run = Callable[[list[str]], float]  # runs a command of `kovilt.recipes.commands`; returns its processor seconds


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Keep in `out` what the names of its runs do not tell.

    Raises:
        KoviltError: other settings made the runs that are there.
    """
    file = out / 'settings.json'
    if file.exists() and (found := read_json(file)) != settings:
        raise KoviltError(f'{out}: holds runs with {found}, not {settings}; name another --out')
    write_json(file, settings)


def train_and_test(
    run: Run,
    config: str,
    work_dir: Path,
    options: list[str],
    *,
    steps: int,
    batch: int,
    seed: int,
    load_from: str = '',
) -> Path:
    """Train for `steps` of `batch` questions, validate by the last weights; the file of the predictions."""
    predictions = work_dir / 'test' / 'predictions.jsonl'
    if predictions.exists():
        return predictions
    length = [
        *commands.length_options(steps, steps, max(1, steps // 20)),
        f'train_dataloader.batch_size={batch}',
        f'default_hooks.checkpoint.interval={steps}',
    ]
    seconds = run(commands.train(config, work_dir, [*length, *options], load_from=load_from, seed=seed))
    test(run, config, str(work_dir / f'iter_{steps}.pth'), work_dir / 'test', options)
    lines = [row for _, row in read_json_lines(work_dir / 'metrics.jsonl', 'table') if row['mode'] == 'train']
    found = ', '.join(f'{key} {lines[-1][key]:.3f}' for key in lines[-1] if key.endswith(('_loss', '_accuracy')))
    print(f'{work_dir.name}: {found}; {seconds:.0f} s of processor time', file=sys.stderr, flush=True)
    return predictions


def test(run: Run, config: str, checkpoint: str, work_dir: Path, options: list[str]) -> Path:
    """Validate by the `options` that concern a test; the file of the predictions."""
    predictions = work_dir / 'predictions.jsonl'
    if not predictions.exists():
        own = [option for option in options if option.startswith(('model.', 'val_'))]
        run(commands.test(config, checkpoint, work_dir, own))
    return predictions

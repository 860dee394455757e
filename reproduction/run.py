"""Runs the steps of a reproduction, after checking that its work folder and the user's data fit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kovilt.cli.arguments import available_cpus
from kovilt.errors import KoviltError
from kovilt.files import read_json, write_json
from kovilt.recipes.progress import format_duration
from kovilt.recipes.steps import run_steps
from reproduction.plan import Reproduction


def check_settings(work_dir: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings into a new work folder.

    Raises:
        KoviltError: the folder was made with other settings.
    """
    file = work_dir / 'settings.json'
    if not file.is_file():
        write_json(file, settings)
        return
    there = _flatten(read_json(file))
    for key, value in _flatten(settings).items():
        if there.get(key) != value:
            raise KoviltError(f'{work_dir}: made with {key} {there.get(key)!r}, not {value!r}; name another --work-dir')


def _flatten(settings: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flatten(value, f'{prefix}{key}.') if isinstance(value, Mapping) else {f'{prefix}{key}': value}
    return flat


def check_user_data(plan: Reproduction) -> None:
    """Raise KoviltError where a folder of data that the trainings read is missing."""
    from kovilt.engine.config import load_config

    for path in [plan.configs.scratch] + ([plan.configs.pretrain] if 'pretrain_0' in plan.steps else []):
        root = load_config(path).train_dataloader.dataset.reader.data_root
        if not Path(root).expanduser().is_dir():
            raise KoviltError(f'{root}: no such folder, which {path} reads; docs/en/data.md tells what belongs there')


def run_reproduction(plan: Reproduction, jobs: int) -> KoviltError | None:
    """Run all steps, `jobs` at once. Returns the error of a failed step, after the other steps have run."""
    from kovilt.cli.environment import check_environment

    check_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running steps, as Ctrl-C does
    if jobs > 1:
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, available_cpus() // jobs)))
    steps = list(plan.steps.values())
    expected = format_duration(sum(step.seconds for step in steps))
    trainings = len(plan.trainings)
    print(f'{len(steps)} steps, {trainings} of them trainings, into {plan.work_dir}; about {expected} on 2 cores')
    before_cost = [step for step in steps if step.name in ('draw', 'tokenizer', 'cost')] if 'cost' in plan.steps else []
    others = [step for step in steps if step.name != 'cost']
    failures = []
    for part, part_jobs in ((before_cost, 1), (others, jobs)):  # cost is measured while nothing else runs
        try:
            run_steps(part, plan.work_dir, jobs=part_jobs)
        except KoviltError as error:
            failures.append(error)
    return failures[0] if failures else None

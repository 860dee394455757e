"""The rig of the fault suite: data, forked runs, the golden runs without a fault, and what a try finds.

Everything is imported once; each run is a fork of this process and calls the command line of kovilt as a user does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.faults.checks import (
    MOST_LOST,
    Golden,
    Outcome,
    check_exact,
    checked,
    expect,
    last_line,
    read_golden,
)
from benchmarks.faults.hooks import FaultHook, strike
from benchmarks.faults.processes import Process, free_port

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / 'configs'
STEPS, EPOCH = 24, 8  # steps of a run and of an epoch
TWO_RANKS = ('train_dataloader.batch_size=4', 'val_dataloader.batch_size=8')  # options for 8 pairs a step on two ranks
TASKS = 'pretrain', 'vqa'  # configs/epochs.py is a third


class Try:
    """One try of a row, in a process of its own.

    Attributes:
        remove: removes a safeguard of kovilt in each process that is started (`plants`).
        data: the folder of Rooms, which no try may change.
        number: counted from 0.
        rng: seeded by the row and the number.
        task: pre-training in even tries, question answering in odd ones.
    """

    def __init__(
        self,
        row: str,
        number: int,
        folder: Path,
        golden: dict[str, Golden],
        remove: Callable[[], None] | None = None,
    ) -> None:
        self.remove = remove
        self.data = Path(os.environ['KOVILT_ROOMS'])
        self.number, self.folder, self.golden = number, folder, golden
        self.rng = random.Random(f'{row} {number}')
        self.task = TASKS[number % 2]
        self.work = folder / 'run'
        self._logs = 0

    def start(
        self,
        *arguments: object,
        fault: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Process:
        """Start `kovilt ...` in a fork. `fault` is called in it before the command begins."""

        def run() -> int | None:
            from kovilt.cli.main import main

            if fault is not None:
                fault()
            return main([*map(str, arguments)])

        return self.fork(run, environment)

    def fork(self, function: Callable[[], int | None], environment: dict[str, str] | None = None) -> Process:
        """Start a function in a fork, from which the safeguard has been removed if there is one to remove."""

        def run() -> int | None:
            if self.remove is not None:
                self.remove()
            return function()

        self._logs += 1
        return Process(run, self.folder / f'{self._logs}.log', environment)

    def call(self, *arguments: object, timeout: float = 120, **options: Any) -> Outcome:
        """Run `kovilt ...`, with the keywords of `start`.

        Raises:
            Failed: it hangs, or shows a traceback.
        """
        return checked(self.start(*arguments, **options).wait(timeout))

    def train_command(
        self, *, resume: bool = False, work: Path | None = None, task: str = '', options: Iterable[str] = ()
    ) -> list[str]:
        command = ['train', str(CONFIGS / f'{task or self.task}.py'), '--work-dir', str(work or self.work)]
        command += ['--resume'] if resume else []
        return command + (['--cfg-options', *options] if options else [])

    def train(
        self,
        *options: str,
        resume: bool = False,
        work: Path | None = None,
        task: str = '',
        ranks: int = 1,
        fault: Callable[[], None] | None = None,
        faults: dict[int, Callable[[], None]] | None = None,
        timeout: float = 120,
        **others: Any,
    ) -> Outcome:
        """Train with config options, on `ranks` processes without a launcher. The outcome is that of rank 0.

        Args:
            fault: for a single process.
            faults: the faults of several, by rank.
        """
        command = self.train_command(resume=resume, work=work, task=task, options=options)
        if ranks == 1:
            return self.call(*command, timeout=timeout, fault=fault, **others)
        return self.train_ranks([command] * ranks, faults or {}, timeout)[0]

    def train_ranks(
        self,
        commands: list[list[str]],
        faults: dict[int, Callable[[], None]] | None = None,
        timeout: float = 120,
        environments: Sequence[dict[str, str]] | None = None,
    ) -> list[Outcome]:
        """Run a command line for each rank, joined over gloo, and each in an environment of its own."""
        return [checked(process.wait(timeout)) for process in self.start_ranks(commands, faults, environments)]

    def start_ranks(
        self,
        commands: list[list[str]],
        faults: dict[int, Callable[[], None]] | None = None,
        environments: Sequence[dict[str, str]] | None = None,
    ) -> list[Process]:
        """Start what `train_ranks` runs."""
        common = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port()), 'WORLD_SIZE': str(len(commands))}
        return [
            self.start(
                *command[:1],
                '--launcher',
                'pytorch',
                *command[1:],
                fault=(faults or {}).get(rank),
                environment={
                    **common,
                    'RANK': str(rank),
                    'LOCAL_RANK': str(rank),
                    **(environments[rank] if environments else {}),
                },
            )
            for rank, command in enumerate(commands)
        ]

    @property
    def golden_folder(self) -> Path:
        """Where the work folder `run` of the golden run of this task lies."""
        return self.folder.parent / f'golden_{self.task}'

    def test_command(self, checkpoint: Path, out: Path, work: Path) -> list[str]:
        return ['test', str(CONFIGS / f'{self.task}.py'), str(checkpoint), '--out', str(out), '--work-dir', str(work)]

    def check(self, golden: Golden | None = None, *, lost: int = MOST_LOST) -> None:
        """`check_exact` of the work folder."""
        check_exact(self.work, golden or self.golden[self.task], lost=lost)

    def golden_of(self, *options: str, name: str = 'golden', **others: Any) -> Golden:
        """What a run with these options, and these keywords of `train`, gives without a fault, in the folder `name`."""
        if not options and not others and self.task in self.golden:
            return self.golden[self.task]
        return make_golden(self, *options, work=self.folder / name, **others)

    def forget_step(self, step: int) -> None:
        """Leave the first line of a step out of the record of steps: its loss was broken."""
        path = Path(f'{self.work}.trace')
        lines = path.read_text('utf-8').splitlines(keepends=True)
        first = next((n for n, line in enumerate(lines) if json.loads(line)['step'] == step), None)
        path.write_text(''.join(line for n, line in enumerate(lines) if n != first), 'utf-8')

    def clear(self) -> None:
        """Remove the work folder and the record of its steps."""
        remove_folder(self.work)
        Path(f'{self.work}.trace').unlink(missing_ok=True)

    def resume_exactly(
        self, *options: str, lost: int = MOST_LOST, golden: Golden | None = None, **others: Any
    ) -> Outcome:
        """Run the same command with --resume; all runs together must give what one without a fault gives.

        Args:
            lost: how many steps may have been taken twice.
            golden: None = that of the task.

        Raises:
            Silent: they differ.
            Failed: it does not end with 0, or more steps were lost.
        """
        outcome = self.train(*options, resume=True, **others)
        expect(outcome.code == 0, f'the resumed run ended with {outcome.code}: {last_line(outcome)}')
        self.check(golden, lost=lost)
        return outcome


def at_step(event: str, step: int, name: str) -> Callable[[], None]:
    """A fault: what `strike` takes, such as the name of a signal, at an event of FaultHook."""

    def plan() -> None:
        FaultHook.plan[event, step] = lambda runner: strike(name)

    return plan


def make_golden(attempt: Try, *options: str, work: Path | None = None, **others: Any) -> Golden:
    """Train without a fault.

    Raises:
        Failed: it does not end with 0.
    """
    outcome = attempt.train(*options, work=work, **others)
    expect(outcome.code == 0, f'the run without a fault ended with {outcome.code}: {last_line(outcome)}')
    return read_golden(work or attempt.work)


# Data


def make_data(root: Path) -> None:
    """Draw Rooms of 16 and 6 images, and train a tokenizer on its texts; the configs find it by KOVILT_ROOMS."""
    from kovilt.datasets import AIHubCOCOKoreanReader, AIHubLivingReader, train_tokenizer
    from kovilt.rooms import make_rooms

    make_rooms(root, images=16, val_images=6, seed=0)
    texts: list[str] = []
    for reader, folder in ((AIHubLivingReader, 'vqa'), (AIHubCOCOKoreanReader, 'captions')):
        texts += reader(data_root=str(root / folder), split='train').read_rows().texts()
    train_tokenizer(texts, root / 'tokenizer', vocab_size=300)


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _list_modules(folder: Path) -> None:
    """Let a run write the names of what it has imported at its last step."""
    FaultHook.plan['after_step', STEPS] = lambda runner: (folder / 'modules').write_text(
        '\n'.join(sys.modules), 'utf-8'
    )


def prepare(folder: Path) -> tuple[Path, dict[str, Golden]]:
    """Make the data, import everything, train each task without a fault. Returns the data folder and the results."""
    import torch

    data = folder / 'rooms'
    make_data(data)
    os.environ['KOVILT_ROOMS'] = str(data)
    torch.set_num_threads(1)  # a pool of threads would be missing in the forks
    # yapf takes half the time of such a short run; the text of a config is the same program without it
    import mmengine.config.config as mmengine_config

    mmengine_config.FormatCode = lambda code, **_: (code, False)
    golden: dict[str, Golden] = {}
    for task in TASKS:
        place = folder / f'golden_{task}'
        place.mkdir()
        golden[task] = make_golden(Try('golden', 0, place, {}), task=task, fault=partial(_list_modules, place))
        for name in (place / 'modules').read_text('utf-8').split():
            with suppress(Exception):  # some modules are made, not imported
                import_module(name)
    return data, golden

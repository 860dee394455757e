"""What a try finds: exact comparison with the golden run, messages, left-over files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

# Steps that a kill may cost: checkpoints come every 3 steps, and the next may be due while one is being written.
MOST_LOST = 5
_NOT_COMPARED = ('time', 'epoch_seconds', 'texts_per_second', 'peak_memory_mb')


class Failed(Exception):
    """A try did not survive, and the user was told so: by the exit code or a message."""


class Silent(Exception):
    """A try ended as if all were well, and its result is wrong or something is lost."""


class Outcome(NamedTuple):
    """How a process ended."""

    code: int  # exit code; -9 if SIGKILL ended it
    text: str  # stdout and stderr
    seconds: float


class Golden(NamedTuple):
    """What a run without a fault gives."""

    trace: dict[int, dict[str, Any]]  # by step: the lines of FaultHook
    metrics: list[dict[str, Any]]
    checkpoints: dict[str, str]  # digests of the last one and of the best one, by name


def read_golden(work: Path) -> Golden:
    """What the run in a work folder has given."""
    return Golden({line['step']: line for line in read_trace(work)}, read_metrics(work), digest_checkpoints(work))


def check_exact(work: Path, due: Golden, *, lost: int = MOST_LOST) -> None:
    """Compare the runs in a work folder, of which the last has finished, with the one without a fault.

    Args:
        lost: how many steps may have been taken twice.

    Raises:
        Silent: a step, the record or a checkpoint differs.
        Failed: more steps were lost, or files are left over.
    """
    taken = read_trace(work)
    for line in taken:
        if line != due.trace[line['step']]:
            wrong = [name for name in line if line[name] != due.trace[line['step']][name]]
            raise Silent(f'step {line["step"]} differs in {", ".join(wrong)}')
    if missing := due.trace.keys() - {line['step'] for line in taken}:
        raise Silent(f'the run says that it has finished, without the steps {sorted(missing)}')
    if (found := read_metrics(work)) != due.metrics:
        raise Silent(f'metrics.jsonl differs: {difference(due.metrics, found)}')
    if (checkpoints := digest_checkpoints(work)) != due.checkpoints:
        names = {name for name, _ in checkpoints.items() ^ due.checkpoints.items()}
        raise Silent(f'other checkpoints: {", ".join(sorted(names))}')
    again = len(taken) - len(due.trace)
    expect(again <= lost, f'{again} steps were taken twice, more than {lost}')
    check_no_drafts(work)


def check_close(work: Path, due: Golden, *, relative: float = 1e-6) -> None:
    """Compare the runs in a work folder, on one or two ranks in turn, with the golden run on one: the same samples in
    each step, the same losses and scores up to the rounding of sums in another order.

    Raises:
        Silent: they differ.
    """
    samples: dict[int, list[int]] = {}
    for line in read_trace(work) + read_trace(work, rank=1):
        samples.setdefault(line['step'], []).extend(line['samples'])
    for step, line in due.trace.items():
        if sorted(samples.get(step, [])) != sorted(line['samples']):
            raise Silent(f'step {step} has other samples')
    found = read_metrics(work)
    if [(row['mode'], row['step']) for row in found] != [(row['mode'], row['step']) for row in due.metrics]:
        raise Silent(f'metrics.jsonl differs: {difference(due.metrics, found)}')
    for ours, theirs in zip(found, due.metrics, strict=True):
        for name in {'loss', 'accuracy'} & ours.keys():
            if abs(ours[name] - theirs[name]) > relative * abs(theirs[name]):
                raise Silent(f'{ours["mode"]} row of step {ours["step"]}: {name} {ours[name]}, not {theirs[name]}')


def read_trace(work: Path, rank: int = 0) -> list[dict[str, Any]]:
    """The steps of all runs in a work folder, in the order in which they were taken."""
    path = Path(f'{work}.trace' + (f'.rank{rank}' if rank else ''))
    return [json.loads(line) for line in path.read_text('utf-8').splitlines()] if path.exists() else []


def steps_taken(work: Path) -> list[int]:
    return [line['step'] for line in read_trace(work)]


def expect(condition: object, message: str) -> None:
    """Raise Failed unless the condition holds."""
    if not condition:
        raise Failed(message)


def expect_told(outcome: Outcome, code: int, *words: str) -> None:
    """Check that a process refused or stopped with an exit code and one line that holds the words.

    Raises:
        Silent: it ended as if all were well.
        Failed: another code, or a word is missing.
    """
    if outcome.code == 0 != code:
        raise Silent(f'it ended with 0, not {code}')
    expect(outcome.code == code, f'it ended with {outcome.code}, not {code}: {last_line(outcome)}')
    for word in words:
        expect(word in outcome.text, f'{word!r} is not in what it says: {last_line(outcome)}')


def checked(outcome: Outcome) -> Outcome:
    """The outcome; Failed if it shows a traceback."""
    if 'Traceback (most recent call last)' in outcome.text:
        raise Failed(f'a traceback: {last_line(outcome)}')
    return outcome


def describe_end(outcome: Outcome) -> str:
    """How a run ended, for a message about a try that failed."""
    return f'it ended with {outcome.code}: {last_line(outcome)}'


def last_line(outcome: Outcome) -> str:
    return ([line for line in outcome.text.splitlines() if line.strip()] or ['no output'])[-1][:300]


def check_no_drafts(folder: Path) -> None:
    """Failed if temporary files are left in a folder."""
    left = [path.name for path in folder.rglob('*') if path.suffix in ('.tmp', '.old', '.part')]
    expect(not left, f'left over: {left}')


def read_metrics(work: Path) -> list[dict[str, Any]]:
    """The rows of the record without times, and without the 'epoch' rows, which runs of a part of an epoch add."""
    rows = [json.loads(line) for line in (work / 'metrics.jsonl').read_text('utf-8').splitlines()]
    return [{k: v for k, v in row.items() if k not in _NOT_COMPARED} for row in rows if row['mode'] != 'epoch']


def difference(due: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """The first row in which two records differ."""
    for one, other in zip(due, found, strict=False):
        if one != other:
            return f'{one["mode"]} row of step {one["step"]}: {other["mode"]} of step {other["step"]}'
    return f'{len(found)} rows, not {len(due)}'


def latest(work: Path) -> Path:
    from kovilt.formats.checkpoint import latest_checkpoint

    found = latest_checkpoint(work)
    if found is None:
        raise Failed(f'no checkpoint in {work.name}')
    return found


def digest_checkpoints(work: Path) -> dict[str, str]:
    """Digests of the last checkpoint and of the best ones of a run, by name."""
    return {path.name: digest_checkpoint(path) for path in [latest(work), *work.glob('best_*.pth')]}


def digest_checkpoint(path: Path) -> str:
    """A digest of what a run resumes from a checkpoint: weights, optimizer, schedules, step, best score."""
    import torch

    content = torch.load(path, weights_only=True)
    digest = hashlib.blake2b(digest_size=12)

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                digest.update(repr(key).encode())
                add(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add([content.get(key) for key in ('state_dict', 'optimizer', 'param_schedulers')])
    add([content['meta'][key] for key in ('epoch', 'iter')])
    add(content['message_hub']['runtime_info'].get('best_score'))
    return digest.hexdigest()


def digest_folder(folder: Path) -> str:
    """A digest of all files below a folder, to show that nothing has changed them."""
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            digest.update(f'{path.relative_to(folder)}\0'.encode() + path.read_bytes())
    return digest.hexdigest()

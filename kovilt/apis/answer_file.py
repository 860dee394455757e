"""Writes the answers to many questions to a file, so that an interrupted command continues.

Answers go to `OUTPUT.partial-N` as they come, N being the number of the process: first a line that identifies the model
and the questions, then for each row its number, a tab and its line of the output. When all rows are there, their lines
go to OUTPUT, in the order of the questions.
"""

from __future__ import annotations

import glob
import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from kovilt.apis.answer_rows import answer_windows, make_windows
from kovilt.apis.question_rows import QuestionRow
from kovilt.apis.vqa import VQAInferencer, check_count
from kovilt.datasets.preparing_task import THE_ONLY_TASK, Task
from kovilt.errors import KoviltError, RunFault
from kovilt.files import atomic_path, file_sha256, open_file
from kovilt.json_text import MAX_VALUE, dump_json
from kovilt.weights import GraphVQA


class AnswerSummary(NamedTuple):
    """What there is after a call of `write_answers`."""

    rows: int  # with an answer or an error
    failed: int  # with an error
    missing: int  # of other processes; 0: the output is complete
    abstained: int  # answered with the abstention; counted when the output is complete


def write_answers(
    inferencer: VQAInferencer,
    rows: Sequence[QuestionRow],
    output: Path,
    *,
    topk: int = 5,
    workers: int = 1,
    task: Task = THE_ONLY_TASK,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AnswerSummary:
    """Answer all rows and write a JSONL file with a line for each, in their order.

    A line has `image`, `question` and, if the row has one, `question_id`, and what `VQAInferencer` returns, or `error`.
    Repeated after an interruption, it answers the rows that are missing.

    Args:
        task: which of several processes this is. Each answers its windows; the one that ends last writes the output.
        progress: called with (done, total) rows of this process.

    Raises:
        KoviltError: the output exists and `overwrite` is not set; it was begun with another model, options (topk,
            threshold, abstention) or questions.
        RunFault: the output cannot be written, such as for a full disk.
    """
    check_count('topk', topk)
    if output.exists() and not overwrite:
        raise KoviltError(f'{output}: exists; name another file, or add --overwrite')
    digest = _digest(inferencer, rows, topk)
    done: set[int] = set()
    for path in _parts(output):
        try:
            with _Part(path, digest, len(rows)) as part:
                done.update(part.numbers)
        except KoviltError:
            if not overwrite:
                raise
            path.unlink(missing_ok=True)
    windows = [
        [(number, row) for number, row in window if number not in done]
        for index, window in enumerate(make_windows(rows, inferencer.batch_size))
        if task.owns(index)
    ]
    total, answered = sum(map(len, windows)), 0
    progress(0, total)
    own = output.with_name(f'{output.name}.partial-{task.index}')
    with _writing(own):
        file = _open_part(own, digest, len(rows))
    with file:
        for results in answer_windows(inferencer, [one for one in windows if one], topk=topk, workers=workers):
            with _writing(own):
                file.write(b''.join(_line(number, rows[number], result) for number, result in results))
                file.flush()
            answered += len(results)
            progress(answered, total)
    with _writing(output):
        return _join(output, own, digest, len(rows))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFault(
            f'{path}: cannot be written ({error.strerror or error}); the answers so far are safe, the same command '
            'continues'
        ) from error


def _line(number: int, row: QuestionRow, result: dict[str, Any]) -> bytes:
    """A line of a part: the number of the row, a tab and the line of the output."""
    named = {'image': row.image, 'question': row.question}
    if row.question_id is not None:
        named['question_id'] = row.question_id
    return f'{number}\t{dump_json(named | result)}\n'.encode(errors='backslashreplace')


def _digest(inferencer: VQAInferencer, rows: Sequence[QuestionRow], topk: int) -> str:
    """Identifies what is asked, and the model that answers: only answers of the same belong into one file."""
    asked = inferencer.precision, topk, inferencer.answers, inferencer.choices
    abstaining = inferencer.model.temperature, inferencer.threshold, inferencer.abstention
    digest = hashlib.sha256(dump_json([*asked, *abstaining]).encode())
    weights = {} if isinstance(inferencer.model, GraphVQA) else inferencer.model.state_dict()
    for name, value in weights.items():
        if isinstance(value, torch.Tensor):
            digest.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for graph in sorted(Path(inferencer.source).glob('*.onnx')) + sorted(Path(inferencer.source).glob('*.pt2')):
        digest.update(file_sha256(graph, 'weights').encode())
    if inferencer.image_detector is not None:
        digest.update(inferencer.image_detector.whitening.numpy().tobytes())
    for row in rows:
        line = '\0'.join((row.image, row.question, str(row.question_id), *row.choices))
        digest.update(f'{line}\0'.encode(errors='backslashreplace'))
    return digest.hexdigest()


def _parts(output: Path) -> list[Path]:
    return sorted(output.parent.glob(f'{glob.escape(output.name)}.partial-*'))


class _Part:
    """The rows in a part and where their lines begin. A last line without an end, as a kill leaves it, does not count.

    Raises:
        KoviltError: no such file, a damaged one, or one that was begun with another model, options or questions.
    """

    def __init__(self, path: Path, digest: str, rows: int) -> None:
        self.file = open_file(path, 'answers')
        self.numbers, self.starts = array('q'), array('q')
        self.end = 0  # of the last whole line
        header = self.file.readline()
        if not _header(digest).startswith(header):
            self.file.close()
            raise KoviltError(
                f'{path}: begun with another model, options or questions; name another output, or add --overwrite'
            )
        if header.endswith(b'\n'):
            self.end = len(header)
        while line := self.file.readline(MAX_VALUE):
            if not line.endswith(b'\n'):
                break
            number, _, text = line.partition(b'\t')
            if not number.isdigit() or int(number) >= rows or not text:
                self.file.close()
                raise KoviltError(f'{path}: damaged at byte {self.end:,}; add --overwrite to begin anew')
            self.numbers.append(int(number))
            self.starts.append(self.end)
            self.end += len(line)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def line(self, start: int) -> bytes:
        """The line of the output that begins there."""
        self.file.seek(start)
        return self.file.readline().partition(b'\t')[2]


def _header(digest: str) -> bytes:
    return f'kovilt answers {digest}\n'.encode()


def _open_part(path: Path, digest: str, rows: int) -> BinaryIO:
    """The part of this process, open behind its last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = 0
    if path.exists():
        with _Part(path, digest, rows) as part:
            end = part.end
    file = open(path, 'ab')
    file.truncate(end)
    if not end:
        file.write(_header(digest))
        file.flush()
    return file


def _join(output: Path, own: Path, digest: str, rows: int) -> AnswerSummary:
    """Write the output in the order of the rows if all of them are there, and remove the parts."""
    with ExitStack() as files:
        try:
            parts = [files.enter_context(_Part(path, digest, rows)) for path in _parts(output)]
        except KoviltError:
            if own.exists():
                raise
            parts = []
        if not own.exists():  # another process found all rows first, has joined them and removed the parts
            return _summary(output)
        where = np.full((rows, 2), -1)  # part and start of each row's line
        for index, part in enumerate(parts):
            where[part.numbers] = np.stack([np.full(len(part.numbers), index), np.array(part.starts)], axis=1)
        if missing := int((where[:, 0] < 0).sum()):
            return AnswerSummary(rows - missing, 0, missing, 0)
        with atomic_path(output) as draft, open(draft, 'wb') as file:
            file.writelines(parts[index].line(start) for index, start in where.tolist())
    for path in _parts(output):
        path.unlink(missing_ok=True)
    return _summary(output)


def _summary(output: Path) -> AnswerSummary:
    with open_file(output, 'answers') as file:
        kinds = [(b'"error": ' in line, b'"abstained": true' in line) for line in file]  # no text: quotes are escaped
    return AnswerSummary(len(kinds), sum(failed for failed, _ in kinds), 0, sum(abstained for _, abstained in kinds))

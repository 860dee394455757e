"""The names of the columns of a table: as its file has them and as kovilt calls them, and those that may be meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kovilt.errors import KoviltError, nearest, nearest_name

# `answer` or `answers`, of which `answer_weights` may hold the weights
COLUMNS = ('image', 'question', 'answer', 'answers', 'question_id', 'answer_type', 'answer_weights')
_MEANT = {  # names that people give to the columns, without blanks and underscores
    'image': '이미지 사진 이미지명 이미지이름 이미지파일 이미지경로 사진명 사진파일 파일 파일명 파일이름 파일경로 경로 '
    'img imgname imagename imgpath imagepath imgfile imagefile images file filename filepath path',
    'question': '질문 질문내용 질의 문제 문항 물음 questionko questiontext query prompt text',
    'answer': '답 정답 답변 대답 응답 정답내용 answerko answertext multiplechoiceanswer label groundtruth response gt',
    'text': '설명 설명문 이미지설명 캡션 문장 글 captionko captionsko captiontext description sentence sentences',
}


def map_names(names: Sequence[str], columns: Mapping[str, str], place: str, kind: str) -> list[str]:
    """The names of the columns of a table in kovilt's words.

    Args:
        names: as the table has them.
        columns: kovilt's name -> that of the table.
        kind: 'column' or 'key', for messages.

    Raises:
        KoviltError: `columns` names one that is not there.
    """
    for ours, theirs in columns.items():
        if theirs not in names:
            guess = nearest(theirs, names)
            shown = ', '.join(map(repr, names))[:200]
            raise KoviltError(f'{place}: no {kind} {theirs!r}{guess} to take as {ours!r} among {shown}')
    return list(rename_keys(dict.fromkeys(names), columns))


def rename_keys(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row with kovilt's names; a column whose name another one gets is called '... (not used)'."""
    if not columns:
        return row
    ours = {theirs: name for name, theirs in columns.items()}
    return {ours.get(name, f'{name} (not used)' if name in columns else name): value for name, value in row.items()}


def check_names(
    names: Collection[str], place: str, kind: str, *, needs_answer: bool, given: Collection[str] | None = None
) -> None:
    """Check that a row has an image, a question and, if it needs one, an answer, by the names of its columns or keys.

    Args:
        given: the names as the file has them, if `map_names` has changed some.

    Raises:
        KoviltError: it names all that are there, and those that may be meant.
    """
    missing = [name for name in ('image', 'question') if name not in names]
    if needs_answer and 'answer' not in names and 'answers' not in names:
        missing.append('answer')
    if missing:
        needed = "'image', 'question' and 'answer', or 'answers' of several people"
        needed = needed if needs_answer else "'image' and 'question'"
        raise missing_columns(missing, names if given is None else given, place, kind, needed)


def missing_columns(missing: Sequence[str], there: Collection[str], place: str, kind: str, needed: str) -> KoviltError:
    """The message about missing columns; it proposes those of `there` that may be meant.

    Args:
        missing: by kovilt's names.
        there: as the file has them.
        kind: 'column' or 'key'.
        needed: what every row needs.
    """
    free = [name for name in there if name not in COLUMNS]
    meant = {name: found for name in missing if (found := _meant_by(name, free))}
    near = {name: found for name in missing if name not in meant and (found := nearest_name(name, free))}
    mapped = ' '.join(_shell_word(f'{ours}={theirs}') for ours, theirs in (meant | near).items())
    hints = {name: f' (rename {found!r})' for name, found in meant.items()}
    hints |= {name: f' (did you mean {found!r}?)' for name, found in near.items()}
    wanted = ', '.join(f'{name!r}{hints.get(name, "")}' for name in missing)
    return KoviltError(
        f'{place}: no {kind} {wanted} among {", ".join(map(repr, there))[:200]}; every row needs {needed}'
        + (f'; --columns {mapped} takes them' if mapped else '')
    )


def _shell_word(text: str) -> str:
    return text if re.fullmatch(r'[\w=.:/-]+', text) else shlex.quote(text)  # which would quote Hangul


def names_question(names: Collection[str]) -> bool:
    """Whether a row has a question, by the names of its columns or by names that may be meant."""
    return 'question' in names or _meant_by('question', names) is not None


def _meant_by(name: str, others: Collection[str]) -> str | None:
    """The column that people who give it such a name mean by it."""
    known = _MEANT[name].split()
    return next((other for other in others if re.sub(r'[\s_]', '', other.lower()) in known), None)

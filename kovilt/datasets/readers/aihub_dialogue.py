"""Reads the new issue of AI-Hub 101, VQA 질의응답 데이터: an image, an instruction, up to six turns of questions."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from kovilt.datasets.image_store import IMAGE_SUFFIXES, ImageIndex
from kovilt.datasets.readers.aihub import AIHubReader, JSONFile, index_by_subset, json_files
from kovilt.datasets.readers.base import refusing
from kovilt.datasets.readers.json_rows import JSONRows, RowSource
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.datasets.values import check_text, text_of
from kovilt.errors import KoviltError
from kovilt.json_text import MAX_VALUE, encoding_error, parse_json
from kovilt.registry import READERS

KeyPath = tuple[str, ...]  # the keys that lead to a value

_IMAGES = ('image_name', 'image_file', 'image_path', 'file_name', 'filename', 'img_name', 'image', 'image_id', 'img')
_QUESTIONS, _ANSWERS = ('question', 'query', 'q', '질문'), ('answer', 'response', 'a', '답변', '답')
_SPEAKERS, _TEXTS = ('role', 'from', 'speaker'), ('content', 'value', 'text', 'utterance')
_TYPES, _IDS = ('answer_type', 'question_type', 'type'), ('question_id', 'qa_id', 'id')
_MARKS = ('instruction', 'scene', 'facts', 'cot1')  # fields by which the issue is known
_NUMBERED = re.compile(r'([^\W\d_]+)_?(\d{1,2})')  # question1, answer_1
_MAX_DEPTH = 6  # objects within each other that are searched


@READERS.register_module()
class AIHubDialogueReader(AIHubReader):
    """Reader of AI-Hub 101's new issue as downloaded: extracted folders, zips, or both, at any depth.

    A record has an image, an `instruction` (archetype, persona, task), `scene`, `facts`, `cot1` to `cot3` and up to six
    turns of questions and answers; every turn becomes a row. Only these names are public, not how they are nested: the
    reader takes the image from the first field that is called as images are (image_name, file_name, image, image_id,
    ...), and turns from lists of objects with a question and an answer, from turns of a `role` and a `content`, or from
    fields question1, answer1, question2, ... It logs which fields it has used and which it has not.

    A label file holds one record, a list of them, or an object with such a list. Images are found by their name.

    Source of the names: the notice of the re-issue on AI-Hub; the layout is that of all AI-Hub sets.
    """

    DATA_SET = 'AI-Hub 101 (VQA 질의응답 데이터)'
    HOW_TO_GET = (
        'Get the data set from https://aihub.or.kr, Training and Validation, and put the zips or their content beneath '
        'data_root'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        labels, folders, archives = self._find_files()
        images = index_by_subset(folders, archives, set())
        used, others = Counter[str](), Counter[str]()
        for file in (file for label in labels for file in refusing(json_files(label), report)):
            for record, source in refusing(_read_records(file), report):
                try:
                    rows = _read_rows(record, source, images, used)
                except KoviltError as error:
                    report.refuse(error)
                    continue
                others.update(record.keys())
                if not rows:
                    report.leave_out('a record without a question', source)
                for row in rows:
                    yield {**row, 'source': source}
        self._log_fields(used, others)

    def _log_fields(self, used: Counter[str], others: Counter[str]) -> None:
        taken = {field.partition('.')[0].partition('[')[0] for field in used}
        unused = ', '.join(sorted(field for field in others if not taken & {field, _unnumbered(field)}))
        found = ', '.join(f'{field} ({count:,})' for field, count in sorted(used.items()))
        print_log(f'{self.DATA_SET} {self.split}: used {found or "nothing"}; not used: {unused or "none"}', 'current')


class _WholeFile(RowSource):
    """A label file that is one record."""

    @property
    def line(self) -> int:
        return 1


def is_dialogue(record: Any) -> bool:
    """Whether a value in a label file is a record of this issue."""
    return isinstance(record, dict) and any(mark in record for mark in _MARKS) and bool(_find_turns(record))


def is_dialogue_file(file: JSONFile) -> bool:
    """Whether a label file is a single record of this issue."""
    try:
        return is_dialogue(next(_read_records(file), (None, None))[0])
    except KoviltError:
        return False


def _read_records(file: JSONFile) -> Iterator[tuple[dict[str, Any], RowSource]]:
    """The records of a label file."""
    with file.open() as stream:
        source = JSONRows(stream, file.path)
        rows = iter(source)
        key, row = next(rows, ('', None))
        if key is None or isinstance(row, dict) and _find_turns(row) and _image_field(row) is not None:
            for found, record in itertools.chain([(key, row)], rows):
                if found == key and not isinstance(record, dict):
                    raise KoviltError(f'{source.place}: expecting an object, found {str(record)[:40]!r}')
                if found == key:
                    yield record, source
            return
    with file.open() as stream:  # no list of records: the file is one
        content = stream.read(MAX_VALUE + 1)
    if len(content) > MAX_VALUE:
        raise KoviltError(f'{file.path}: no list of records, and too long for a single one; is it the right file?')
    try:
        record = parse_json(content.decode('utf-8-sig'), file.path)
    except UnicodeDecodeError as error:
        raise encoding_error(str(file.path), error) from None
    if not isinstance(record, dict):
        raise KoviltError(f'{file.path}: holds no record, which is an object')
    yield record, _WholeFile(file.path)


def _read_rows(
    record: Mapping[str, Any], source: RowSource, images: ImageIndex, used: Counter[str]
) -> list[dict[str, Any]]:
    """The rows of a record; `used` counts the fields that gave them."""
    turns = _find_turns(record)
    if not turns:
        return []
    path = _image_field(record)
    if path is None:
        known = ', '.join(map(repr, _IMAGES))
        raise KoviltError(f'{source.place}: no field that names an image (one of {known}) in this record')
    value: Any = record
    for key in path:
        value = value[key]
    name = text_of(value, path[-1], source)
    number = images.find(images.groups, '', os.path.basename(name.replace('\\', '/')))
    if number is None and not os.path.splitext(name)[1]:  # an id, which is the name without its suffix
        found = (images.find(images.groups, '', f'{name}{suffix}') for suffix in IMAGE_SUFFIXES)
        number = next((one for one in found if one is not None), None)
    image = FoundImage(images[number], f'aihub101-dialogue/{name}', name)
    used['.'.join(path)] += 1
    rows = []
    for turn, (fields, question, answer, own) in enumerate(turns):
        check_text(question, fields[0], source)
        used.update(fields)
        given = next((own[key] for key in _IDS if own.get(key) not in (None, '')), None)
        rows.append(
            {
                'question': text_of(question, fields[0], source),
                'question_id': f'{name}-{turn}' if given is None else f'{name}-{text_of(given, "id", source)}',
                'answer': answer,
                'answer_type': next((own[key] for key in _TYPES if isinstance(own.get(key), str)), None),
                'image': image,
            }
        )
    return rows


Turn = tuple[list[str], Any, Any, Mapping[str, Any]]  # the fields, question, answer, the object that has them


def _find_turns(value: Any, path: KeyPath = ()) -> list[Turn]:
    """The turns in a value: of the first list or object that has any, outer ones first."""
    if len(path) > _MAX_DEPTH or not isinstance(value, dict):
        return []
    for key, inner in value.items():
        if isinstance(inner, list) and (turns := _turns_of_list(inner, '.'.join((*path, key)))):
            return turns
    if turns := _numbered_turns(value, path):
        return turns
    if _is_turn(value):
        return [_turn_of(value, '.'.join(path))]
    inner_turns = (_find_turns(inner, (*path, key)) for key, inner in value.items())
    return next(filter(None, inner_turns), [])


def _turns_of_list(items: Sequence[Any], name: str) -> list[Turn]:
    if turns := [_turn_of(item, f'{name}[]') for item in items if _is_turn(item)]:
        return turns
    found: list[Turn] = []  # turns of a role and a content
    for item in items:
        speaker, text = _first(item, _SPEAKERS), _first(item, _TEXTS)
        if speaker is None or text is None:
            continue
        asks = str(item[speaker]).lower() in ('user', 'human', 'questioner', '질문자', '사용자')
        if asks:
            found.append(([f'{name}[].{text}'], item[text], None, item))
        elif found and found[-1][2] is None:
            fields, question, _, own = found[-1]
            found[-1] = fields, question, item[text], own
    return found


def _numbered_turns(value: Mapping[str, Any], path: KeyPath) -> list[Turn]:
    """question1, answer1, question2, ... of an object."""
    by_number: dict[int, dict[str, str]] = {}
    for key in value:
        if found := _NUMBERED.fullmatch(key):
            kind = 'question' if found[1].lower() in _QUESTIONS else 'answer' if found[1].lower() in _ANSWERS else ''
            if kind:
                by_number.setdefault(int(found[2]), {})[kind] = key
    turns = list[Turn]()
    for _, keys in sorted(by_number.items()):
        if 'question' in keys and value[keys['question']] not in (None, ''):
            fields = ['.'.join((*path, _unnumbered(key))) for key in keys.values()]
            turns.append((fields, value[keys['question']], value.get(keys.get('answer', ''), None), {}))
    return turns


def _unnumbered(key: str) -> str:
    """question1 -> question*"""
    return f'{found[1]}*' if (found := _NUMBERED.fullmatch(key)) else key


def _is_turn(value: Any) -> bool:
    return _first(value, _QUESTIONS) is not None and _first(value, _ANSWERS) is not None


def _turn_of(value: Mapping[str, Any], name: str) -> Turn:
    question, answer = _first(value, _QUESTIONS), _first(value, _ANSWERS)
    assert question is not None and answer is not None  # it is a turn
    prefix = f'{name}.' if name else ''
    return [f'{prefix}{question}', f'{prefix}{answer}'], value[question], value[answer], value


def _first(value: Any, names: Sequence[str]) -> str | None:
    """The first of these keys that an object has with a text or number."""
    if not isinstance(value, dict):
        return None
    return next((name for name in names if isinstance(value.get(name), str | int | float)), None)


def _image_field(record: Mapping[str, Any]) -> KeyPath | None:
    """The keys that lead to the name of the image, outer objects first; None if there is none."""
    level: list[tuple[KeyPath, Mapping[str, Any]]] = [((), record)]
    while level and len(level[0][0]) < _MAX_DEPTH:
        for path, value in level:
            if (name := _first(value, _IMAGES)) is not None:
                return (*path, name)
        level = [
            ((*path, key), inner) for path, value in level for key, inner in value.items() if isinstance(inner, dict)
        ]
    return None

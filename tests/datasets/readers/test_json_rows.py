import io
import json
import random

import pytest

from kovilt.datasets.readers import json_rows
from kovilt.datasets.readers.json_rows import JSONRows, read_rows
from kovilt.errors import KoviltError


def rows_of(content: str | bytes) -> list:
    content = content.encode() if isinstance(content, str) else content
    return list(JSONRows(io.BytesIO(content), 'labels.json'))


def random_value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(4 if depth > 2 else 6)
    if kind == 4:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return {f'열쇠{number}': random_value(rng, depth + 1) for number in range(rng.randrange(4))}
    return [rng.randrange(-(10**6), 10**9), rng.choice(['고양이 "앉다"', '\\ ] } ,', '']), None, 1.5e-3][kind]


@pytest.mark.parametrize('chunk', [1, 2, 7, 64, 1 << 20])
def test_rows_equal_those_of_json_for_any_chunk_size(monkeypatch, chunk):
    monkeypatch.setattr(json_rows, '_CHUNK', chunk)
    rng = random.Random(chunk)
    for indent in (None, 1):
        rows = [random_value(rng) for _ in range(20)]
        assert rows_of(json.dumps(rows, ensure_ascii=indent is None, indent=indent)) == [(None, row) for row in rows]
        other = {'info': {'images': [1]}, 'images': rows, 'n': 12, 'question': [1, 23], 'end': []}
        expected = [('images', row) for row in rows] + [('question', 1), ('question', 23)]
        assert rows_of('\ufeff' + json.dumps(other, ensure_ascii=False, indent=indent)) == expected


def test_empty_lists_and_objects_have_no_rows():
    assert rows_of('[]') == rows_of(' { } ') == rows_of('{"images": [], "question": [ ]}') == []


def test_the_place_of_a_row_is_known_while_it_is_handled(monkeypatch):
    monkeypatch.setattr(json_rows, '_CHUNK', 16)
    rows = JSONRows(io.BytesIO(b'[\n{"a": 1},\n\n{"a": 2},\n{"a": 3}]'), 'labels.json')
    assert [rows.place for _ in rows] == [f'labels.json, line {line}' for line in (2, 4, 5)]


@pytest.mark.parametrize(
    'content, place',
    [
        ('[{"a": 1},\n {"a": }]', 'line 2, column 8'),
        ('[{"a": 1},\n {"a": "잘린 문', 'line 2, column 8'),
        ('[{"a": 1}', 'line 1, column 10: expecting'),
        ('[{"a": 1}] x', 'line 1, column 12: more text'),
        ('{"images": [1, 2}', 'line 1, column 17'),
        ('{"images" [1]}', "line 1, column 11: expecting ':'"),
        ('{images: [1]}', 'line 1, column 2: expecting a name'),
        ('"text"', 'line 1, column 1: expecting a list'),
        ('<html>', 'line 1, column 1: expecting a list'),
    ],
)
@pytest.mark.parametrize('chunk', [3, 1 << 20])
def test_damage_is_reported_with_its_place(monkeypatch, content, place, chunk):
    monkeypatch.setattr(json_rows, '_CHUNK', chunk)
    with pytest.raises(KoviltError, match='malformed or cut off') as error:
        rows_of(content)
    assert str(error.value).startswith('labels.json, ') and place in str(error.value)
    assert '\n' not in str(error.value)


def test_every_truncation_is_reported():
    content = json.dumps({'images': [{'image_id': 1}], 'question': [{'question': '예?'}]}, ensure_ascii=False).encode()
    for size in range(len(content)):
        with pytest.raises(KoviltError):
            rows_of(content[:size])


def test_a_broken_row_in_a_long_file_is_found_without_reading_on(monkeypatch):
    monkeypatch.setattr(json_rows, 'MAX_VALUE', 1000)
    monkeypatch.setattr(json_rows, '_CHUNK', 1000)
    rows = JSONRows(io.BytesIO(b'[{"a" 1},' + b'{"a": 1},' * 100_000), 'labels.json')
    with pytest.raises(KoviltError, match='line 1, column 7'):
        list(rows)
    assert len(rows._buffer) < 5000


def test_another_encoding_is_reported():
    with pytest.raises(KoviltError, match='not UTF-8 text but CP949.*; save the file as UTF-8'):
        rows_of('[{"a": 1},\n{"a": "고양이"}]'.encode('cp949'))


def test_a_file_without_the_list_is_not_taken_for_one_without_rows(tmp_path):
    path = tmp_path / 'labels.json'
    path.write_text('{"question": []}', 'utf-8')
    assert list(read_rows(path, 'question')) == []
    for content, key in (
        ('{"a": 1}', 'question'),
        ('{"question": 5}', 'question'),
        ('[{"a": 1}]', 'question'),
        ('{}', None),
    ):
        path.write_text(content, 'utf-8')
        with pytest.raises(KoviltError, match='labels.json: has no list .*; is it the right file'):
            list(read_rows(path, key))

"""One strict reader of JSON: equal values for valid files, one line with the place for all others, everywhere."""

import io
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kovilt.datasets.readers import json_rows
from kovilt.datasets.readers.json_rows import JSONRows
from kovilt.errors import KoviltError
from kovilt.files import read_json, read_json_lines, write_json, write_json_lines
from kovilt.json_text import MAX_DEPTH, MAX_DIGITS, MAX_VALUE, dump_json, parse_json

TEXT = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
LAYOUTS = st.fixed_dictionaries(
    {
        'ensure_ascii': st.booleans(),
        'indent': st.sampled_from([None, 1]),
        'separators': st.sampled_from([None, (',', ':'), (' ,\n', ' : ')]),
    }
)

# Text that Python's own parser accepts, with the place and the reason.
REFUSED = {
    '{"a": 1,\n "b": 2, "a": 3}': "line 2, column 10: the key 'a' occurs twice",
    '{"a": 1, "\\u0061": 2}': "line 1, column 10: the key 'a' occurs twice",
    '[{"a": {"x: y": [{"가": 1, "나": ":::", "가": 1}]}}]': "the key '가' occurs twice",
    '[1,\nNaN]': 'line 2, column 1: NaN is not a number of JSON; write a number or null',
    '{"a": [-Infinity]}': 'line 1, column 8: -Infinity is not a number',
    '{"a": 1e999}': 'line 1, column 7: the number 1e999 is too large',
    '{"a": -1.5e+400}': 'the number -1.5e+400 is too large',
    '[' + '9' * 5000 + ']': f'line 1, column 2: a number of 5,000 digits, at most {MAX_DIGITS}',
    '{"a": -' + '9' * (MAX_DIGITS + 1) + '}': 'column 7: a number of 101 digits',
    '[' * 100_000: f'column {MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels',
    '{"a":' * 100_000: f'nested deeper than {MAX_DEPTH} levels',
    '[' * (MAX_DEPTH + 1) + ']' * (MAX_DEPTH + 1): f'nested deeper than {MAX_DEPTH} levels',
    '["가\\ud800"]': 'line 1, column 4: half a character (\\ud800) in a text',
    '{"\\udc00\\ud83d": 1}': 'line 1, column 3: half a character (\\udc00)',
    '["\\ud83d\\ude00\\ude00"]': 'half a character (\\ude00)',
    '["a\\u0000"]': 'line 1, column 4: NUL (\\u0000) in a text',
}
MALFORMED = {
    '': 'the file is empty',
    ' \n': 'the file is empty',
    '[1, 2': '(the text ends here)',
    '["a\0b"]': 'a NUL byte, as in UTF-16',
    '["a\tb"]': 'invalid control character',
    "{'a': 1}": 'line 1, column 2',
    '[1, 2,\n]': 'line 2, column 1',
    '[1] // note': 'line 1, column 5: more text',
    '[01]': 'line 1, column 3',
    '<html></html>': 'line 1, column 1: expecting',
}


def refusal(call, *args):
    with pytest.raises(KoviltError) as caught:
        call(*args)
    message = str(caught.value)
    assert '\n' not in message and len(message) < 400
    return message


def rows_of(content: bytes) -> list:
    return list(JSONRows(io.BytesIO(content), 'a.json'))


@given(VALUES, LAYOUTS)
def test_valid_text_has_the_values_of_json(value, layout):
    text = json.dumps(value, **layout)
    assert parse_json(text, 'a.json') == json.loads(text) == value


@given(st.lists(VALUES, max_size=4), st.dictionaries(TEXT, st.lists(VALUES, max_size=3), max_size=3), LAYOUTS)
def test_rows_of_valid_files_have_the_values_of_json(rows, lists, layout):
    assert rows_of(json.dumps(rows, **layout).encode()) == [(None, row) for row in rows]
    expected = [(key, row) for key, found in lists.items() for row in found]
    assert rows_of(b'\xef\xbb\xbf' + json.dumps(lists, **layout).encode()) == expected


def mutate(data, content: bytes) -> bytes:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        inserted = data.draw(
            st.sampled_from([b'NaN', b'1e999', b'"a":', b'{', b'[', b'}', b']', b',', b'"', b'\\ud800', b'\0', b'\xff'])
            | st.binary(max_size=3)
        )
        content = content[:start] + inserted + content[start + data.draw(st.integers(0, 4)) :]
    return content


@settings(max_examples=300)
@given(st.lists(VALUES, max_size=3), LAYOUTS, st.data())
def test_changed_files_are_read_as_json_does_or_refused_with_their_line(tmp_path_factory, value, layout, data):
    content = mutate(data, json.dumps(value, **layout).encode())
    file = tmp_path_factory.getbasetemp() / 'changed.json'
    file.write_bytes(b'{"a": ' + content + b'}')
    for read in (lambda: (read_json(file), json.loads(file.read_bytes())), lambda: both_rows(content)):
        try:
            found, expected = read()
        except KoviltError as error:
            message = str(error)
            assert '\n' not in message and (', line ' in message or 'UTF-8' in message)
        else:
            assert found == expected


def both_rows(content: bytes) -> tuple[list, list]:
    found, expected = rows_of(content), json.loads(content)
    lists = expected if isinstance(expected, dict) else {None: expected}
    return found, [(key, row) for key, rows in lists.items() if isinstance(rows, list) for row in rows]


@pytest.mark.parametrize('text, reason', (REFUSED | MALFORMED).items(), ids=lambda text: text[:20])
def test_what_json_lets_pass_is_refused_with_its_place_everywhere(tmp_path, text, reason):
    assert reason in refusal(parse_json, text, 'a.json')
    file = tmp_path / 'a.json'
    file.write_text(text, encoding='utf-8')
    if not text.strip():
        reason = 'the file is empty'
    assert refusal(read_json, file).startswith(f'{file}, line ') and reason in refusal(read_json, file)
    if 'line 1' in reason and 'more text' not in reason:
        # As a row of a label file, and as a line of a JSONL file, it has the same reason at its place.
        reason = reason.split(': ', 1)[-1] if ': ' in reason else 'malformed or cut off'
        if text[0] in '[{':
            assert reason in refusal(rows_of, f'[1,\n{text}]'.encode())
        line = refusal(lambda: [*read_json_lines(file, 'table')])
        assert line.startswith(f'{file}, line 1, column ')
        assert reason.replace('malformed or cut off', 'one object in each line') in line


def test_limits_are_generous():
    deepest = '[' * MAX_DEPTH + ']' * MAX_DEPTH
    assert parse_json(deepest, 'a.json') == json.loads(deepest)
    assert parse_json(f'[{"9" * MAX_DIGITS}, 1e308, 0.{"1" * 500}]', 'a.json')[0] == 10**MAX_DIGITS - 1
    assert parse_json('{"\\ud83d\\ude00": "\\\\ud800 \\\\u0000 a:b"}', 'a.json') == {'😀': '\\ud800 \\u0000 a:b'}


@pytest.mark.parametrize('separator', [', ', ',\n'])
@pytest.mark.parametrize('chunk', [50, 1 << 20])
def test_a_row_of_a_file_of_one_line_has_its_column(monkeypatch, separator, chunk):
    monkeypatch.setattr(json_rows, '_CHUNK', chunk)
    rows = [json.dumps({'질문': '무엇?', 'n': number}, ensure_ascii=False) for number in range(40)]
    content = '{"info": {"a": [1]}, "rows": [\n' + separator.join(rows) + ']}'
    source = JSONRows(io.BytesIO(content.encode()), 'a.json')
    lines = content.split('\n')
    for number, _ in enumerate(source):
        if number % 3 == 0:  # places are not asked for at every row
            assert lines[source.line - 1][max(source.column - 1, 0) :].startswith(rows[number])
            assert source.place == f'a.json, line {source.line}' + (
                f', column {source.column}' if source.column else ''
            )
    assert (source.column == 0) == (separator == ',\n')


def test_a_long_row_is_refused_and_a_long_file_is_not(monkeypatch):
    monkeypatch.setattr(json_rows, 'MAX_VALUE', 2000)
    monkeypatch.setattr(json_rows, '_CHUNK', 500)
    row = json.dumps({'a': 'b' * 1500})
    assert len(rows_of(f'[{",".join([row] * 20)}]'.encode())) == 20
    for long in ('{"a": "' + 'b' * 9000, '{"a": [' + '1, ' * 9000, '[' + '{}, ' * 9000):
        message = refusal(rows_of, f'[{row},\n{long}'.encode())
        assert message.startswith('a.json, line 2, column 1: the row that begins here has more than 2,000 characters')


def test_a_long_line_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / 'a.jsonl'
    with file.open('wb') as stream:
        stream.write(b'{"a": 1}\n')
        stream.truncate(200 << 20)  # sparse: it takes no place
    message = refusal(lambda: [*read_json_lines(file, 'table')])
    assert message.startswith(f'{file}, line 2: longer than {MAX_VALUE:,} bytes')


ENCODINGS = {
    'cp949': 'not UTF-8 text but CP949',
    'utf-16': 'not UTF-8 text but UTF-16',
    'utf-16-le': '(not UTF-8 text but UTF-16|a NUL byte, as in UTF-16)',
    'utf-16-be': '(not UTF-8 text but UTF-16|a NUL byte, as in UTF-16)',
    'latin-1': r'not UTF-8 text \(',
}


@pytest.mark.parametrize('encoding, reason', ENCODINGS.items())
def test_other_encodings_are_named_with_the_remedy(tmp_path, encoding, reason):
    file = tmp_path / 'a.json'
    text = '{"question": "à côté?"}' if encoding == 'latin-1' else '{"질문": "소파 위에 무엇이 있나요?"}'
    file.write_bytes(text.encode(encoding))
    for read in (read_json, lambda path: [*read_json_lines(path, 'table')], lambda path: rows_of(path.read_bytes())):
        with pytest.raises(KoviltError, match=f'{reason}.*save (the file|it) as UTF-8'):
            read(file)


def test_a_file_cut_off_within_a_character_is_not_called_korean(tmp_path):
    (tmp_path / 'a.json').write_bytes('{"질문": "소파'.encode()[:-1])
    assert 'not UTF-8 text (' in refusal(read_json, tmp_path / 'a.json')


@given(
    st.recursive(VALUES | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=6)
)
def test_what_kovilt_writes_it_can_read(tmp_path_factory, value):
    """Also NaN, infinite numbers, and names of files that are not UTF-8."""
    file = tmp_path_factory.getbasetemp() / 'own.json'
    write_json(file, {'a': value})
    found = read_json(file)['a']
    write_json_lines(file, [{'a': value}, {'a': 1}])
    assert [row['a'] for _, row in read_json_lines(file, 'table')] == [found, 1]
    try:
        strict = json.dumps(value, allow_nan=False, ensure_ascii=False)
        strict.encode()
    except ValueError:
        return
    assert '\\u0000' in strict or found == value


def test_nan_becomes_null_and_other_values_stay():
    value = {'loss': math.nan, 'all': (1, math.inf, 0.5), 'path': 'a\udcb0\0', 'n': {'질문': None}}
    assert dump_json(value) == ('{"loss": null, "all": [1, null, 0.5], "path": "a\\\\udcb0\\\\0", "n": {"질문": null}}')

"""CSV and JSONL tables, and the types of their values: one message with the place of the row itself."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.tables import CSVTable, JSONLines
from kovilt.datasets.rows import ReadReport, clean_records
from kovilt.errors import KoviltError

HEADER = 'image,question,answer\n'
ROW = 'a.png,무엇?,예\n'


class Record(ReadReport):
    """Keeps the messages, and lets the reader continue."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def refuse(self, error):
        assert '\n' not in str(error) and len(str(error)) < 400
        self.messages.append(str(error))


@pytest.fixture
def read(tmp_path):
    """Read a table as verification does: the clean values of its rows, and the messages without the folder."""

    def read(content: str | bytes, name: str = 'train.csv'):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        report = Record()
        rows = [values for _, values in clean_records(PlainReader(data_root=str(tmp_path), split='train'), report)]
        return rows, [message.replace(f'{tmp_path}/', '') for message in report.messages]

    return read


HEADERS = {
    'image\tquestion\tanswer\na.png\t무엇?\t예\n': "line 1: tabs between the columns 'image question answer'",
    'image;question;answer\na.png;무엇, 어디?;예\n': "line 1: semicolons between the columns 'image;question;answer'",
    '이미지,질문,답\na.png,무엇?,예\n': (
        "line 1: no column 'image' (rename '이미지'), 'question' (rename '질문'), 'answer' (rename '답') "
        "among '이미지', '질문', '답'; every row needs 'image', 'question' and 'answer', or 'answers' of several people"
    ),
    ',img_name,question,h,r,t,answer,fold\n0,a.png,무엇?,,,,예,1\n': "no column 'image' (rename 'img_name') among",
    'image,qestion,answer\na.png,무엇?,예\n': "no column 'question' (did you mean 'qestion'?) among",
    '\n \n이미지,question,answer\na.png,무엇?,예\n': "line 3: no column 'image' (rename '이미지')",
    'Image,Question,Answer\na.png,무엇?,예\n': "no column 'image' (did you mean 'Image'?)",
    'a.png,무엇?,예\nb.png,무엇?,예\n': "no column 'image', 'question', 'answer' among 'a.png', '무엇?', '예'",
    'image,question,answer,answer\na.png,무엇?,예,아니요\n': "line 1: two columns are called 'answer', of 'image'",
    'image,question,answer, question\na.png,무엇?,예,\n': "two columns are called 'question'",
    'image,,question,answer\na.png,무엇?,예,\n': "line 1: column 2 has no name, of 'image', '', 'question'",
    ',image,,question,answer\n1,a.png,무엇?,예,\n': "line 1: two columns are called ''",
    '"image,question,answer\na.png,무엇?,예\n': 'line 1: not CSV (a quote (") opens a cell and does not close it)',
}


@pytest.mark.parametrize('text, message', HEADERS.items(), ids=lambda text: text[:20])
def test_a_wrong_header_is_one_message_for_the_whole_file(read, text, message):
    rows, messages = read(text + text.splitlines()[-1] * 100)
    assert rows == [] and len(messages) == 1
    assert messages[0].startswith('train.csv, line ') and message in messages[0]


def test_keys_of_jsonl_that_are_wrong_everywhere_are_one_message(read):
    row = {'img_name': 'a.png', '질문': '무엇?', 'answer': '예'}
    right = {'image': 'a.png', 'question': '무엇?', 'answer': '예'}
    content = '\n'.join(json.dumps(line, ensure_ascii=False) for line in [row] * 50 + [right, row, {'answer': '예'}])
    rows, (first, last) = read(content, 'train.jsonl')
    assert len(rows) == 1
    assert first.startswith("train.jsonl, line 1: no key 'image' (rename 'img_name'), 'question' (rename '질문') among")
    assert last.startswith("train.jsonl, line 53: no 'image' in this row")


def test_blank_lines_and_the_index_of_pandas_are_passed_over(read):
    rows, messages = read(f'\n\n,{HEADER}\n0,{ROW}   \n,,,\n1,{ROW}')
    assert messages == [] and [row['question'] for row in rows] == ['무엇?'] * 2
    assert [row['question_id'] for row in rows] == ['5', '8']


ROWS = {
    'a.png,무엇?\n': 'line 3: 2 cells, but 3 columns',
    'a.png,무엇, 어디?,예\n': 'line 3: 4 cells, but 3 columns; a cell with a comma needs "quotes"',
    'a.png,"무엇"?,예\n': 'line 3: not CSV (',
    f'a.png,{"가" * 200_000},예\n': 'line 3: not CSV (a cell of more than 131,072 characters)',
    'a.png,무\0엇?,예\n': 'line 3: a NUL byte',
    'a.png,무엇?,예\rb.png,무엇?,예\n': 'line 3: not CSV (a carriage return ends no line); save the file with',
    ',무엇?,예\n': "line 3: 'image' is empty",
}


@pytest.mark.parametrize('row, message', ROWS.items(), ids=lambda text: text[:20])
def test_a_malformed_row_is_named_and_reading_continues(read, row, message):
    rows, messages = read(HEADER + ROW + row + ROW * 2)
    assert len(messages) == 1 and messages[0].startswith('train.csv, ') and message in messages[0]
    assert len(rows) == (1 if '\0' in row else 3)  # NUL: the file is no text


def test_rows_of_several_lines_have_the_line_where_they_begin(read):
    cell = '"무엇,\n""어디""?\n"'
    rows, messages = read(f'{HEADER}a.png,{cell},예\n,{cell},예\na.png,{cell},예,x\n{ROW}')
    assert [row['question_id'] for row in rows] == ['2', '11'] and rows[0]['question'] == '무엇, "어디"?'
    assert [message.split(': ')[0] for message in messages] == ['train.csv, line 5', 'train.csv, line 8']


@pytest.mark.parametrize('count', [5, 20_000])
def test_a_quote_that_swallows_the_file_is_named_in_its_line(read, count):
    """Also behind a cell of several lines in the same row; the rows behind it are read."""
    rows, messages = read(f'{HEADER}{ROW}"a\n.png","무엇?,예\n' + ROW * count)
    assert messages == [
        'train.csv, line 4: not CSV (a quote (") opens a cell and does not close it); close it, or write "" for a quote'
    ]
    assert len(rows) == count + 1


@pytest.mark.parametrize('encoding, name', [('cp949', 'CP949'), ('utf-16', 'UTF-16')])
def test_another_encoding_is_one_message(read, tmp_path, encoding, name):
    for kind in ('train.csv', 'train.jsonl'):
        line = (
            '{"image": "가.png", "question": "무엇?", "answer": "예"}\n'
            if kind == 'train.jsonl'
            else '가.png,무엇?,예\n'
        )
        rows, messages = read((HEADER + line * 50 if kind == 'train.csv' else line * 50).encode(encoding), kind)
        assert rows == [] and len(messages) == 1
        assert f'not UTF-8 text but {name}' in messages[0]
        assert '; save the file as UTF-8 (Excel: "CSV UTF-8")' in messages[0]
        (tmp_path / kind).unlink()


WRONG_TYPES = [['예'], {'a': 1}, True, False, []]


@pytest.mark.parametrize('value', WRONG_TYPES, ids=str)
@pytest.mark.parametrize('key', ['image', 'question', 'question_id', 'answer', 'answer_type'])
def test_values_that_are_no_text_are_refused_in_their_line(read, key, value):
    row = {'image': 'a.png', 'question': '무엇?', 'answer': '예', 'answer_type': '색', 'question_id': 1}
    rows, messages = read(f'{json.dumps(row)}\n{json.dumps({**row, key: value})}\n{json.dumps(row)}', 'train.jsonl')
    assert len(rows) == 2 and len(messages) == 1
    assert messages[0].startswith(f"train.jsonl, line 2: '{key}' is ")


@pytest.mark.parametrize('value', [*WRONG_TYPES, [['예']], [True], [{'a': '예'}]], ids=str)
def test_answers_of_several_people_are_texts(read, value):
    row = {'image': 'a.png', 'question': '무엇?', 'answers': value}
    rows, messages = read(json.dumps(row), 'train.jsonl')
    if value in (['예'], [], {'a': 1}):  # the last: an answer with its weight
        assert len(rows) == 1 and messages == []
    else:
        assert rows == [] and messages[0].startswith("train.jsonl, line 1: 'answers' is ")


def test_a_number_is_an_answer_or_an_id_but_no_question(read):
    row = {'image': 'a.png', 'question': '몇 개?'}
    values = [{'answer': value, 'question_id': value} for value in (3, 3.0, '3', 2.5, -1.0, 10**20, 1e20)]
    rows, messages = read('\n'.join(json.dumps(row | value) for value in values), 'train.jsonl')
    assert messages == []
    assert [row['answer'] for row in rows] == ['3', '3', '3', '2.5', '-1', str(10**20), str(10**20)]
    assert all(row['answer'] == row['question_id'] for row in rows)
    several = {'image': 'a.png', 'question': '몇 개?', 'answers': [3, 3.0, '3']}
    assert read(json.dumps(several), 'train.jsonl')[0][0]['answers'] == ['3', '3', '3']
    rows, messages = read(json.dumps(row | {'question': 3.0, 'answer': '예'}), 'train.jsonl')
    assert rows == [] and messages == ["train.jsonl, line 1: 'question' is the number 3, not a text"]


COLUMNS = [
    (['3.0', '', '1.0', '-2.0'], ['3', '', '1', '-2']),  # what pandas writes for whole numbers with a gap
    (['3.0', '3', '1'], ['3', '3', '1']),  # two such tables joined
    (['3.0', '2.5', '1.0'], ['3.0', '2.5', '1.0']),  # no whole numbers
    (['3.0', '예', '1.0'], ['3.0', '예', '1.0']),  # texts, such as versions
    (['007', '3.00', '1.0'], ['007', '3.00', '1.0']),
    (['1', '2', '3'], ['1', '2', '3']),
]


@pytest.mark.parametrize('cells, answers', COLUMNS, ids=str)
def test_whole_numbers_in_a_column_of_csv_are_read_without_point(read, cells, answers):
    content = HEADER + ''.join(f'a.png,몇 개?,{cell}\n' for cell in cells)
    rows, messages = read(content)
    assert messages == [] and [row['answer'] for row in rows] == answers
    rows, _ = read('image,question,answers,question_id\n' + ''.join(f'a.png,몇?,{cell}|{cell},5.0\n' for cell in cells))
    assert [row['answer'] for row in rows] == answers and {row['question_id'] for row in rows} == {'5'}


CELLS = st.text(st.characters(exclude_categories=['Cs', 'Cc'], include_characters='\n'), max_size=10)


@settings(max_examples=60)
@given(st.lists(st.tuples(CELLS, CELLS.filter(str.strip)), max_size=6))
def test_valid_csv_has_the_cells_that_were_written(tmp_path_factory, cells):
    file = tmp_path_factory.getbasetemp() / 'own.csv'
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([['image', 'question', 'answer'], *(['a.png', *row] for row in cells)])
    file.write_text(text.getvalue(), encoding='utf-8', newline='')
    table = CSVTable(file)
    lines = text.getvalue().split('\n')
    for row, expected in zip(table, cells, strict=True):
        assert (row['question'], row['answer']) == expected and lines[table.line - 1].startswith('a.png,')


@settings(max_examples=100)
@given(st.text('a,"\n\r\t;가.0\0 ', max_size=60) | st.binary(max_size=40), st.sampled_from([CSVTable, JSONLines]))
def test_any_table_is_read_or_refused_with_its_line(tmp_path_factory, content, kind):
    file = tmp_path_factory.getbasetemp() / 'changed.csv'
    file.write_bytes(HEADER.encode() + (content if isinstance(content, bytes) else content.encode()))
    table, ended = kind(file), False
    while not ended:
        try:
            ended = next(table, None) is None
        except KoviltError as error:
            assert str(error).startswith(f'{file}, line ') and '\n' not in str(error)

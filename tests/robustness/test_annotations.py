"""Bad annotation files, each with what is expected: refused in one line, counted, or read by a documented rule."""

import json
import pickle

import pytest

from kovilt.datasets.readers.kvqa import KVQAReader
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.vqav2 import VQAv2Reader
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.rows import read_split
from kovilt.verification.sources import DataSource

ROW = {'image': 'a.png', 'question': '무엇?', 'answer': '예', 'question_id': 1}
KVQA_ROW = {'image': 'a.png', 'question': '무엇?', 'answers': [{'answer': '예'}], 'answer_type': 'yes/no'}
QUESTIONS = [{'question_id': number, 'image_id': 7, 'question': f'무엇 {number}?'} for number in (1, 2)]
ANNOTATIONS = [{'question_id': number, 'multiple_choice_answer': '예'} for number in (1, 2)]


def lines(*rows) -> str:
    return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def plain(folder, content):
    (folder / 'train.jsonl').write_bytes(content if isinstance(content, bytes) else content.encode())
    return PlainReader(data_root=str(folder), split='train').read_rows()


def kvqa(folder, content):
    text = content if isinstance(content, str | bytes) else json.dumps(content, ensure_ascii=False)
    (folder / 'KVQA_annotations_train.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    return KVQAReader(data_root=str(folder), split='train').read_rows()


def vqav2(folder, content):
    for name, value in zip(('questions', 'annotations'), content, strict=True):
        (folder / f'{name}.json').write_text(json.dumps({name: value}, ensure_ascii=False), encoding='utf-8')
    reader = VQAv2Reader(
        data_root=str(folder), split='train', questions='questions.json', annotations='annotations.json'
    )
    return reader.read_rows()


GOOD = lines(ROW, {**ROW, 'question_id': 2})
REFUSED = {
    'empty file': (kvqa, '', 'line 1, column 1: the file is empty'),
    'empty table': (plain, '', "no rows of split 'train'"),
    'truncated': (kvqa, json.dumps([KVQA_ROW])[:-20], 'malformed or cut off'),
    'truncated table': (plain, GOOD[:-30], 'line 2, column'),
    'CP949': (kvqa, json.dumps([KVQA_ROW], ensure_ascii=False).encode('cp949'), 'not UTF-8 text but CP949'),
    'UTF-16': (kvqa, json.dumps([KVQA_ROW], ensure_ascii=False).encode('utf-16'), 'not UTF-8 text but UTF-16'),
    'UTF-16 table': (plain, GOOD.encode('utf-16'), 'not UTF-8 text but UTF-16'),
    'list where an object is due': (kvqa, [[KVQA_ROW]], 'expecting an object'),
    'object where a list is due': (kvqa, {'data': [KVQA_ROW]}, 'has no list of rows'),
    'missing key': (kvqa, [{'image': 'a.png'}], "line 1, column 2: no 'question' in this row"),
    'empty list': (kvqa, [], "no rows of split 'train'"),
    'one bad line': (plain, GOOD + '{"image": \n' + GOOD, 'train.jsonl, line 3, column 10'),
    'NaN': (plain, GOOD.replace('"예"', 'NaN'), 'train.jsonl, line 1, column 49: NaN is not a number'),
    'Infinity': (kvqa, json.dumps([{**KVQA_ROW, 'answer_type': float('inf')}]), 'Infinity is not a number'),
    '1e999': (plain, GOOD.replace('"예"', '1e999'), 'line 1, column 49: the number 1e999 is too large'),
    'key twice': (plain, GOOD.replace('"answer"', '"image"'), "line 1, column 39: the key 'image' occurs twice"),
    'nesting': (kvqa, '[' + '[' * 100_000, 'nested deeper than 100 levels'),
    'nesting in a line': (plain, GOOD + '{"a":' * 100_000 + '\n', 'line 3, column 501: nested deeper'),
    'long number': (plain, GOOD.replace(': 1}', f': {"1" * 5000}}}'), 'a number of 5,000 digits'),
    'long row': (kvqa, f'[{{"image": "{"a" * (9 << 20)}"}}]', 'more than 8,388,608 characters'),
    'long line': (plain, GOOD + f'{{"image": "{"a" * (9 << 20)}"}}\n', 'line 3: longer than 8,388,608 bytes'),
    'null entry': (kvqa, [KVQA_ROW, None], "expecting an object, found 'None'"),
    'null line': (plain, GOOD + 'null\n', "line 3: expecting an object, found 'None'"),
    'question a number': (kvqa, [{**KVQA_ROW, 'question': 3}], "'question' is the number 3, not a text"),
    'question a list': (kvqa, [{**KVQA_ROW, 'question': ['무엇?']}], "'question' is a list"),
    'question null': (plain, lines({**ROW, 'question': None}), "line 1: no 'question' in this row"),
    'answers no list': (kvqa, [{**KVQA_ROW, 'answers': '예'}], "'answers' is not a list"),
    'weight above 1': (kvqa, [{**KVQA_ROW, 'answers': {'예': 2}}], "column 2: 'answers' gives '예' the weight '2'"),
    'weight a text': (plain, lines({**ROW, 'answers': {'예': 'a'}}), "line 1: 'answers' gives '예' the weight 'a'"),
    'weights all 0': (vqav2, (QUESTIONS, [{**ANNOTATIONS[0], 'answers': {'예': 0}}]), 'no answer a weight above 0'),
    'answer a list': (vqav2, (QUESTIONS, [{**ANNOTATIONS[0], 'multiple_choice_answer': ['예']}]), "'answer' is a list"),
    'id a truth value': (
        vqav2,
        ([{**QUESTIONS[0], 'question_id': True}], ANNOTATIONS),
        "'question_id' is a truth value",
    ),
    'pickle': (kvqa, pickle.dumps([KVQA_ROW]), '.json'),
    'YAML': (kvqa, '- !!python/object/apply:os.system ["true"]\n', 'line 1, column 1: expecting a list or an object'),
}


@pytest.mark.parametrize('read, content, message', REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_with_the_file(tmp_path, read, content, message):
    with pytest.raises(KoviltError) as caught:
        read(tmp_path, content)
    said = str(caught.value)
    assert said.startswith(str(tmp_path)) and message in said
    assert '\n' not in said and len(said) < 500


COUNTED = {
    'question empty': (plain, lines(ROW, {**ROW, 'question': ' ', 'question_id': 2}), 1, {'empty question': 1}),
    'answer empty': (plain, lines(ROW, {**ROW, 'answer': '', 'question_id': 2}), 2, {}),  # training counts it later
    'answers empty': (kvqa, [KVQA_ROW, {**KVQA_ROW, 'image': 'b.png', 'answers': []}], 2, {}),
    'id twice': (plain, lines(ROW, ROW), 1, {'question_id seen before': 1}),
    'other length': (vqav2, (QUESTIONS, ANNOTATIONS[:1]), 1, {'question without annotation': 1}),
    'more annotations': (vqav2, (QUESTIONS[:1], ANNOTATIONS), 1,
                         {'question_id not among the questions, or seen before': 1}),
}  # fmt: skip


@pytest.mark.parametrize('read, content, count, left_out', COUNTED.values(), ids=COUNTED)
def test_counted(tmp_path, read, content, count, left_out):
    rows = read(tmp_path, content)
    assert len(rows) == count and rows.left_out == left_out


READ = {
    'BOM': (plain, '\ufeff' + GOOD),
    'BOM of a list': (kvqa, '\ufeff' + json.dumps([KVQA_ROW, {**KVQA_ROW, 'image': 'b.png'}])),
    'blank lines': (plain, '\n' + GOOD.replace('\n', '\n \n\n')),
    'CRLF': (plain, GOOD.replace('\n', '\r\n')),
    'CRLF in a list': (kvqa, json.dumps([KVQA_ROW, {**KVQA_ROW, 'image': 'b.png'}], indent=1).replace('\n', '\r\n')),
    'no line end': (plain, GOOD.rstrip()),
    'ids of two types': (vqav2, (QUESTIONS, [{**row, 'question_id': str(row['question_id'])} for row in ANNOTATIONS])),
    'ids as 1.0': (vqav2, (QUESTIONS, [{**row, 'question_id': float(row['question_id'])} for row in ANNOTATIONS])),
    'other order': (vqav2, (QUESTIONS, ANNOTATIONS[::-1])),
}


@pytest.mark.parametrize('read, content', READ.values(), ids=READ)
def test_read_as_usual(tmp_path, read, content):
    rows = read(tmp_path, content)
    assert len(rows) == 2 and not rows.left_out
    assert {answer.as_py() for answer in rows.table['answer']} == {'예'}
    assert all(text.startswith('무엇') for text in rows.texts())


def test_verification_names_the_column_in_a_file_of_one_line(tmp_path):
    text = json.dumps([{**KVQA_ROW, 'image': f'{number}.png'} for number in range(3)], ensure_ascii=False)
    (tmp_path / 'KVQA_annotations_train.json').write_text(text.replace('무엇?', '   ', 1), encoding='utf-8')
    source, findings = DataSource(KVQAReader, {'data_root': str(tmp_path), 'split': 'train'}, training=True), Findings()
    rows = read_split(source, findings)
    file, begins = (
        tmp_path / 'KVQA_annotations_train.json',
        [text.index(f'{{"image": "{number}') + 1 for number in range(3)],
    )
    (empty,) = findings.of('text.empty')
    assert empty.place == f'{file}, line 1, column {begins[0]}'
    assert [rows.place(row) for row in (0, 1)] == [f'{file}, line 1, column {begin}' for begin in begins[1:]]


def test_a_wrong_header_is_one_finding(tmp_path):
    (tmp_path / 'train.csv').write_text('img_name,question,answer\n' + 'a.png,무엇?,예\n' * 500, encoding='utf-8')
    findings = Findings()
    read_split(DataSource(PlainReader, {'data_root': str(tmp_path), 'split': 'train'}, training=True), findings)
    (refused,) = findings.of('labels.refused')
    assert refused.place == f'{tmp_path}/train.csv, line 1' and findings.counts['labels.refused'] == 1

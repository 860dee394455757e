"""Two prediction files are joined by question, compared, and refused when they do not belong together."""

import json
from pathlib import Path

import pytest

from kovilt.cli.main import main
from kovilt.evaluation.comparison import compare_predictions, read_predictions


def rows(right, *, tolerant=None):
    """A prediction for each of `right`; four share an image."""
    tolerant = right if tolerant is None else tolerant
    return [
        {
            'question_id': str(number),
            'image': f'{number // 4}.jpg',
            'ground_truth': '네',
            'answer_type': '색' if number % 3 else '개수',
            'correct': correct,
            'tolerant_correct': tolerant_score,
        }
        for number, (correct, tolerant_score) in enumerate(zip(right, tolerant, strict=True))
    ]


def write(path: Path, predictions: list) -> Path:
    path.write_text(''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in predictions), encoding='utf-8')
    return path


def run(*arguments) -> int:
    return main(['compare', *map(str, arguments)])


RIGHT_A, RIGHT_B = [True, False, False, True] * 10, [True, True, False, False, True, True, True, False] * 5


def test_what_is_printed_and_written(tmp_path, monkeypatch, capsys):
    a = write(tmp_path / 'a.jsonl', rows(RIGHT_A, tolerant=[True] * 40))
    b = write(tmp_path / 'b.jsonl', rows(RIGHT_B)[::-1])  # the order of lines means nothing
    assert run(a, b, '--json', tmp_path / 'out.json') == 0
    found = json.loads((tmp_path / 'out.json').read_text(encoding='utf-8'))
    assert (found['questions'], found['images']) == (40, 10)
    assert found['accuracy'] == [50, 62.5] and found['difference'] == 12.5
    assert found['tolerant_accuracy'] == [100, 62.5]
    assert (found['only_a'], found['only_b']) == (10, 15) and found['mcnemar_p'] == pytest.approx(0.424, abs=1e-3)
    low, high = found['difference_interval']
    assert low < 12.5 < high
    assert list(found['types']) == ['색', '개수']  # the most frequent first
    assert sum(part['questions'] * part['difference'] for part in found['types'].values()) == pytest.approx(500)
    said = ' '.join(capsys.readouterr().out.split())
    assert f'all 40 50.00 62.50 +12.50 {low:+.2f} to {high:+.2f}' in said
    assert 'by A: 10 questions, by B: 15; McNemar p = 0.424' in said


def test_the_other_way_round_the_sign_turns():
    a, b = ({row['question_id']: row for row in rows(right)} for right in (RIGHT_A, RIGHT_B))
    forth, back, same = compare_predictions(a, b), compare_predictions(b, a), compare_predictions(a, a)
    assert back['difference_interval'] == pytest.approx([-end for end in forth['difference_interval'][::-1]])
    assert back['mcnemar_p'] == forth['mcnemar_p']
    assert same['difference_interval'] == [0, 0] and same['mcnemar_p'] == 1


def test_shares_of_several_answers_count():
    a, b = ({row['question_id']: row for row in rows(right)} for right in ([0.3, 1.0, 0.0], [0.6, 0.9, 0.3]))
    found = compare_predictions(a, b)
    assert found['difference'] == pytest.approx(50 / 3) and (found['only_a'], found['only_b']) == (1, 2)


def changed(number, **values):
    found = rows([True] * 6)
    found[number] |= values
    return found


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (rows([True] * 6)[:4], 'b.jsonl: lacks 2 of the 6 question ids of {a}, e.g. 4, 5'),
        (rows([True] * 8), 'a.jsonl: lacks 2 of the 8 question ids of'),
        (changed(3, question_id='1'), 'b.jsonl, line 4: question id 1 occurs a second time'),
        (changed(3, question_id=None), 'b.jsonl, line 4: no question id'),
        (
            changed(3, ground_truth='예'),
            "b.jsonl: the ground_truth of question 3 is '예', in {a} it is '네' (1 questions differ)",
        ),
        (changed(3, answers=['네', '예']), 'b.jsonl: the answers of question 3'),
        ([{'question_id': 1}], 'b.jsonl, line 1: no image, ground_truth,'),
        ([7], 'b.jsonl, line 1: expecting an object'),
        (changed(3, question_id=['3']), "b.jsonl, line 4: 'question_id' is a list"),
        (changed(3, ground_truth={'a': 1}), "b.jsonl, line 4: 'ground_truth' is an object"),
        (changed(3, answer_type=True), "b.jsonl, line 4: 'answer_type' is a truth value"),
        (changed(3, correct='yes'), "b.jsonl, line 4: 'correct' is 'yes', not true, false or a score from 0 to 1"),
        (changed(3, tolerant_correct=1.5), "b.jsonl, line 4: 'tolerant_correct' is '1.5'"),
        (changed(3, correct=None), "b.jsonl, line 4: 'correct' is 'None'"),
        (changed(3, correct=float('nan')), 'b.jsonl, line 4, column 93: NaN is not a number of JSON'),
        (changed(3, answers='네'), "b.jsonl, line 4: 'answers' is '네', not a list"),
        (changed(3, answers=[['네']]), "b.jsonl, line 4: 'answers' is a list"),
        ([], 'b.jsonl: holds no prediction'),
        ('{"question_id": ', 'b.jsonl, line 1, column 16: expecting value'),
        (b'\xff\xfe', 'b.jsonl, line 1: not UTF-8 text but UTF-16'),
        (None, 'b.jsonl: no such file'),
    ],
)
def test_files_that_do_not_belong_together_are_one_line_and_code_2(other, message, tmp_path, monkeypatch, capsys):
    a, b = write(tmp_path / 'a.jsonl', rows([True] * 6)), tmp_path / 'b.jsonl'
    if isinstance(other, list):
        write(b, other)
    elif other is not None:
        b.write_bytes(other if isinstance(other, bytes) else other.encode())
    assert run(a, b) == 2
    said = capsys.readouterr().err
    assert message.format(a=a) in said and said.count('\n') == 1


def test_numbers_are_read_as_text(tmp_path):
    a = write(tmp_path / 'a.jsonl', rows([True] * 6))
    numbers = [row | {'question_id': float(row['question_id'])} for row in rows([True] * 6)]
    found = compare_predictions(read_predictions(a), read_predictions(write(tmp_path / 'b.jsonl', numbers)))
    assert found['questions'] == 6 and found['difference'] == 0


def test_a_result_that_cannot_be_written_is_an_error(tmp_path, monkeypatch, capsys):
    a = write(tmp_path / 'a.jsonl', rows([True, False]))
    assert run(a, a, '--json', a / 'out.json') == 2
    assert 'out.json: cannot be written' in capsys.readouterr().err

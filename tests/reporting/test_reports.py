"""What every training and every test leaves unasked, and that it harms neither the run nor its reader."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time

import pytest
import torch
from PIL import Image

from kovilt.apis import VQAInferencer
from kovilt.cli import report as report_verb
from kovilt.evaluation.breakdown import by_answer_frequency, by_answer_type, by_question_length, read_all_predictions
from kovilt.files import write_json_lines
from kovilt.reporting import facts, prediction_sections, write_comparison, write_run_report
from kovilt.reporting.calibration import calibration_blocks
from kovilt.reporting.images import thumbnail_of
from kovilt.reporting.page import _write_model
from kovilt.reporting.run import Run
from kovilt.visualization import fonts, write_report
from kovilt.weights.calibration import Calibration, store_calibration
from kovilt.weights.folder import load_model_folder
from kovilt.weights.image_detector import ImageDetector, store_image_detector

LEFT = {'report.html', 'curves.png', 'curves.csv', 'model'}
OF_ANSWERS = (
    *('Result', 'Curves', 'Groups of questions', 'Calibration', 'Confused answers', 'Predictions', 'Data', 'Run'),
    *('kovilt verify', 'expected calibration error', 'Always the most frequent answer'),
)


def text_of(page: str) -> str:
    """The page without the content of its images."""
    return re.sub(r'data:image/[\w+]+;base64,[\w+/=]*', 'data:', page)


@pytest.mark.parametrize('name', ['vqa', 'test', 'pretrain'])
def test_every_run_leaves_a_report_and_what_belongs_to_it(runs, name):
    folder = getattr(runs, name)
    assert {file.name for file in folder.iterdir()} >= LEFT
    assert Image.open(folder / 'curves.png').width > 300
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert 'Missing · 빠진' not in page, re.findall(r'Missing ·.*?</section>', page, re.S)
    headings = re.findall(r'<h2 id="[\w-]+">(.*?)</h2>', page)
    assert len(headings) == len(set(headings)) >= 5
    assert not re.findall(r'(?:src|href)="(?!data:image/|#part-\d+")', page)
    assert '<script' not in page and not re.search(r'https?:|url\(|@import', text_of(page))
    assert page.count('<img ') == page.count('alt="')


def test_the_report_of_answers(runs):
    page = text_of((runs.vqa / 'report.html').read_text(encoding='utf-8')).lower()
    assert all(words.lower() in page for words in OF_ANSWERS)
    assert 'git' in page and 'peak' not in page and 'mib at most' in page and 'train_dataloader' in page
    tested = text_of((runs.test / 'report.html').read_text(encoding='utf-8'))
    assert 'Groups of questions' in tested and 'Curves' in tested


def test_the_report_of_pretraining(runs):
    page = text_of((runs.pretrain / 'report.html').read_text(encoding='utf-8'))
    assert 'Masked words' in page and '[MASK]' in page and page.count('where ') >= 4
    assert 'times the uniform share' in page and 'Calibration' not in page
    assert all(name in page for name in ('mlm_loss', 'itm_loss', 'wpa_loss'))


def test_predictions_are_those_of_the_best_checkpoint(runs):
    """The numbers of the page are the metric's own, and the model folder gives the same answers."""
    run = Run(runs.vqa)
    rows = [row for row in run.rows if row['mode'] == 'val']
    best = max(rows, key=lambda row: (row['accuracy'], -row['step']))
    assert len(rows) == 2 and run.checkpoint.stem == f'best_accuracy_iter_{best["step"]}'
    assert run.result['step'] == best['step']
    predictions = read_all_predictions(runs.vqa / 'predictions.jsonl')
    assert len(predictions) == best['questions']
    groups = {
        'accuracy': by_answer_type(predictions),
        'accuracy_by_length': by_question_length(predictions),
        'accuracy_by_frequency': by_answer_frequency(predictions, run.answer_counts),
    }
    for prefix, found in groups.items():
        expected = {key: best[key] for key in best if key.startswith(f'{prefix}/')}
        assert {f'{prefix}/{one.name}': one.accuracy for one in found} == pytest.approx(expected)
    inferencer = VQAInferencer(runs.vqa / 'model')
    some = predictions[::7]
    answers = inferencer([one['image'] for one in some], [one['question'] for one in some])
    assert [one['score'] for one in answers] == pytest.approx([one['score'] for one in some], abs=1e-5)
    tested = read_all_predictions(runs.test / 'predictions.jsonl')
    assert [one['answer'] for one in tested] == [one['answer'] for one in predictions]


def test_curves_hold_every_number_of_the_record(runs):
    with open(runs.vqa / 'curves.csv', encoding='utf-8-sig', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['mode'], row['step']) for row in rows] == [
        *(('train', '1'), ('train', '2'), ('val', '2')),
        *(('train', '3'), ('train', '4'), ('val', '4')),
    ]
    assert float(rows[0]['vqa_loss']) > 0 and float(rows[2]['majority_accuracy']) > 0


def test_a_report_is_made_anew_and_needs_no_hangul_font(runs, call, monkeypatch):
    page = runs.vqa / 'report.html'
    before = page.read_bytes()
    page.unlink()

    def no_font(*_: object) -> None:
        raise AssertionError('a font was asked for')

    monkeypatch.setattr(fonts, 'korean_font', no_font)
    monkeypatch.setattr(fonts, '_find_font', no_font)
    code, out, error = call('report', runs.vqa)
    assert code == 0 and str(page) in out, error
    assert page.read_bytes() == before


def test_two_runs_side_by_side(runs, call, tmp_path):
    code, out, error = call('report', runs.vqa, runs.test)
    assert code == 0 and str(runs.vqa.parent / 'report_vqa_test.html') in out, error
    page = text_of((runs.vqa.parent / 'report_vqa_test.html').read_text(encoding='utf-8'))
    assert '+0.00 points' in page and 'McNemar' in page and page.count('Calibration') >= 2
    assert 'optim_wrapper' in page  # which a test does not have
    code, _, error = call('report', runs.vqa, runs.pretrain, '--out', tmp_path / 'new' / 'page.html')
    assert code == 0, error
    page = text_of((tmp_path / 'new' / 'page.html').read_text(encoding='utf-8'))
    assert 'mlm_loss' in page and 'vqa_loss' in page and not re.search('src="(?!data:)', page)


def test_equal_ids_of_other_questions_are_not_compared(runs, tmp_path):
    other = tmp_path / 'other'
    predictions = read_all_predictions(runs.test / 'predictions.jsonl')
    changed = [one | {'question': f'{one["question"]} 왜?', 'correct': not one['correct']} for one in predictions]
    write_json_lines(other / 'predictions.jsonl', changed)
    (other / 'metrics.json').write_bytes((runs.test / 'metrics.json').read_bytes())
    assert 'Different answers' not in write_comparison(runs.test, other).read_text(encoding='utf-8')
    write_json_lines(other / 'predictions.jsonl', [one | {'correct': not one['correct']} for one in predictions])
    assert 'Different answers' in write_comparison(runs.test, other).read_text(encoding='utf-8')


def test_a_verification_that_is_slower_than_expected_is_given_up(runs, monkeypatch):
    for limit in ('_SECONDS_A_ROW', '_SECONDS_AN_IMAGE', '_MIN_SECONDS', '_SHARE_OF_RUN'):
        monkeypatch.setattr(facts, limit, 0.0)
    (paragraph,) = facts.verification_blocks(Run(runs.vqa))
    assert 'would take long' in paragraph.text


@pytest.mark.parametrize(
    ('score', 'verdict'), [(0.9, 'too sure'), (0.2, 'not sure enough'), (0.5, 'about as sure as it is right')]
)
def test_the_verdict_of_calibration_is_that_of_its_numbers(score, verdict):
    text = calibration_blocks([{'score': score, 'correct': correct} for correct in (False, True)])[0].text
    assert f'accuracy 50.0 %: on the whole the model is {verdict}.' in text


def test_the_risk_coverage_curve_stands_beside_the_reliability_diagram_with_its_numbers():
    sure = [{'score': 0.9, 'correct': number < 9} for number in range(10)]
    unsure = [{'score': 0.4, 'correct': number < 2} for number in range(10)]
    text, surest, figures, _, table = calibration_blocks([*sure, *unsure])
    assert [figure.data.startswith('data:image/svg+xml') for figure in figures.figures] == [True, True]
    assert '50.0 % with 90 %, 0.0 % with 95 %, 0.0 % with 99 %.' in surest.text and 'ECE' in text.text
    assert [row[:3] for row in table.rows] == [['50.0 %', '10', '0.9000'], ['100.0 %', '20', '0.4000']]
    assert [row[3] for row in table.rows] == pytest.approx([90, 55])


def test_a_calibration_is_told_before_the_figures():
    stored = dict(temperature=1.5, threshold=0.5, abstention='모르겠음', answered=50.0, precision=90.0)
    stored |= dict(ece_before=8.0, ece_after=2.0)
    rows = [{'score': 0.9, 'correct': True}, {'score': 0.4, 'correct': False}]
    text = calibration_blocks(rows, stored)[1].text
    assert 'ECE 8.00 % before and 2.00 % after, on these questions' in text and '(모르겠음)' in text
    held = dict(ece=2.5, answered=48.0, precision=88.0, precision_low=80.0, precision_high=94.0)
    text = calibration_blocks(rows, stored | {'held_out': held})[1].text
    assert 'not seen. The figures below are those before' in text and '48.0 % and 88.0 % (80.0 to 94.0)' in text
    text = calibration_blocks(rows, stored | {'held_out': None, 'threshold': None})[1].text
    assert 'abstains' not in text and 'questions of the fit' in text


def test_a_model_folder_that_is_written_anew_keeps_what_was_fitted_to_the_same_weights(runs):
    folder, run = runs.vqa / 'model', Run(runs.vqa)
    store_calibration(folder, calibration := Calibration(temperature=1.5, questions=100))
    store_image_detector(folder, ImageDetector(torch.zeros(3), torch.eye(3), threshold=2.0, images=50))
    _write_model(run)
    kept = load_model_folder(folder)
    assert kept.calibration == calibration and kept.image_detector.threshold == 2
    with torch.no_grad():
        run.trained.model.encoder.norm.weight += 1
    _write_model(run)
    kept = load_model_folder(folder)
    assert kept.calibration is None and kept.image_detector is None
    _write_model(Run(runs.vqa))


def test_a_name_that_no_file_can_have_is_no_image():
    assert [thumbnail_of(name) for name in ('', 'x' * 300, '\0', '\ud800', f'{"x" * 300}.zip/a.jpg')] == [''] * 5


@pytest.mark.parametrize('record', [None, '{"mode": "val"\n', '[]\n'])
def test_folders_without_a_readable_run_are_one_line(tmp_path, call, record):
    if record:
        (tmp_path / 'metrics.jsonl').write_text(record)
    code, out, error = call('report', tmp_path)
    if record is None:
        assert code == 2 and 'no work folder of a run' in error and error.count('\n') == 1
        assert not list(tmp_path.iterdir())
    else:  # what can be shown is shown
        assert code == 0 and 'missing: result' in out and 'Missing' in (tmp_path / 'report.html').read_text('utf-8')
    code, _, error = call('report', tmp_path, '--out', tmp_path)
    assert code == 2 and 'this is a folder' in error


def test_a_damaged_part_is_named_and_the_others_are_shown(runs, tmp_path):
    for file in ('metrics.jsonl', 'environment.json', 'data.json', 'tiny.py'):
        (tmp_path / file).write_bytes((runs.vqa / file).read_bytes())
    (tmp_path / 'predictions.jsonl').write_text('{"question_id": "1"}\n', encoding='utf-8')
    page, missing = write_run_report(tmp_path)
    assert [text.split(' (')[0] for text in missing] == ['model folder', 'predictions']
    shown = page.read_text(encoding='utf-8')
    assert 'predictions.jsonl, line 1' in shown and 'Curves' in shown and 'its checkpoint is gone' in shown


@pytest.mark.parametrize(('name', 'reason'), [('SIGTERM', 'ended by SIGTERM'), ('SIGUSR1', 'ended by SIGUSR1')])
def test_a_signal_ends_the_report_alone(tmp_path, capsys, monkeypatch, name, reason):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    monkeypatch.setattr(
        'kovilt.reporting.write_run_report', lambda folder: os.kill(os.getpid(), number) or time.sleep(9)
    )
    report_verb.leave_report(tmp_path)
    assert f'no report ({reason})' in capsys.readouterr().err and signal.getsignal(number) == before


def test_predictions_from_elsewhere_belong_to_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('kovilt.reporting.write_run_report', lambda folder: (folder / 'report.html', []))
    (tmp_path / 'mine').write_text('line\n')
    report_verb.leave_report(tmp_path, tmp_path / 'mine')
    assert (tmp_path / 'predictions.jsonl').read_text() == 'line\n'
    report_verb.leave_report(tmp_path, tmp_path / 'gone')
    assert 'no report (' in capsys.readouterr().err


def test_a_failing_report_is_a_warning_and_the_run_is_finished(runs, call, monkeypatch):
    (runs.vqa / '.model.0123456789ab.tmp').mkdir()  # what a report leaves that was killed

    def fail(folder: object) -> None:
        raise MemoryError

    monkeypatch.delenv('KOVILT_NO_REPORT')
    monkeypatch.setattr('kovilt.reporting.write_run_report', fail)
    code, _, error = call('train', runs.config, '--work-dir', runs.vqa, '--resume')
    (warning,) = [line for line in error.splitlines() if line.startswith('warning: ')]
    assert code == 0 and warning.endswith(f'no report (MemoryError); kovilt report {runs.vqa} tries again')


ATTACKS = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '{{ 7 * 7 }}', "' onmouseover='x", '\u202e뒤']


def test_no_text_of_a_stranger_is_markup(tmp_path):
    name = ATTACKS[1].replace('/', '')
    predictions = [
        {
            'question_id': str(number),
            'image': f'{name}.jpg',
            'question': text,
            'answer': text if number % 2 else 'x',
            'ground_truth': text,
            'answer_type': text,
            'score': 0.5,
            'correct': bool(number % 2),
            'tolerant_correct': False,
            'topk': [{'answer': text, 'score': 0.5}],
        }
        for number, text in enumerate(ATTACKS * 2)
    ]
    (tmp_path / 'predictions.jsonl').write_text('\n'.join(map(json.dumps, predictions)) + '\n', encoding='utf-8')
    sections = prediction_sections(read_all_predictions(tmp_path / 'predictions.jsonl'), dict.fromkeys(ATTACKS, 3))
    page = write_report(tmp_path / 'report.html', title=ATTACKS[0], lead=ATTACKS[1], sections=sections)
    shown = text_of(page.read_text(encoding='utf-8'))
    assert '<script' not in shown and '<img src=x' not in shown and "' onmouseover" not in shown
    assert '\u202e' not in shown and '{{ 7 * 7 }}' in shown and shown.count('&lt;script&gt;') > 10

"""Accuracy counts each question once, forgives nothing but the writing of Hangul, and knows what no model can reach."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from rich.cells import cell_len

from kovilt.evaluation import VQAAccuracy
from kovilt.evaluation.table import format_table
from kovilt.registry import METRICS


def predictions(*rows):
    """(row, ground truth, prediction, type[, broken]) each."""
    found = []
    for row, ground_truth, answer, kind, *broken in rows:
        record = dict(row=row, answer=ground_truth, answer_type=kind)
        found.append({'record': record | {'broken': True} if broken else record, 'answer': answer})
    return found


def evaluate(rows, size=None, meta=None):
    metric = VQAAccuracy()
    metric.dataset_meta = meta
    for row in predictions(*rows):
        metric.process(None, [row])
    return metric.evaluate(len({row[0] for row in rows}) if size is None else size)


def test_is_found_by_name_and_scores_percent_by_type():
    assert isinstance(METRICS.build(dict(type='VQAAccuracy')), VQAAccuracy)
    scores = evaluate([(0, '네', '네', '있다'), (1, '네', '아니요', '있다'), (2, '빨간색', '빨간색', '색')])
    assert scores['accuracy'] == pytest.approx(200 / 3)
    assert scores['accuracy/있다'] == 50 and scores['accuracy/색'] == 100
    assert scores['questions'] == 3 and scores['questions/있다'] == 2
    assert 'coverage' not in scores and 'majority_accuracy' not in scores


def test_keys_have_no_prefix_unless_asked():
    rows = predictions((0, '네', '네', ''))
    bare, named = VQAAccuracy(), VQAAccuracy(prefix='val')
    for metric in (bare, named):
        metric.process(None, rows)
    keys = {'accuracy', 'accuracy_low', 'accuracy_high', 'tolerant_accuracy', 'questions', 'broken'}
    assert set(bare.evaluate(1)) == keys
    assert set(named.evaluate(1)) == {f'val/{key}' for key in keys}


def test_decomposed_hangul_and_blanks_are_the_same_answer_and_nothing_else_is():
    assert evaluate([(0, '빨간색', unicodedata.normalize('NFD', ' 빨간색 '), '색')])['accuracy'] == 100
    assert evaluate([(0, '검은 색', '검은색', '색')])['accuracy'] == 0


def test_a_repeated_question_counts_once_and_a_lost_one_is_an_error():
    rows = [(0, '네', '네', ''), (1, '네', '아니요', ''), (0, '네', '네', ''), (0, '네', '네', '')]
    assert evaluate(rows, size=2)['accuracy'] == 50
    with pytest.raises(ValueError, match='2 of 3 questions'):
        evaluate(rows, size=3)
    with pytest.raises(ValueError, match='0 of 0'):
        evaluate([])


def test_a_broken_image_is_wrong_even_when_the_guess_is_right():
    meta = dict(answers=['네', '아니요'], answer_counts=[1, 2])
    scores = evaluate([(0, '네', '네', '', True), (1, '네', '네', '')], meta=meta)
    assert scores['accuracy'] == 50 and scores['broken'] == 1
    assert scores['coverage'] == 100 and scores['ceiling'] == 50


@pytest.mark.parametrize('broken', [(True, True), (True, False), (False, False)])
def test_broken_images_are_wrong_for_the_majority_answer_too(broken):
    rows = [(row, '네', '네', '', *([True] if is_broken else [])) for row, is_broken in enumerate(broken)]
    scores = evaluate(rows, meta=dict(answers=['네', '아니요'], answer_counts=[2, 1]))
    assert scores['majority_accuracy'] == scores['ceiling'] == 50 * broken.count(False)


def test_baselines_come_from_training():
    meta = dict(answers=['빨간색', '네', '아니요'], answer_counts=[3, 10, 9])
    rows = [(0, '네', '아니요', ''), (1, '네', '네', ''), (2, '빨간색', '빨간색', ''), (3, '보라색', '네', '')]
    scores = evaluate(rows, meta=meta)
    assert scores['majority_accuracy'] == 50  # 네 in two of four
    assert scores['coverage'] == scores['ceiling'] == 75  # 보라색 is no answer of the model
    assert scores['accuracy'] == 50 and scores['answerable_accuracy'] == pytest.approx(200 / 3)


def test_several_answers_follow_the_official_rule():
    meta = dict(answers=['네', '응', '파란색'], answer_counts=[30, 2, 5])
    metric = VQAAccuracy()
    metric.dataset_meta = meta
    people = (['네'] * 8 + ['응'] * 2, ['보라색'] * 9 + ['파란색'], ['보라색'] * 10)
    for row, (answer, answers) in enumerate(zip(['응', '파란색', '네'], people, strict=True)):
        metric.process(None, [{'record': dict(row=row, answers=answers), 'answer': answer}])
    scores = metric.evaluate(3)
    assert scores['accuracy'] == pytest.approx(100 * (0.6 + 0.3) / 3)
    assert scores['tolerant_accuracy'] == pytest.approx(100 * (1 + 0.3) / 3)
    assert scores['coverage'] == pytest.approx(200 / 3) and scores['ceiling'] == pytest.approx(100 * 1.3 / 3)
    assert scores['majority_accuracy'] == pytest.approx(100 / 3)
    assert scores['questions_by_frequency/10-99'] == 1 and scores['questions_by_frequency/0'] == 2  # 네, 보라색


def test_ways_of_writing_are_forgiven_beside_the_plain_score():
    rows = [(0, '두 개', '2개', ''), (1, '예', '네', ''), (2, '사과가', '사과', ''), (3, '예', '네', '', True)]
    scores = evaluate(rows)
    assert scores['accuracy'] == 0 and scores['tolerant_accuracy'] == 50


def test_parts_add_up_to_the_whole():
    meta = dict(answers=['네', '아니요', '흰색'], answer_counts=[2000, 40, 3])
    ground_truths, answers = ['네', '아니요', '흰색', '보라색', '네'], ['네', '네', '흰색', '네', '네']
    rows = [
        (row, ground_truth, answer, '')
        for row, (ground_truth, answer) in enumerate(zip(ground_truths, answers, strict=True))
    ]
    questions = ['있어요?', '의자 있어요?', '창문 옆에 있는 의자는 무슨 색이에요?', '가 ' * 12, '의자 있어요?']
    metric = VQAAccuracy()
    metric.dataset_meta = meta
    for row, question in zip(predictions(*rows), questions, strict=True):
        row['record'] |= {'question': question, 'image': 'a.jpg'}
        metric.process(None, [row])
    scores = metric.evaluate(5)
    for division, bands in {'length': ('1-3', '4-6', '10+'), 'frequency': ('1000+', '10-99', '1-9', '0')}.items():
        accuracy, count = f'accuracy_by_{division}/', f'questions_by_{division}/'
        assert {key.removeprefix(count) for key in scores if key.startswith(count)} == set(bands)
        assert sum(scores[count + band] for band in bands) == 5
        assert sum(scores[count + band] * scores[accuracy + band] for band in bands) == 5 * scores['accuracy']
    assert scores['accuracy_by_length/4-6'] == 100 and scores['accuracy_by_frequency/10-99'] == 0


def test_the_interval_resamples_images():
    def interval(images):
        metric = VQAAccuracy()
        for row in predictions(*((i, '네', '네' if i % 20 < 10 else '예', '') for i in range(200))):
            row['record']['image'] = f'{row["record"]["row"] // images}.jpg'
            metric.process(None, [row])
        scores = metric.evaluate(200)
        assert scores['accuracy_low'] < scores['accuracy'] < scores['accuracy_high']
        return scores['accuracy_high'] - scores['accuracy_low']

    assert interval(10) > 2 * interval(1)


def test_answers_and_counts_that_disagree_are_refused():
    with pytest.raises(ValueError, match='2 answers but 1 answer_counts'):
        evaluate([(0, '네', '네', '')], meta=dict(answers=['네', '아니요'], answer_counts=[1]))


def test_works_inside_mmengines_evaluator():
    evaluator = Evaluator([VQAAccuracy()])
    evaluator.dataset_meta = dict(answers=['네'], answer_counts=[1])
    evaluator.process(predictions((0, '네', '네', '있다')), None)
    assert evaluator.evaluate(1)['majority_accuracy'] == 100


def answer_share(store, out, rank):
    """One of two processes; rank 0 has rows 0, 1, 2, rank 1 row 3 and, wrapped round, rows 0 and 1 once more."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    ground_truth = ['네', '네', '아니요', '네']
    metric = VQAAccuracy()
    for row in ([0, 1, 2], [3, 0, 1])[rank]:
        metric.process(None, predictions((row, ground_truth[row], '네', '있다')))
    scores = metric.evaluate(4)
    Path(f'{out}.{rank}').write_text(json.dumps(scores), encoding='utf-8')
    torch.distributed.destroy_process_group()


def test_two_processes_count_each_question_once(tmp_path):
    command = [sys.executable, __file__, tmp_path / 'store', tmp_path / 'scores']
    here = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    processes = [subprocess.Popen([*command, str(rank)], env=here) for rank in (0, 1)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f'scores.{rank}').read_text(encoding='utf-8')) for rank in (0, 1))
    assert first == second
    assert first['questions'] == 4 and first['accuracy'] == 75
    assert (first['accuracy_low'], first['accuracy_high']) == (25, 100)


def test_columns_stand_straight_with_hangul():
    decomposed = unicodedata.normalize('NFD', '관계')
    lines = format_table(['type', 'n'], [['있다', '1'], ['color', '1,000'], [decomposed, '10']]).splitlines()
    assert cell_len('있다 a') == 6 and cell_len(decomposed) == 4
    assert len({cell_len(line) for line in lines}) == 1


if __name__ == '__main__':
    answer_share(sys.argv[1], sys.argv[2], int(sys.argv[3]))


def choice(row: int, answer: str, scores: dict[str, float], options: list[str], right: str) -> dict:
    topk = [dict(answer=one, score=score) for one, score in scores.items()]
    return dict(record=dict(row=row, answer=right, options=options), answer=answer, topk=topk)


def test_multiple_choice_has_random_and_circular_accuracies():
    metric = VQAAccuracy()
    rows = [
        choice(0, '가', {'가': 0.7, '나': 0.3}, ['가', '나'], '가'),
        choice(1, '가', {'가': 0.5, '나': 0.5}, ['가', '나'], '가'),  # right in one of two orders
        choice(2, '다', {'다': 0.4, '가': 0.3, '나': 0.2, '라': 0.1}, ['가', '나', '다', '라'], '가'),
    ]
    metric.process(None, rows)
    scores = metric.evaluate(3)
    assert scores['accuracy'] == pytest.approx(200 / 3) and scores['circular_accuracy'] == pytest.approx(100 / 3)
    assert scores['random_accuracy'] == pytest.approx(100 * 1.25 / 3)
    named = VQAAccuracy.metric_names(dict(choice_head=dict(type='ChoiceHead')))
    assert {'random_accuracy', 'circular_accuracy'} <= {*named}


def test_probabilities_are_judged_where_they_are_known():
    rows = predictions(*((row, '네', '네' if row < 15 else '예', '') for row in range(20)), (20, '네', '네', '', True))
    rows = [row | {'score': 0.9 if row['record']['row'] < 10 else 0.6} for row in rows]
    metric = VQAAccuracy()
    metric.process(None, rows)
    scores = metric.evaluate(21)
    assert scores['ece'] == pytest.approx(100 * (10 * 0.1 + 11 * (0.6 - 5 / 11)) / 21)  # a broken image is wrong
    assert [scores[f'coverage_at_precision/{percent}'] for percent in (90, 95, 99)] == pytest.approx([1000 / 21] * 3)
    assert scores['aurc'] == pytest.approx(100 * (11 / 21) * (6 / 21))
    names = VQAAccuracy.metric_names({})
    assert {'ece', 'aurc', *(f'coverage_at_precision/{percent}' for percent in (90, 95, 99))} <= {*names}
    del rows[0]['score']
    metric.process(None, rows)
    assert not {'ece', 'aurc', 'coverage_at_precision/95'} & metric.evaluate(21).keys()


def test_an_answer_type_of_which_all_is_wrong_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'info', told.append)
    rows = [(row, ('Yes', 'No')[row % 3 == 0], '예', 'yes/no') for row in range(20)]
    right = [(100, '공', '공', 'other')]
    evaluate(rows + right)
    assert told[0].splitlines()[-1] == (
        "none of the 20 questions of type 'yes/no' is right: 'Yes', 'No' expected, '예' predicted"
    )
    for others in (rows[:19] + right, [*rows, (50, 'Yes', 'Yes', 'yes/no'), *right], rows):
        told.clear()
        evaluate(others)  # too few, one that is right, all wrong
        assert 'none of the' not in told[0]


def test_weights_of_answers_are_scores():
    """The best answer of the vocabulary decides coverage and ceiling, the answer of greatest weight the frequency."""
    weights = [{'예': 0.8, '네': 0.2}, {'응': 1.0}, {'응': 0.6, '네': 0.4}]
    metric = VQAAccuracy()
    metric.dataset_meta = dict(answers=['예', '네'], answer_counts=[20, 5])
    for row, own in enumerate(weights):
        record = dict(row=row, answer='', answers=list(own), answer_weights=list(own.values()))
        metric.process(None, [{'record': record, 'answer': '네'}])
    scores = metric.evaluate(3)
    assert scores['accuracy'] == pytest.approx(100 * (0.2 + 0 + 0.4) / 3)
    assert scores['coverage'] == pytest.approx(200 / 3) and scores['ceiling'] == pytest.approx(100 * (0.8 + 0.4) / 3)
    assert scores['majority_accuracy'] == pytest.approx(80 / 3)
    assert scores['questions_by_frequency/0'] == 2 and scores['questions_by_frequency/10-99'] == 1


def test_questions_without_an_answer_are_told_apart():
    rows = [  # ground truth, type, prediction, its probability, probability of the class
        ('빨간색', '색', '빨간색', 0.9, 0.05),
        ('네', '있다', '아니요', 0.8, 0.1),
        ('답할 수 없음', '색', '빨간색', 0.8, 0.15),
        ('unanswerable', 'unanswerable', 'unanswerable', 0.6, 0.6),
    ]
    metrics = []
    for kept in (('answer', 'score', 'unanswerable'), ('answer', 'score'), ('answer',)):
        metric = VQAAccuracy()
        for row, (given, kind, answer, score, share) in enumerate(rows):
            prediction = dict(answer=answer, score=score, unanswerable=share)
            record = dict(row=row, answer=given, answer_type=kind)
            metric.process(None, [{'record': record} | {key: prediction[key] for key in kept}])
        metrics.append(metric.evaluate(4))
    for found in metrics:
        assert found['accuracy_by_answerability/answerable'] == 50
        assert found['accuracy_by_answerability/unanswerable'] == 50
        assert found['questions_by_answerability/unanswerable'] == 2
    assert [found.get('unanswerable_auroc') for found in metrics] == [0.875, 0.875, None]
    assert [found.get('unanswerable_class_auroc') for found in metrics] == [1.0, None, None]
    names = VQAAccuracy.metric_names({})
    assert {key for key in metrics[0] if 'answerab' in key} <= set(names) | {'accuracy/unanswerable'} | {
        'questions/unanswerable'
    }
    several = VQAAccuracy()
    for row, answers in enumerate((['unanswerable', 'unanswerable', '네'], ['네', '네', 'unanswerable'])):
        record = dict(row=row, answer='', answers=answers)
        several.process(None, [{'record': record, 'answer': '네', 'score': 0.5}])
    assert several.evaluate(2)['questions_by_answerability/unanswerable'] == 1
    plain = evaluate([(0, '네', '네', '있다'), (1, '네', '아니요', '있다')])
    assert not any('answerabil' in key or 'auroc' in key for key in plain)

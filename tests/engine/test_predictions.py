"""The file of predictions scores each question as the metric scores all of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from kovilt.engine.hooks import NoReportHook, PredictionsHook
from kovilt.evaluation import VQAAccuracy
from kovilt.evaluation.comparison import read_predictions


def prediction(row: int, guess: str, **record) -> dict:
    return {
        'record': {'row': row, 'question_id': str(row), 'answer_type': '개수', **record},
        'answer': guess,
        'score': 0.5,
        'topk': [],
    }


def test_a_line_scores_its_question_as_the_metric_does(tmp_path):
    predictions = [
        prediction(2, '2개', answers=['두 개'] * 3 + ['2개'] * 2 + ['세 개'] * 5),
        prediction(0, '2개', answer='두 개'),
        prediction(1, '두 개', answer='두 개', broken=True),
        prediction(3, '두 개', answer='두 개'),
    ]
    hook, metric = PredictionsHook(str(tmp_path / 'out' / 'predictions.jsonl')), VQAAccuracy()
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=range(4)), logger=SimpleNamespace(info=lambda text: None)
    )
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=predictions)
    hook.after_test_epoch(runner)
    metric.process(None, predictions)
    scores = metric.evaluate(4)
    lines = [json.loads(line) for line in hook.out.read_text(encoding='utf-8').splitlines()]
    assert [line['question_id'] for line in lines] == ['0', '1', '2', '3']
    assert [line['correct'] for line in lines] == [False, False, 0.6, True]
    assert [line['tolerant_correct'] for line in lines] == [True, False, 1, True]
    assert [line['ground_truth'] for line in lines] == ['두 개', '두 개', '세 개', '두 개']
    assert ['answers' in line for line in lines] == [False, False, True, False]
    for key, name in (('correct', 'accuracy'), ('tolerant_correct', 'tolerant_accuracy')):
        assert 100 * sum(line[key] for line in lines) / 4 == pytest.approx(scores[name])


def test_a_line_with_weights_has_its_score_and_can_be_compared(tmp_path):
    hook = PredictionsHook(str(tmp_path / 'predictions.jsonl'))
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=range(2)), logger=SimpleNamespace(info=lambda text: None)
    )
    hook.before_test_epoch(runner)
    weights = [dict(answers=['예', '네'], answer_weights=[0.8, 0.2]), dict(answers=['네'], answer_weights=[0.7])]
    hook.after_test_iter(runner, 0, outputs=[prediction(n, '네', answer='예', **own) for n, own in enumerate(weights)])
    hook.after_test_epoch(runner)
    lines = [json.loads(line) for line in hook.out.read_text(encoding='utf-8').splitlines()]
    assert [line['correct'] for line in lines] == [0.2, 0.7]
    assert [line['answers'] for line in lines] == [{'예': 0.8, '네': 0.2}, {'네': 0.7}]
    assert [line['ground_truth'] for line in lines] == ['예', '네']
    assert read_predictions(hook.out)['0']['answers'] == {'예': 0.8, '네': 0.2}


def test_a_training_keeps_the_predictions_of_its_best_checkpoint(tmp_path):
    """Where no best checkpoint is kept, those of the latest validation."""
    info: dict = {}
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=range(1)),
        logger=SimpleNamespace(info=print, warning=print),
        message_hub=SimpleNamespace(runtime_info=info),
        epoch=0,
        iter=0,
    )
    hook = PredictionsHook(str(tmp_path / 'predictions.jsonl'), is_asked=False)

    def validate(step: int, answer: str) -> str:
        runner.iter = step
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, outputs=[prediction(0, answer, answer='예')])
        hook.after_val_epoch(runner)
        return json.loads(hook.out.read_text(encoding='utf-8'))['answer']

    assert validate(2, '가') == '가' and validate(4, '나') == '나'
    info['best_ckpt'] = str(tmp_path / 'best_accuracy_iter_6.pth')
    assert validate(6, '다') == '다' and validate(8, '라') == '다' and validate(16, '마') == '다'
    runner.epoch, info['best_ckpt'] = 3, str(tmp_path / 'best_accuracy_epoch_3.pth')
    assert validate(20, '바') == '바'


def test_unasked_predictions_end_no_run(tmp_path, capsys):
    runner = SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=range(1)),
        logger=SimpleNamespace(warning=print),
        message_hub=SimpleNamespace(runtime_info={}),
        epoch=0,
        iter=2,
    )
    hook = PredictionsHook(str(tmp_path / 'predictions.jsonl'), is_asked=False)
    hook.out.write_text('of another model')
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, outputs=[{'mlm_loss': 1.0, 'num_pairs': 3}])  # of a model without answers
    hook.after_val_epoch(runner)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'file').touch()
    hook.out = tmp_path / 'file' / 'predictions.jsonl'  # whose folder cannot be made
    hook.after_val_iter(runner, 0, outputs=[prediction(0, '예', answer='예')])
    hook.after_val_epoch(runner)
    assert 'predictions.jsonl: cannot be written' in capsys.readouterr().out


def test_without_a_report_that_of_earlier_steps_goes_once_and_by_one_process(tmp_path):
    files = [tmp_path / name for name in ('report.html', 'curves.png', 'curves.csv', 'predictions.jsonl', 'vqa.py')]

    def remains(hook: NoReportHook, rank: int) -> list[str]:
        for file in files:
            file.touch()
        hook.after_train_iter(SimpleNamespace(rank=rank, work_dir=str(tmp_path)), 0)
        return [file.name for file in files if file.exists()]

    hook = NoReportHook()
    assert len(remains(NoReportHook(), rank=1)) == 5
    assert remains(hook, rank=0) == ['vqa.py'] and len(remains(hook, rank=0)) == 5
    hook.before_test(SimpleNamespace(rank=0, work_dir=str(tmp_path)))
    assert sorted(file.name for file in files if file.exists()) == ['curves.csv', 'curves.png', 'vqa.py']

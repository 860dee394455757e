"""kovilt test stores a calibration in a model folder, and a calibrated folder is tested with its temperature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import ANSWERS, tiny_model
from tiny_rooms import tiny_config

from kovilt.cli.main import main
from kovilt.engine.hooks import CalibrationHook
from kovilt.engine.hooks.calibration import describe_fit
from kovilt.errors import KoviltError
from kovilt.files import read_json, read_json_lines

pytestmark = pytest.mark.usefixtures('unformatted_configs')


class FolderTests:
    """Tests of a model folder, each in a work folder of its own."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config, self.folder, self.count = config, folder, 0

    def arguments(self, *more: object) -> list[object]:
        self.count += 1
        self.out = self.folder.parent / f'test{self.count}'
        return ['test', self.config, self.folder, '--work-dir', self.out, '--out', self.out / 'out.jsonl', *more]

    @property
    def report(self) -> dict:
        return read_json(self.out / 'metrics.json')

    @property
    def lines(self) -> list[dict]:
        return [line for _, line in read_json_lines(self.out / 'out.jsonl', 'table')]

    @property
    def stored(self) -> dict | None:
        return read_json(self.folder / 'kovilt.json').get('calibration')


@pytest.fixture(scope='module')
def tested(rooms, tmp_path_factory) -> FolderTests:
    folder = tmp_path_factory.mktemp('folder')
    config, work = tiny_config(folder / 'tiny.py', steps=3), str(folder / 'work')
    # Such weights give questions different probabilities, which three steps would not teach.
    wide = 'model.encoder.init_std=0.4'
    assert main(['train', str(config), '--work-dir', work, '--seed', '0', '--cfg-options', wide]) == 0
    assert main(['export', work, str(folder / 'model')]) == 0
    return FolderTests(config, folder / 'model')


def test_a_temperature_is_stored_and_applied_in_the_next_test(tested, call):
    code, out, error = call(*tested.arguments())
    assert code == 0 and 'temperature' not in out, error
    plain, before, first = tested.report, tested.lines, tested.out
    assert 'calibration' not in plain and tested.stored is None
    code, out, error = call(*tested.arguments('--calibrate'))
    assert code == 0 and 'on images that the fit has not seen' in out and 'calibration stored' in out, error
    assert 'only' in out and 'fewer than 100' in out  # questions
    fitted, stored = tested.report, tested.stored
    assert fitted['metrics'] == plain['metrics'] and tested.lines == before  # measured as it is
    assert stored == {
        'temperature': fitted['calibration']['temperature'],
        'threshold': 0.0,
        'precision_target': None,
        'abstention': '모르겠음',
        'questions': plain['metrics']['questions'],
    }
    assert abs(math.log(stored['temperature'])) > 0.05
    assert fitted['calibration']['ece_before'] == pytest.approx(plain['metrics']['ece'], abs=1e-3)
    code, out, error = call(*tested.arguments())
    assert code == 0 and f'calibrated with temperature {stored["temperature"]:.3f}' in out, error
    assert 'it answers' not in out
    after, metrics = tested.report, tested.report['metrics']
    assert metrics['ece'] == pytest.approx(after['calibration']['ece_after'], abs=1e-3)
    assert plain['metrics']['ece'] == pytest.approx(after['calibration']['ece_before'], abs=1e-3)
    assert [line['answer'] for line in tested.lines] == [line['answer'] for line in before]
    code, out, error = call('compare', first / 'out.jsonl', tested.out / 'out.jsonl')
    assert code == 0 and 'better answered by A: 0 questions, by B: 0' in out, error
    of_probabilities = ('ece', 'aurc', 'coverage_at_precision')
    for key, value in plain['metrics'].items():
        if not key.startswith(of_probabilities):
            assert metrics[key] == value
    for new, old in zip(tested.lines, before, strict=True):  # p ** (1 / T), normalised: of each pair of answers
        (first, second), (one, two) = ([guess['score'] for guess in line['topk'][:2]] for line in (new, old))
        ratio = math.log(one / two) / stored['temperature']
        assert math.log(first / second) == pytest.approx(ratio, abs=0.01)


def test_a_threshold_for_a_precision_is_stored_and_told(tested, call):
    assert call(*tested.arguments())[0] == 0
    target = 0.009 * tested.report['metrics']['accuracy']
    code, out, error = call(*tested.arguments('--precision-target', target, '--abstention', ' 글쎄요 '))
    fitted, stored = tested.report['calibration'], tested.stored
    assert code == 0 and all(line in out for line in describe_fit(fitted).splitlines()), error
    assert stored['precision_target'] == target and stored['abstention'] == '글쎄요'
    assert stored['threshold'] == fitted['threshold'] and fitted['precision'] >= 100 * target
    code, out, error = call(*tested.arguments('--precision-target', 1))
    assert code == 2 and error.strip().splitlines()[-1].startswith(f'error: {tested.folder}: no threshold reaches')
    assert tested.stored == stored and tested.report['calibration']['threshold'] is None
    assert len(tested.lines) == tested.report['metrics']['questions']  # the test itself is whole
    assert call(*tested.arguments())[0] == 0
    threshold = sorted(line['score'] for line in tested.lines)[10] + 1e-4
    write_threshold(tested.folder, threshold)
    code, out, error = call(*tested.arguments())
    passing = [line for line in tested.lines if line['score'] >= threshold]
    assert code == 0 and 0 < len(passing) < len(tested.lines), error
    assert f"it answers '글쎄요': {len(passing):,} of {len(tested.lines):,} questions" in out
    right = 100 * sum(line['correct'] for line in passing) / len(passing)
    assert tested.report['calibration']['precision'] == pytest.approx(right)


def write_threshold(folder: Path, threshold: float) -> None:
    info = read_json(folder / 'kovilt.json')
    info['calibration']['threshold'] = threshold
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')


def test_what_cannot_be_stored_is_told_before_the_test(tested, call):
    def refused(*arguments: object) -> str:
        code, out, error = call(*arguments)
        assert code == 2 and error.count('\n') == 1 and not tested.out.exists(), error
        return error

    test, config, folder, *others = tested.arguments('--calibrate')
    assert 'kovilt export MODEL FOLDER' in refused(test, config, folder.parent / 'work', *others)
    assert 'kovilt export MODEL FOLDER' in refused(test, config, folder.parent / 'work' / 'iter_3.pth', *others)
    assert 'comes with kovilt and is not changed' in refused(test, config, 'rooms', *others)
    assert 'at most 1, such as 0.95' in refused(*tested.arguments('--precision-target', 95))
    assert 'invalid float value' in refused(*tested.arguments('--precision-target', 'high'))
    assert 'at most 1' in refused(*tested.arguments('--precision-target', 'nan'))
    assert '--precision-target' in refused(*tested.arguments('--abstention', '글쎄요'))
    for text in ('', '  ', '글' * 201, '\udcff'):
        assert '--abstention: ' in refused(*tested.arguments('--precision-target', 0.5, '--abstention', text))


# The hook on predictions that are made up

WORDS = ['가', '나', '다', '라']


def prediction(row: int, scores: list[float], **record) -> dict:
    options = record.get('options', ANSWERS[:4])
    own = np.array(scores, dtype=np.float32)
    probabilities = np.exp(own - own.max()) / np.exp(own - own.max()).sum()
    return dict(
        record=dict(row=row, image=f'{row // 2}.jpg', **record),
        answer=options[int(own.argmax())],
        score=float(probabilities.max()),
        scores=own,
    )


def run_hook(hook: CalibrationHook, predictions: list[dict], kind: str = 'ViLTForVQA') -> list[str]:
    said: list[str] = []
    runner = SimpleNamespace(
        model=tiny_model(kind),
        test_dataloader=SimpleNamespace(dataset=range(len(predictions))),
        logger=SimpleNamespace(info=said.append, warning=said.append),
    )
    hook.before_test(runner)
    assert runner.model.keeps_scores and runner.model.temperature == 1
    hook.after_test_iter(runner, 0, outputs=predictions)
    hook.after_test_epoch(runner)
    return said


def test_options_are_calibrated_as_classes_are(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(4 * rng.standard_normal(count)).tolist() for count in rng.integers(2, 5, 400)]
    chosen = []
    for scores in rows:  # right as often as at temperature 2
        odds = np.exp(np.array(scores) / 2)
        chosen.append(int(rng.choice(len(scores), p=odds / odds.sum())))
    asked = [
        prediction(row, scores, options=WORDS[: len(scores)], answer=WORDS[label])
        for row, (scores, label) in enumerate(zip(rows, chosen, strict=True))
    ]
    hook = CalibrationHook(tmp_path, is_fit=True, precision_target=0.9)
    run_hook(hook, asked, 'ViLTForMultipleChoice')
    assert hook.calibration.temperature == pytest.approx(2, rel=0.15) and 0 < hook.calibration.threshold < 1
    assert hook.result['ece_after'] < hook.result['ece_before'] and not hook.failure
    with pytest.raises(
        KoviltError, match='bring their options, among which a model with an answer head never abstains'
    ):
        run_hook(CalibrationHook(tmp_path, is_fit=True), asked)


def test_broken_images_and_unknown_answers_are_wrong_and_have_no_label(tmp_path):
    sure, unsure = [5.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]
    own = [
        *(prediction(row, sure, answer=ANSWERS[0]) for row in range(60)),
        *(prediction(row, unsure, answer=ANSWERS[row % 4]) for row in range(60, 100)),
        *(prediction(row, unsure, answer='모르는 답') for row in range(100, 120)),
        *(prediction(row, unsure, answer=ANSWERS[0], broken=True) for row in range(120, 130)),
    ]
    hook = CalibrationHook(tmp_path, is_fit=True, precision_target=0.95)
    said = run_hook(hook, own)
    assert hook.result['precision'] == 100 and hook.result['answered'] == pytest.approx(100 * 60 / 130)
    assert hook.calibration.questions == 130 and 'only' not in said[0]
    assert not any('grows' in text for text in said)
    many = [*own, *(prediction(row, sure, answer='모르는 답') for row in range(200, 300))]
    said = run_hook(CalibrationHook(tmp_path, is_fit=True), many)
    assert '130 of 230 questions have an answer that the model cannot give' in ' '.join(said)
    hook = CalibrationHook(tmp_path, is_fit=True, precision_target=0.95, abstention=f' {ANSWERS[0]}')
    run_hook(hook, own)  # all predictions are the abstention, so none is an answer
    assert hook.calibration is None and hook.failure.startswith(f'{tmp_path}: no threshold')
    hook = CalibrationHook(tmp_path, is_fit=True)
    run_hook(hook, own[100:])
    assert 'none of 30 questions has an answer that this model can give' in hook.failure and not hook.result


def test_a_model_without_answers_is_refused_and_one_without_calibration_left_alone(tmp_path):
    pretrained = SimpleNamespace(model=tiny_model('ViLTForPreTraining'))
    with pytest.raises(KoviltError, match='answers no questions'):
        CalibrationHook(tmp_path, is_fit=True).before_test(pretrained)
    hook = CalibrationHook(tmp_path, is_fit=False)
    hook.before_test(pretrained)
    hook.before_test(runner := SimpleNamespace(model=tiny_model()))
    assert not runner.model.keeps_scores and hook.calibration is None
    hook.after_test_epoch(runner)
    assert hook.result == {}

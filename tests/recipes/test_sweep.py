"""`kovilt sweep` trains every setting once, whatever happens in between, and ranks them.

The sweeps of docs/en/training.md, which tests/test_docs.py runs, train really.
"""

import json
import re
import shutil

import pytest
from tiny_rooms import tiny_config

from kovilt.files import read_json, write_json_lines
from kovilt.recipes import steps
from kovilt.recipes.sweep import choose_metric
from kovilt.recipes.sweep_results import Metric, Outcome, Run, rank

LR, DROP = 'optim_wrapper.optimizer.lr', 'model.encoder.drop_rate'


def fake_accuracy(options: dict[str, str], seed: int) -> float:
    return 50 + 1000 * float(options[LR]) + seed


@pytest.fixture
def trainings(monkeypatch):
    """The folder names of the trainings that are started: they leave a record, fail by `fails`, or are interrupted."""

    class Trainings(list):
        fails = ''
        interrupts = ''

    ran = Trainings()

    def run(self: steps._StepRun) -> tuple[int, str]:
        words = list(self.step.command)
        assert words[:3] == ['-m', 'kovilt', 'train'] and '--resume' in words
        name = self.step.folder.name
        ran.append(name)
        if ran.interrupts and re.search(ran.interrupts, name):
            (self.step.folder / 'half').touch()
            raise KeyboardInterrupt
        if ran.fails and re.search(ran.fails, name):
            return 2, 'no room left'
        options = dict(option.split('=', 1) for option in words[words.index('--cfg-options') + 1 :])
        accuracy = fake_accuracy(options, int(words[words.index('--seed') + 1]))
        record = {'mode': 'val', 'accuracy_low': accuracy - 2, 'accuracy_high': accuracy + 2}
        rows = [{'mode': 'train', 'step': 1, 'loss': 2.0}, {**record, 'accuracy': accuracy, 'step': 1}]
        rows.append({**record, 'accuracy': accuracy - 5, 'step': 2})
        write_json_lines(self.step.folder / 'metrics.jsonl', rows)
        return 0, ''

    monkeypatch.setattr(steps._StepRun, '_run_command', run)
    return ran


@pytest.fixture
def config(rooms, tmp_path):
    return tiny_config(tmp_path / 'tiny.py', steps=2)


def test_every_setting_runs_once_and_the_best_comes_first(config, tmp_path, trainings, call):
    work = tmp_path / 'sweep'
    arguments = ['sweep', config, f'{LR}=1e-3,2e-3', f'{DROP}=0.0', '--seeds', 2, '--work-dir', work]
    code, out, error = call(*arguments)
    assert code == 0, error
    assert trainings == [f'lr={lr},drop_rate=0.0,seed={seed}' for lr in ('1e-3', '2e-3') for seed in (0, 1)]
    table = [line.split() for line in out.splitlines() if re.match(r'\d ', line)]
    assert [row[:4] for row in table] == [['1', '2e-3', '0.0', '52.5'], ['2', '1e-3', '0.0', '51.5']]
    assert '50.50 to 54.50' in out and 'sd 0.71, n 2' in out
    found = read_json(work / 'result.json')
    assert found['settings'][0]['setting'] == {LR: '2e-3', DROP: '0.0'} and found['settings'][0]['mean'] == 52.5
    assert found['settings'][0]['runs'][0]['step'] == 1  # the best validation, by which the config keeps a checkpoint
    page = (work / 'sweep.html').read_text('utf-8')
    assert 'href="runs/lr%3D2e-3%2Cdrop_rate%3D0.0%2Cseed%3D0/"' in page and page.index('2e-3') < page.index('1e-3')

    assert call(*arguments)[0] == 0 and len(trainings) == 4
    arguments[2] += ',3e-3'
    assert call(*arguments)[0] == 0 and len(trainings) == 6
    code, _, error = call(*arguments, '--cfg-options', 'train_cfg.max_iters=3', f'{DROP}=0.2')
    assert code == 2 and error.count('\n') == 1 and len(trainings) == 6
    assert f'{DROP} was 0.0, is 0.2; train_cfg.max_iters was 2, is 3' in error and '--work-dir' in error


def test_a_run_that_fails_stops_no_other_and_is_tried_again(config, tmp_path, trainings, call):
    work = tmp_path / 'sweep'
    arguments = ['sweep', config, f'{LR}=1e-3,2e-3,3e-3', '--work-dir', work]
    trainings.fails = '2e-3'
    code, out, error = call(*arguments)
    assert code == 1 and error.count('\n') == 1 and error.startswith('error: 1 of 3 runs failed (step 2 of 3 ')
    assert 'no room left' in error and len(trainings) == 3 and '1 of 1 missing' in out
    assert 'no room left' in (work / 'sweep.html').read_text('utf-8')
    trainings.fails = ''
    code, out, _ = call(*arguments)
    assert code == 0 and trainings[3:] == ['lr=2e-3,seed=0'] and 'missing' not in out


@pytest.mark.parametrize(
    ('record', 'reason'),
    [
        (None, 'no such file'),
        ('{"mode": "val", "ste\n', 'line 1'),
        ('{"mode": "train", "step": 1}\n', 'no validation gave'),
    ],
)
def test_a_finished_run_without_a_result_is_told_and_hides_no_other(config, tmp_path, trainings, call, record, reason):
    work = tmp_path / 'sweep'
    arguments = ['sweep', config, f'{LR}=1e-3,2e-3', '--work-dir', work]
    assert call(*arguments)[0] == 0
    run = work / 'runs' / 'lr=2e-3,seed=0'
    (run / 'metrics.jsonl').unlink()
    if record:
        (run / 'metrics.jsonl').write_text(record)
    code, out, error = call(*arguments)
    assert code == 1 and '1 of 1 missing' in out and error.count('\n') == 1 and len(trainings) == 2
    assert error.startswith('error: 1 of 2 runs have no result: ') and reason in error
    assert error.endswith(f'remove {run} to train it again\n')
    assert [setting['mean'] for setting in read_json(work / 'result.json')['settings']] == [51.0, None]
    assert reason in (work / 'sweep.html').read_text('utf-8')
    shutil.rmtree(run)
    assert call(*arguments)[0] == 0 and trainings[2:] == ['lr=2e-3,seed=0']


def test_an_interrupted_sweep_goes_on_where_it_was(config, tmp_path, trainings, call):
    work = tmp_path / 'sweep'
    arguments = ['sweep', config, f'{LR}=1e-3,2e-3', '--work-dir', work]
    trainings.interrupts = '2e-3'
    assert call(*arguments)[0] == 130
    assert [setting['mean'] for setting in read_json(work / 'result.json')['settings']] == [51.0, None]
    assert 'not finished' in (work / 'sweep.html').read_text('utf-8')
    trainings.interrupts = ''
    assert call(*arguments)[0] == 0 and trainings[2:] == ['lr=2e-3,seed=0']
    assert (work / 'runs' / 'lr=2e-3,seed=0' / 'half').exists()  # it ran on in its folder


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['model.encoder.drop_rat=0.1'], "did you mean 'drop_rate'"),
        ([f'{DROP}=0.1,2'], 'drop_rate'),
        ([f'{DROP}=0..0.3'], 'a range is searched with --optuna'),
        ([f'{DROP}=0.1', '--metric', 'acuracy'], "the validation does not give it (did you mean 'accuracy'?)"),
        ([f'{DROP}=0.1', '--seeds', '0'], 'must be at least 1'),
        ([f'{DROP}=0.1', '--cfg-options', 'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None'], 'save_best'),
    ],
)
def test_bad_input_starts_nothing(config, tmp_path, trainings, call, arguments, message):
    code, _, error = call('sweep', config, *arguments, '--work-dir', tmp_path / 'sweep')
    assert code == 2 and message in error and error.count('\n') == 1
    assert not trainings and not (tmp_path / 'sweep').exists()


def test_optuna_is_named_where_it_is_missing(config, tmp_path, trainings, call, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'optuna', None)
    code, _, error = call('sweep', config, f'{DROP}=0..0.3', '--optuna', 2, '--work-dir', tmp_path / 'sweep')
    assert code == 2 and "pip install 'kovilt[sweep]'" in error and not (tmp_path / 'sweep').exists()


def test_optuna_searches_and_continues(config, tmp_path, trainings, call):
    optuna = pytest.importorskip('optuna', reason="needs Optuna: pip install 'kovilt[sweep]'")
    work = tmp_path / 'sweep'
    space = [f'{LR}=1e-4..1e-2:log', f'{DROP}=0.0,0.1', 'model.encoder.num_layers=1..2']
    arguments = ['sweep', config, *space, '--optuna', 3, '--work-dir', work]
    assert call(*arguments)[0] == 0 and len(trainings) == 3
    trainings.interrupts = '.'
    arguments[arguments.index(3)] = 5
    assert call(*arguments)[0] == 130 and len(trainings) == 4
    trainings.interrupts, trainings.fails = '', re.escape(trainings[3])
    code, out, error = call(*arguments)
    assert code == 1 and trainings[4] == trainings[3] and error.startswith('error: 1 of ')
    trainings.fails = ''
    code, out, _ = call(*arguments)
    assert code == 0 and 'trial 5 of 5' in out
    study = optuna.load_study(study_name='sweep', storage=f'sqlite:///{work}/optuna.db')
    done = [trial for trial in study.trials if trial.state.name == 'COMPLETE']
    assert len(done) == 5 and all(abs(trial.value - 50 - 1000 * trial.params[LR]) < 1e-9 for trial in done)
    best = read_json(work / 'result.json')['settings'][0]
    assert float(best['setting'][LR]) == max(trial.params[LR] for trial in done)
    before = len(trainings)
    assert call(*arguments, '--seeds', 2)[0] == 0  # the same settings, each with one more seed
    assert len(trainings) == before + 5 and not {*trainings[before:]} & {*trainings[:before]}
    code, _, error = call(*arguments, '--metric', 'coverage')
    assert code == 2 and 'is for the best accuracy' in error and error.count('\n') == 1
    code, _, error = call('sweep', config, f'{LR}=1e-4..1e-2:log', f'{DROP}=0.3,0.4', '--optuna', 9, '--work-dir', work)
    assert code == 2 and 'other values of a key' in error and error.count('\n') == 1


def test_the_metric_is_that_of_the_best_checkpoint_or_the_first(rooms, tmp_path):
    from kovilt.engine.config import load_config

    vqa, pretrain = (
        load_config(tiny_config(tmp_path / f'{task}.py', task=task, steps=1)) for task in ('vqa', 'pretrain')
    )
    assert choose_metric(vqa, '', 'x') == Metric('accuracy', is_lower_better=False, takes_best=True)
    assert all(choose_metric(vqa, name, 'x').is_lower_better for name in ('ece', 'aurc'))
    assert choose_metric(vqa, 'coverage', 'x') == Metric('coverage', is_lower_better=False, takes_best=False)
    assert choose_metric(pretrain, '', 'x') == Metric('mlm_loss', is_lower_better=True, takes_best=False)
    assert choose_metric(pretrain, 'wpa_matched_distance', 'x').is_lower_better
    assert not choose_metric(pretrain, 'wpa_mismatched_distance', 'x').is_lower_better


def test_the_lowest_loss_comes_first_and_what_has_none_last():
    outcomes = [Outcome({'a': str(value)}, [Run(0, '', value)]) for value in (2.0, 1.0, None)]
    order = [outcome.setting['a'] for outcome in rank(outcomes, Metric('loss', True, False))]
    assert order == ['1.0', '2.0', 'None']
    assert json.dumps([outcome.interval for outcome in outcomes]) == '[null, null, null]'

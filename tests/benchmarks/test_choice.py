"""The comparison of models that choose among options, on a tiny set; what is done is not repeated."""

import json

import pytest

from benchmarks import choice
from kovilt.cli.main import main

FEW = ['val_dataloader.num_workers=0', 'train_dataloader.dataset.limit=8', 'val_dataloader.dataset.limit=12']
ANSWERS = 'train_dataloader.dataset.answers.min_count=1'  # 8 questions have few answers twice
NAMES = ['choice', 'choice_meter', 'choice_vocabulary', 'choice_question_only']


@pytest.fixture
def commands(monkeypatch):
    """The verbs and configs that are called, in this process."""
    called = []

    def run(args, command):
        called.append((command[2], command[3].removeprefix('rooms/')))
        more = [ANSWERS] if command[3] == 'rooms/choice_vocabulary' else []
        assert main([*command[2:], *more]) == 0
        return 1.0

    monkeypatch.setattr(choice, '_run', run)
    return called


@pytest.fixture(scope='module')
def meter(rooms, tmp_path_factory):
    folder = tmp_path_factory.mktemp('meter')
    options = ['train_cfg.max_iters=1', 'train_cfg.val_interval=9', 'train_dataloader.batch_size=4']
    command = ['train', 'rooms/meter_pretrain', '--work-dir', str(folder), '--no-report', '--cfg-options', *options]
    assert main(command) == 0
    return folder / 'iter_1.pth'


def test_all_models_answer_the_same_questions(rooms, meter, commands, call_benchmark, tmp_path):
    options = ('--out', tmp_path, '--steps', 1, '--batch', 4, '--seeds', 3, 5, '--more', *FEW)
    code, text, error = call_benchmark('choice', rooms, '--meter', meter, *options)
    assert code == 0, error
    tests = [config for verb, config in commands if verb == 'test']
    assert tests == ['choice', 'choice_meter'] + [name for name in NAMES for _ in '35']
    assert [config for verb, config in commands if verb == 'train'] == tests[2:]

    results = json.loads((tmp_path / 'results.json').read_text('utf-8'))
    rows = [json.loads(line) for line in (rooms / 'choices' / 'val.jsonl').read_text('utf-8').splitlines()]
    options_of = {str(row['question_id']): len(row['options']) for row in rows}
    asked = [
        json.loads(line)
        for line in (tmp_path / 'choice_1_5' / 'test' / 'predictions.jsonl').read_text('utf-8').splitlines()
    ]
    assert results['questions']['all'] == len(asked) == 12
    expected = sum(100 / options_of[row['question_id']] for row in asked) / len(asked)
    assert results['random']['all'] == pytest.approx(expected)
    assert results['seeds']['ViLT']['5'] == pytest.approx(100 * sum(row['correct'] for row in asked) / 12)
    for name, own in results['models'].items():
        assert own['all'][1] <= own['all'][0] <= own['all'][2]
        if name in results['seeds']:
            assert own['all'][0] == pytest.approx(sum(results['seeds'][name].values()) / 2)
    gain = results['models']['METER']['all'][0] - results['models']['ViLT']['all'][0]
    assert results['differences']['METER']['all'][0] == pytest.approx(gain)
    assert text.count('| all | 12 |') == 1 and '| METER |' in text and 'seed 5' in text

    done = len(commands)
    assert call_benchmark('choice', rooms, '--meter', meter, *options)[0] == 0 and len(commands) == done
    code, _, error = call_benchmark('choice', rooms, *options)
    assert code == 2 and 'holds runs with' in error and 'name another --out' in error


def test_rooms_without_choices_are_refused(call_benchmark, tmp_path):
    code, _, error = call_benchmark('choice', tmp_path, '--out', tmp_path / 'out')
    assert code == 2 and '--choices draws it' in error and not (tmp_path / 'out').exists()

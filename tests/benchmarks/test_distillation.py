"""The comparison of a distilled student with one of labels alone, on a tiny set; what is done is not repeated."""

import json

import pytest

from benchmarks import distillation
from kovilt.cli.main import main

TINY = [
    'train_dataloader.dataset.answers.min_count=1',
    'model.encoder.num_layers=1',
    'val_dataloader.num_workers=0',
    'default_hooks.run_record.interval=1',
]


@pytest.fixture
def commands(monkeypatch):
    """The verbs that are called, in this process."""
    called = []

    def run(args, teacher, command):
        called.append(command[2])
        with monkeypatch.context() as patch:
            patch.setenv('KOVILT_ROOMS', str(args.rooms))
            patch.setenv('KOVILT_TEACHER', str(teacher))
            assert main(command[2:]) == 0
        return 1.0

    monkeypatch.setattr(distillation, '_run', run)
    return called


def test_both_students_differ_by_the_teacher_alone(rooms, commands, call_benchmark, tmp_path):
    options = ('--questions', 24, '--steps', 2, '--batch', 8, '--weight', 0.25, '--more', *TINY)
    code, text, error = call_benchmark('distillation', rooms, '--out', tmp_path, '--seeds', 3, *options)
    assert code == 0, error
    assert commands == ['distill', 'train', 'test', 'train', 'test']
    first, pooled = (line.split(' | ') for line in text[text.index('| seed |') :].splitlines()[2:4])
    assert first[0] == '| 3' and pooled[0] == '| all' and first[1:5] == pooled[1:5]
    losses = [
        [json.loads(line) for line in (tmp_path / f'{name}_24_2_3' / 'metrics.jsonl').read_text('utf-8').splitlines()][
            0
        ]
        for name in ('labels', 'teacher_0.25_2')
    ]
    assert losses[1]['vqa_loss'] == pytest.approx(
        0.75 * losses[0]['vqa_loss'], rel=1e-5
    )  # of the same weights and rows
    assert 'distillation_loss' not in losses[0] and losses[1]['distillation_loss'] > 0
    assert call_benchmark('distillation', rooms, '--out', tmp_path, '--seeds', 3, *options)[0] == 0
    assert len(commands) == 5
    results = json.loads((tmp_path / 'results.json').read_text('utf-8'))
    assert [row['seed'] for row in results['rows']] == [3, 'all'] and results['steps'] == 2

    code, _, error = call_benchmark('distillation', rooms, '--out', tmp_path, '--seeds', 3, '--batch', 4)
    assert code == 2 and 'holds runs with' in error and 'name another --out' in error and len(commands) == 5


def test_a_folder_that_is_no_rooms_is_refused(call_benchmark, tmp_path):
    code, _, error = call_benchmark('distillation', tmp_path, '--out', tmp_path / 'out')
    assert code == 2 and 'no Rooms; kovilt rooms' in error and not (tmp_path / 'out').exists()

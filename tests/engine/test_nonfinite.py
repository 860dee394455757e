"""A loss or gradient that is not finite stops, skips or repeats; no parameter and no checkpoint takes it."""

import json

import pytest
import torch
from mmengine.hooks import Hook

from kovilt.errors import RunFault


class BreakStep(Hook):
    """Makes the loss, or the gradients alone, of some steps (counted from 1) NaN or infinite, `times` times each."""

    priority = 'VERY_HIGH'

    def __init__(self, *steps: int, what: str = 'loss', times: int = 100) -> None:
        self.left = dict.fromkeys(steps, times)
        self.what = what
        self.samples: dict[int, list[int]] = {}

    def before_train(self, runner):
        losses = type(runner.model).losses

        def broken(batch):
            result = losses(runner.model, batch)
            step = runner.iter + 1
            if self.left.get(step, 0):
                self.left[step] -= 1
                self.samples[step] = batch['sample_seed'].tolist()
                name = next(name for name in result if 'loss' in name)
                value = result[name]
                if self.what == 'gradient':
                    value.register_hook(lambda gradient: gradient * float('inf'))
                else:
                    result[name] = value * float('nan')
            return result

        runner.model.losses = broken


def run(build, *steps, action='stop', what='loss', times=100, max_skipped=10, **options):
    options = {'steps': 6, 'save_every': 2, 'limit': 48, 'drop_rate': 0.1, **options}
    more = f"default_hooks['nonfinite'] = dict(type='NonFiniteHook', action={action!r}, max_skipped={max_skipped})"
    runner = build(more=more, **options)
    runner.register_hook(BreakStep(*steps, what=what, times=times))
    return runner


@pytest.mark.parametrize('what', ['loss', 'gradient'])
def test_the_run_stops_before_the_update_and_names_the_samples(build, what, tmp_path):
    runner = run(build, 4, what=what, work_dir=tmp_path / 'run')
    with pytest.raises(RunFault, match='step 4: the loss or the gradients are NaN or infinite; .*_step_4_rank0.json'):
        runner.train()
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    found = json.loads((tmp_path / 'run' / 'nonfinite_step_4_rank0.json').read_text('utf-8'))
    assert found['step'] == 4 and len(found['samples']) == 16
    assert {'image', 'question', 'row'} <= found['samples'][0].keys()
    assert [path.name for path in sorted((tmp_path / 'run').glob('*.pth'))] == ['iter_2.pth']
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text('utf-8').splitlines()]
    assert max(row['step'] for row in rows) == 3  # no NaN is logged as a result


def test_skipped_steps_are_counted_and_limited(build, tmp_path):
    runner = run(build, 2, 3, action='skip', max_skipped=2, work_dir=tmp_path / 'run')
    runner.train()
    assert runner.iter == 6 and runner.message_hub.runtime_info['nonfinite_skipped'] == 2
    runner = run(build, 2, 3, 5, action='skip', max_skipped=2)
    with pytest.raises(RunFault, match='step 5: .*stopped after 2 skipped steps'):
        runner.train()


def test_skipped_steps_are_counted_over_interruptions(build, tmp_path):
    run(build, 3, action='skip', max_skipped=1, work_dir=tmp_path, steps=4).train()
    resumed = run(build, 5, action='skip', max_skipped=1, work_dir=tmp_path, overrides={'resume': 'auto'})
    with pytest.raises(RunFault, match='step 5: .*stopped after 1 skipped steps'):
        resumed.train()


@pytest.mark.parametrize('unit', [{'steps': 6, 'save_every': 2}, {'steps': 0, 'epochs': 2, 'save_every': 1}])
def test_going_back_repeats_the_steps_since_the_checkpoint(build, unit, tmp_path):
    whole = build(**{'limit': 48, 'drop_rate': 0.1, **unit})
    whole.train()
    runner = run(build, 5, action='roll_back', times=1, work_dir=tmp_path / 'run', **unit)
    runner.train()
    ours, theirs = runner.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text('utf-8').splitlines()]
    steps = [row['step'] for row in rows if row['mode'] == 'train']
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_step_that_is_bad_again_after_going_back_stops(build):
    runner = run(build, 5, action='roll_back')
    with pytest.raises(RunFault, match='step 5: .*stopped again, after going back'):
        runner.train()


def test_going_back_without_a_checkpoint_stops(build):
    runner = run(build, 1, action='roll_back')
    with pytest.raises(RunFault, match='there is no checkpoint yet to go back to'):
        runner.train()

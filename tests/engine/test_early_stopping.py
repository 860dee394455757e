"""A training ends when its metric no longer improves, at the same step if it was interrupted meanwhile."""

import json

import pytest

from kovilt.engine.interruption import Interruption
from tests.engine.test_interruption import SendSignal

STOP = "custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy', rule='greater', min_delta=200., patience=2)]"
STEPS = {'steps': 20, 'save_every': 1, 'limit': 48, 'more': STOP}  # 200 points more are never reached
VALIDATE = ('train_cfg.val_interval=2',)


def last_step(work_dir):
    rows = map(json.loads, (work_dir / 'metrics.jsonl').read_text('utf-8').splitlines())
    return max(row['step'] for row in rows if row['mode'] == 'val')


def test_it_stops_after_the_first_best_and_its_patience(build, tmp_path):
    build(tmp_path, VALIDATE, **STEPS).train()
    assert last_step(tmp_path) == 6  # the first validation counts as best, the next two wait


@pytest.mark.parametrize(('step', 'in_validation'), [(1, False), (2, True), (4, False), (4, True), (6, True)])
def test_an_interrupted_run_stops_at_the_same_step(build, tmp_path, step, in_validation):
    runner = build(tmp_path, VALIDATE, **STEPS)
    runner.register_hook(SendSignal(step, in_validation=in_validation))
    with pytest.raises(Interruption):
        runner.train()
    build(tmp_path, VALIDATE, overrides={'resume': 'auto'}, **STEPS).train()
    assert last_step(tmp_path) == 6
    again = build(tmp_path, VALIDATE, overrides={'resume': 'auto'}, **STEPS)
    again.train()
    assert again.iter == 6

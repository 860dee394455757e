"""Rows of numbers that go wrong: not finite, exploding, too many for the memory; and of those that must not change."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.checks import Silent, check_exact, describe_end, expect, expect_told, read_metrics, read_trace
from benchmarks.faults.hooks import FaultHook
from benchmarks.faults.rig import STEPS, TWO_RANKS, Try, at_step
from benchmarks.faults.suite import row

BREAKS = 'NaN loss', 'infinite loss', 'NaN gradient', 'infinite gradient'


def break_step(step: int, what: str) -> Callable[[], None]:
    """A fault: the loss of one step, or only its gradients, are not finite. `what` is one of BREAKS."""

    def break_losses(runner: Any) -> None:
        from kovilt.engine.checkpoints import unwrap_model

        model = unwrap_model(runner.model)
        losses = model.losses
        factor = float('nan' if 'NaN' in what else 'inf')

        def broken(batch: Any) -> dict[str, Any]:
            del model.losses  # once
            result = losses(batch)
            name = next(name for name in result if 'loss' in name)
            if 'gradient' in what:
                result[name].register_hook(lambda gradient: gradient * factor)
            else:
                result[name] = result[name] * factor
            return result

        model.losses = broken

    def plan() -> None:
        FaultHook.plan['before_step', step] = break_losses

    return plan


def check_finite(work: Path) -> None:
    """Silent if a checkpoint of a run holds a weight or a state that is not finite."""
    import torch

    for path in work.glob('*.pth'):
        content = torch.load(path, weights_only=True)
        states = content.get('optimizer', {}).get('state', {}).values()
        values = [*content['state_dict'].values(), *(value for state in states for value in state.values())]
        for value in values:
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all():
                raise Silent(f'{path.name} holds values that are not finite')


@row(
    'F13',
    'NaN or infinite loss or gradient, also on one rank only',
    '손실이나 그래디언트가 NaN 또는 무한대(한 랭크에서만일 때도)',
    tries=24,
    fast=2,
)
def not_finite(attempt: Try) -> None:
    """'stop' ends all ranks before the update and names the samples, 'skip' leaves the step out, 'roll_back' repeats
    it. No checkpoint takes a bad value; a run that is resumed, or has gone back, is exact."""
    action = ('stop', 'skip', 'roll_back')[attempt.number % 3]
    what = BREAKS[attempt.number // 3 % 4]
    ranks = 1 + attempt.number // 12
    step = attempt.rng.randint(4, STEPS)
    options = (f'default_hooks.nonfinite.action={action}', *(TWO_RANKS if ranks == 2 else ()))
    golden = attempt.golden_of(*options[1:], ranks=ranks) if ranks == 2 else attempt.golden_of()
    outcome = attempt.train(*options, ranks=ranks, faults={ranks - 1: (fault := break_step(step, what))}, fault=fault)
    check_finite(attempt.work)
    if action == 'stop':
        expect_told(outcome, 1, f'step {step}: the loss or the gradients are NaN or infinite', '--resume')
        report = attempt.work / f'nonfinite_step_{step}_rank0.json'
        expect(len(json.loads(report.read_text('utf-8'))['samples']) == 8 // ranks, 'the samples are not named')
        attempt.forget_step(step)  # its loss was broken, so its line differs
        attempt.resume_exactly(*options, ranks=ranks, golden=golden)
        return
    expect(outcome.code == 0, describe_end(outcome))
    if action == 'roll_back':
        attempt.forget_step(step)
        check_exact(attempt.work, golden)
        return
    expect('skipped (1 of at most 10)' in outcome.text, 'it does not say that it has skipped the step')
    trace = {line['step']: line['weights'] for line in read_trace(attempt.work)}
    if trace[step] != trace[step - 1]:
        raise Silent('the skipped step has changed weights')


@row(
    'F14',
    'exploding gradient, learning rate x 1000 for one step',
    '그래디언트 폭발, 한 스텝 동안 학습률 x 1000',
    tries=6,
    fast=0,
)
def explosion(attempt: Try) -> None:
    """The gradients are clipped, their norm before clipping is in the record, and every checkpoint is finite."""
    step = attempt.rng.randint(4, STEPS - 1)

    def plan() -> None:
        def explode(runner: Any) -> None:
            if attempt.number % 2:
                parameter = next(runner.model.parameters())
                handle = parameter.register_hook(lambda gradient: gradient * 1e6)
                FaultHook.plan['after_step', step] = lambda runner: handle.remove()
            else:
                scale_lr(runner, 1000)
                FaultHook.plan['after_step', step] = lambda runner: scale_lr(runner, 1e-3)

        FaultHook.plan['before_step', step] = explode

    def scale_lr(runner: Any, factor: float) -> None:
        for group in runner.optim_wrapper.optimizer.param_groups:
            group['lr'] *= factor

    outcome = attempt.train(fault=plan)
    check_finite(attempt.work)
    expect(outcome.code in (0, 1), describe_end(outcome))
    rows = {row['step']: row for row in read_metrics(attempt.work) if row['mode'] == 'train'}
    usual = {row['step']: row for row in attempt.golden[attempt.task].metrics if row['mode'] == 'train'}
    if attempt.number % 2:
        if rows[step]['grad_norm'] < 100 * usual[step]['grad_norm']:
            raise Silent('the record does not show the norm')
        after = abs(rows[step + 1]['loss'] - usual[step + 1]['loss'])
        expect(after < 5, f'clipping did not hold: the next loss differs by {after:.1f}')
    elif outcome.code == 0 and rows[step + 1]['loss'] == usual[step + 1]['loss']:
        raise Silent('the record does not show that the loss jumped')


@row('F15', 'out of memory in a step (RLIMIT_AS)', '스텝 도중 메모리 부족(RLIMIT_AS)', tries=6, fast=0)
def out_of_memory(attempt: Try) -> None:
    """One line with the size of the batch and the remedies; the checkpoints are whole, and the run can go on.

    The memory is short when a run is resumed: later steps reuse what earlier ones have freed.
    """
    options = ('train_dataloader.batch_size=512', 'train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=1')
    step = attempt.rng.randint(1, 3)
    golden = attempt.golden_of(*options)

    def used() -> int:
        return int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()

    def limit(runner: Any) -> None:
        runner.ballast = []  # takes what this process has freed, so that the step has to ask for more
        for size in (1 << 20, 1 << 16):
            full = used() + (8 << 20)
            while used() < full:
                runner.ballast.append(bytearray(size))
        resource.setrlimit(resource.RLIMIT_AS, (used() + (8 << 20),) * 2)

    def plan() -> None:
        FaultHook.plan['before_step', step + 1] = limit

    attempt.train(*options, fault=at_step('before_step', step, 'SIGTERM'))
    outcome = attempt.train(*options, resume=True, fault=plan)
    expect_told(outcome, 1, 'out of memory in a batch of', 'micro_batches', '--resume')
    attempt.resume_exactly(*options, golden=golden)


@row(
    'F16',
    'repeated with the same seed: again, other numbers of workers',
    '같은 시드로 반복: 다시, 워커 수를 바꿔서',
    tries=10,
    fast=1,
)
def repeated(attempt: Try) -> None:
    """Two runs of one seed are equal bit for bit, whatever loads the samples."""
    seed = f'randomness.seed={attempt.number}'
    loader = [
        (),
        ('train_dataloader.num_workers=1',),
        ('train_dataloader.num_workers=2', 'val_dataloader.num_workers=1'),
        ('train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True'),
        ('train_dataloader.num_workers=3', 'train_dataloader.prefetch_factor=4'),
    ][attempt.number // 2 % 5]
    golden = attempt.golden_of(seed)
    outcome = attempt.train(seed, *loader)
    expect(outcome.code == 0, describe_end(outcome))
    check_exact(attempt.work, golden, lost=0)

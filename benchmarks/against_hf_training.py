"""Sections of against_hf.py about training as a whole: host waits, steps under the Runner, the share of alignment."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.against_hf_models import (
    BothBatches,
    BothModels,
    build_optim_wrapper,
    empty_cache,
    make_both_batches,
    training_variants,
)
from benchmarks.fixtures import FIRST_TOKEN, ROOT
from benchmarks.report import Report
from benchmarks.timing import count_host_waits, default_precision, device_clock, is_cuda, time_in_turn

if TYPE_CHECKING:
    from torch import Tensor

    from kovilt.batch import Batch

STEPS = 12  # of the Runner
FIRST_WATCHED = 4  # earlier steps fill caches


def measure_host_waits(models: BothModels, report: Report) -> None:
    """How often a training step makes the host wait for the GPU.

    Raises:
        AssertionError: a step of kovilt does.
    """
    models.train()
    models.free()
    batch = make_both_batches(64, models.size, models.device)
    kovilt = to_host(batch.kovilt)
    kovilt['patches'], kovilt['label'] = kovilt['patches'].pin_memory(), kovilt['label'].pin_memory()  # as the loader's
    batch = BothBatches(kovilt, batch.transformers)
    rows, waiting = [], []
    for name, run in training_variants(models, batch).items():
        if 'float16 with' in name:
            continue  # a loss scaler has to wait
        for _ in range(2):
            run()
        places = count_host_waits(run)
        rows.append((name, batch.num_pairs, len(places), ' '.join(sorted(set(places))[:6])))
        if places and name.startswith('kovilt'):
            waiting.append(name)
    report.add_table('waits', ('training step', 'batch', 'waits', 'first places'), rows)
    models.free()
    if waiting:
        raise AssertionError(f'the host waits in {", ".join(waiting)}')


def train_under_runner(models: BothModels, report: Report) -> None:
    """Steps under KoviltRunner with the hooks of configs/_base_/runtime.py; on CUDA a host wait raises an error.

    The last step, which logs, may wait.
    """
    import torch
    from mmengine.config import Config
    from mmengine.hooks import Hook

    from kovilt.engine import KoviltRunner

    models.free()
    cuda = is_cuda(models.device)
    num_pairs = 64 if cuda else 2
    batches = [to_host(make_both_batches(num_pairs, models.size, models.device, seed=seed).kovilt) for seed in range(4)]

    class ForbidWaitsHook(Hook):
        """Runs first in a step."""

        priority = 'HIGHEST'

        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            if cuda and FIRST_WATCHED <= batch_idx < STEPS - 1:
                torch.cuda.set_sync_debug_mode('error')

    class AllowWaitsHook(Hook):
        """Runs last in a step."""

        priority = 'LOWEST'

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if cuda:
                torch.cuda.set_sync_debug_mode('default')

    base = Config.fromfile(ROOT / 'configs' / '_base_' / 'runtime.py').to_dict()
    logger = dict(type='LoggerHook', interval=1000, log_metric_by_epoch=False)
    base['default_hooks'].update(checkpoint=None, logger=logger)
    base['env_cfg'].pop('dist_cfg')
    wrapper = dict(
        type='ViLTOptimWrapper',
        constructor='ViLTOptimWrapperConstructor',
        clip_grad=dict(max_norm=1.0),
        precision=default_precision(models.device),
        optimizer=dict(type='AdamW', lr=1e-5),
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = KoviltRunner(
            model=models.kovilt,
            work_dir=folder,
            experiment_name='against_hf',
            train_dataloader=dict(
                dataset=FinishedBatches(batches, STEPS),
                batch_size=1,
                num_workers=1,
                collate_fn=list,
                sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
                persistent_workers=False,
            ),
            train_cfg=dict(type='StepTrainLoop', max_iters=STEPS, val_interval=10**6),
            optim_wrapper=wrapper,
            param_scheduler=dict(type='WarmupLinearLR', warmup=0.1, by_epoch=False),
            log_level='WARNING',
            **base,
        )
        runner.register_hook(ForbidWaitsHook())
        runner.register_hook(AllowWaitsHook())
        try:
            runner.train()
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode('default')
    watched = STEPS - 1 - FIRST_WATCHED if cuda else 0
    result = f'{watched} of them without a wait of the host' if cuda else 'on a CPU, where the host never waits'
    report.add_line(
        'runner', f'{STEPS} steps of {num_pairs} pairs under KoviltRunner, {result}', steps=STEPS, watched=watched
    )
    models.kovilt.to(models.device)


def to_host(batch: Batch) -> Batch:
    """The batch as the loader makes it."""
    moved = batch.copy()
    moved['patches'], moved['label'] = batch['patches'].cpu(), batch['label'].cpu()
    return moved


class FinishedBatches:
    """A data set whose samples are finished batches, repeated up to a length."""

    metainfo: dict[str, Any] = {}

    def __init__(self, batches: list[Batch], length: int) -> None:
        self.batches, self.length = batches, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index % len(self.batches)]


def measure_alignment(models: BothModels, num_pairs: int, rounds: int, report: Report) -> None:
    """The share of word-patch alignment, forward and backward, in the pre-training step that it is part of."""
    import torch

    from kovilt.models.sizes import build_model
    from kovilt.modules.vilt import ViLTStates

    device, cuda = models.device, is_cuda(models.device)
    models.free()
    rows = []
    for name, numbers in (('paper', dict(beta=0.5, iterations=50)), ('small beta', dict(beta=0.05, iterations=30))):
        torch.manual_seed(0)
        config = dict(
            type='ViLTForPreTraining',
            encoder=models.size.encoder_config(),
            mlm_head=dict(
                type='MLMHead',
                mask_token_id=4,
                special_token_ids=list(range(FIRST_TOKEN)),
                mask_ratio=0.15,
                whole_word=True,
                loss_weight=1.0,
            ),
            itm_head=dict(type='ITMHead', loss_weight=1.0),
            wpa_head=dict(type='WPAHead', loss_weight=0.5, mismatched='ignore', **numbers),
        )
        model: Any = build_model(config).to(device).train()
        model.encoder.compile_blocks({} if cuda else None)
        wrapper = build_optim_wrapper(model, default_precision(device))
        batch = make_both_batches(num_pairs, models.size, device).kovilt
        packing = model.encoder.make_packing(
            batch['text_mask'], batch['grids'], batch['image_index'], torch.device(device)
        )
        states = torch.randn(len(packing.gather_index), models.size.hidden_size, device=device) + 1.0
        states.requires_grad_()
        matched = (torch.arange(num_pairs) % 2 == 0).to(device)
        align = _alignment_step(model, batch, ViLTStates(states, packing, 'all'), matched)
        seconds = time_in_turn(
            {'step': partial(model.train_step, [batch], wrapper), 'align': align},
            rounds=rounds,
            clock=device_clock(device),
            untimed=int(cuda),
            repeats=3 if cuda else 1,
        )
        share = statistics.median(a / b for a, b in zip(seconds['align'], seconds['step'], strict=True))
        milliseconds = [statistics.median(seconds[key]) * 1e3 for key in ('step', 'align')]
        rows.append((name, num_pairs, 'yes' if cuda else 'no', *milliseconds, 100 * share))
        del model, wrapper, align
        empty_cache(device)
    report.add_table('alignment', ('WPAHead', 'batch', 'compiled', 'step, ms', 'alignment, ms', 'share, %'), rows)


def _alignment_step(model: Any, batch: Batch, states: Any, matched: Tensor) -> Callable[[], None]:
    """Forward and backward of the alignment alone."""
    from kovilt.models.pretraining import alignment_inputs

    def align() -> None:
        states.packed.grad = None
        model.wpa_head.loss(*alignment_inputs(batch, states), matched)['wpa_loss'].backward()

    return align

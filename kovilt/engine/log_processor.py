"""The lines of the log: while a loop runs, and after an evaluation."""

from __future__ import annotations

import re
from typing import Any

import torch
from mmengine.runner import LogProcessor, Runner

from kovilt.engine.hooks.epoch_time import peak_memory_mb
from kovilt.registry import LOG_PROCESSORS

SUBSET_METRIC = re.compile(r'(?:\w+/)?(?:accuracy|questions|coverage_at_precision)\w*/.*: ')


@LOG_PROCESSORS.register_module()
class BriefLogProcessor(LogProcessor):
    """MMEngine's LogProcessor, with the speed in the lines of a loop and without subsets in that of an evaluation.

    While a loop runs, the line also holds samples a second, on a CPU the peak memory, and, where a training counts
    steps, its epoch. After an evaluation it holds only the metrics of the whole set: those of subsets
    (`accuracy/색`, `questions_by_length/4-6`), and those at a precision, would fill the screen. They are in
    metrics.jsonl, metrics.json and TensorBoard.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        values, line = super().get_log_after_iter(runner, batch_idx, mode)
        parts = [line.rstrip()]
        if (speed := samples_per_second(runner, mode)) is not None:
            values['samples_per_second'] = speed
            parts.append(f'samples/s: {speed:.0f}')
        if not torch.cuda.is_available():  # there MMEngine tells it
            values['memory'] = round(peak_memory_mb())
            parts.append(f'memory: {values["memory"]}')
        if mode == 'train' and not self.by_epoch:
            parts.append(f'epoch: {runner.epoch + 1}/{runner.max_epochs}')
        return values, '  '.join(parts)

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        metrics, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        return metrics, '  '.join(item for item in line.split('  ') if not SUBSET_METRIC.match(item))


def samples_per_second(runner: Runner, mode: str) -> float | None:
    """The speed of all processes together, as a mean over the last steps; None before the first one."""
    seconds = runner.message_hub.log_scalars.get(f'{mode}/time')
    loader = getattr(runner, f'{mode}_dataloader')
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)
    if seconds is None or size is None:
        return None
    return runner.world_size * size / max(seconds.mean(runner.log_processor.window_size), 1e-9)

"""The lines of the console and the log while a run trains, validates or tests, and the bars of a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from kovilt.engine.console import FILE_ONLY, PROGRESS
from kovilt.engine.hooks.epoch_time import peak_memory_mb
from kovilt.engine.log_processor import samples_per_second
from kovilt.registry import HOOKS

SIGN_OF_LIFE = 30.0  # seconds without a line on the console, after which a long validation writes one
_TITLES = {'val': 'validation', 'test': 'test'}


@HOOKS.register_module()
class RunLoggerHook(LoggerHook):
    """MMEngine's LoggerHook for a console that a person reads.

    - On a terminal bars show how far training, validation and test are, and take the place of the lines.
    - Elsewhere the lines of a training are MMEngine's; a validation writes its result, and how far it is every 30 s.
    - The last step of a run is logged, so that a run of fewer steps than the interval has a loss to show.
    - The metrics of a test reach TensorBoard, MLflow and W&B, too.

    The log file has all lines. The arguments are those of LoggerHook.
    """

    _told = 0.0  # when the console had the last line of a validation

    def before_train(self, runner: Runner) -> None:
        self._draw(runner, 'train', runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        loader = runner.train_dataloader
        is_end = self.end_of_epoch(loader, batch_idx)
        if is_end or self.every_n_train_iters(runner, self.interval_exp_name):
            runner.logger.info(f'Exp name: {runner.experiment_name}', extra=FILE_ONLY)
        is_due = self.every_n_inner_iters(batch_idx, self.interval) or runner.iter + 1 == runner.max_iters
        if is_due or (is_end and (not self.ignore_last or len(loader) <= self.interval)):
            tag, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
            runner.logger.info(line, extra=PROGRESS)
            runner.visualizer.add_scalars(tag, step=runner.iter + 1, file_path=self.json_log_path)
        self._draw(runner, 'train', runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        self._told = time.monotonic()
        self._draw(runner, 'val', 0)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        is_told = time.monotonic() - self._told >= SIGN_OF_LIFE
        if self.every_n_inner_iters(batch_idx, self.interval) or is_told:
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'val')
            runner.logger.info(line, extra=PROGRESS if is_told else FILE_ONLY)
            self._told = time.monotonic() if is_told else self._told
        self._draw(runner, 'val', batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        runner.console.finish('val')
        super().after_val_epoch(runner, metrics)

    def before_test_epoch(self, runner: Runner) -> None:
        self._draw(runner, 'test', 0)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        if self.every_n_inner_iters(batch_idx, self.interval):
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'test')
            runner.logger.info(line, extra=PROGRESS)
        self._draw(runner, 'test', batch_idx + 1)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_test_epoch(runner, metrics)
        numbers = {f'test/{name}': value for name, value in (metrics or {}).items() if isinstance(value, (int, float))}
        runner.visualizer.add_scalars(numbers)

    def after_run(self, runner: Runner) -> None:
        runner.console.close()
        super().after_run(runner)

    def _draw(self, runner: Runner, mode: str, done: int) -> None:
        """Show how many steps or batches are done."""
        console = runner.console
        if not console.draws:
            return
        if mode == 'train':
            total, epochs = runner.max_iters, runner.max_epochs
            title = f'epoch {min(runner.epoch + 1, epochs)}/{epochs}'
        else:
            total, title = len(getattr(runner, f'{mode}_dataloader')), _TITLES[mode]
        left = runner.message_hub.runtime_info.get('eta') if done else None
        numbers = describe_numbers(runner, mode) if done and console.wants_numbers() else None
        console.advance(mode, title, done, total, left, numbers)


def describe_numbers(runner: Runner, mode: str) -> str:
    """Loss and accuracies of the training, speed, waiting time for data and peak memory, as one line."""
    scalars, window = runner.message_hub.log_scalars, runner.log_processor.window_size
    names = [name for name in scalars if name == 'train/loss' or name.startswith('train/') and 'accuracy' in name]
    parts = [f'{name.removeprefix("train/")} {scalars[name].mean(window):.4f}' for name in names if mode == 'train']
    if (speed := samples_per_second(runner, mode)) is not None:
        parts.append(f'{speed:,.0f} samples/s')
    if (waiting := scalars.get(f'{mode}/data_time')) is not None:
        parts.append(f'data {1000 * waiting.mean(window):,.0f} ms')
    return '  '.join([*parts, f'{peak_memory_mb():,.0f} MB'])

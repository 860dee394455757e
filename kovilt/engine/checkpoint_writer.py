"""Writes checkpoints while the training goes on: the training waits for the copy of its tensors, not for the disk."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor

from kovilt.engine.distributed import mark_progress
from kovilt.engine.run_files import RunFiles, SaveFault
from kovilt.errors import KoviltError, RunFault

_LONG_WAIT = 1.0  # seconds after which a line tells that the disk is too slow for the interval of checkpoints


class _Job(NamedTuple):
    name: str  # of the file, for messages
    written: Future[None]
    undo: Callable[[], None]  # called if it could not be written and the run goes on


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread.

    The tensors are first copied into host memory, which is kept for the next checkpoint: a fresh copy would take six
    times as long. On CUDA that memory is pinned and the copy asynchronous: the steps that follow wait for it on the
    device, the host does not. A checkpoint is submitted when the one before is complete. Leaving the writer, which
    `KoviltRunner.train` does at the end of every run, waits for the last one; if that could not be written, it raises
    SaveFault also when failures before have only been warned of.

    Args:
        files: decide what happens when a checkpoint cannot be written.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._executor: ThreadPoolExecutor | None = None
        self._job: _Job | None = None
        self._unsaved: SaveFault | None = None  # why the last checkpoint was not written
        self._copies: dict[tuple[object, ...], Tensor] = {}  # by the place in the checkpoint

    def submit(
        self,
        checkpoint: Mapping[str, Any],
        write: Callable[[dict[str, Any]], None],
        *,
        name: str,
        undo: Callable[[], None] = lambda: None,
        background: bool = True,
    ) -> None:
        """Copy a checkpoint and call `write` with the copy, in the thread or, without `background`, at once.

        Raises:
            RunFault: this checkpoint or the one before holds weights that are not finite or cannot be written, and
                `files` say stop.
        """
        self.wait()
        if not background:
            written: Future[None] = Future()
            try:
                self._write(to_host(checkpoint), write)
                written.set_result(None)
            except OSError as error:
                written.set_exception(error)
            self._job = _Job(name, written, undo)
            self.wait()
            return
        copied = _map_tensors(checkpoint, self._copy)
        event = torch.cuda.current_stream().record_event() if torch.cuda.is_initialized() else None
        self._executor = self._executor or ThreadPoolExecutor(1, thread_name_prefix='checkpoint')
        self._job = _Job(name, self._executor.submit(self._write, copied, write, event), undo)

    def check(self) -> None:
        """Between two steps: see to the last checkpoint if it is written. Raises RunFault as `submit`."""
        if self._job is not None and self._job.written.done():
            self.wait()

    def wait(self, *, tolerant: bool = False) -> None:
        """Wait until the last checkpoint is complete.

        Args:
            tolerant: the run ends in any case, so only warn if it could not be written.

        Raises:
            RunFault: as `submit`.
        """
        job, self._job = self._job, None
        if job is None:
            return
        start = time.monotonic()
        if not job.written.done():
            mark_progress('before_save_checkpoint')  # so that other processes wait as for a checkpoint
        try:
            job.written.result()
            self._unsaved = None
        except OSError as error:
            job.undo()
            self._unsaved = self._files.fault(job.name, error)
            if not tolerant:
                self._files.report(job.name, error)
            else:
                print_log(str(self._unsaved), 'current', level=logging.WARNING)
        except KoviltError as error:
            if not tolerant:
                raise
            print_log(str(error), 'current', level=logging.WARNING)
        if (waited := time.monotonic() - start) > _LONG_WAIT:
            print_log(f'waited {waited:.1f} s until {job.name} was written', 'current')

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait(tolerant=error is not None)
            if error is None and self._unsaved is not None:
                raise self._unsaved
        finally:
            self._copies.clear()
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None

    def _write(
        self, checkpoint: dict[str, Any], write: Callable[[dict[str, Any]], None], event: torch.cuda.Event | None = None
    ) -> None:
        if event is not None:
            event.synchronize()
        check_finite(checkpoint)
        self._files.check_folder()
        write(checkpoint)

    def _copy(self, tensor: Tensor, place: tuple[object, ...]) -> Tensor:
        copied = self._copies.get(place)
        if copied is None or (copied.shape, copied.dtype) != (tensor.shape, tensor.dtype):
            copied = torch.empty_like(tensor, device='cpu', pin_memory=tensor.is_cuda)
            self._copies[place] = copied
        return copied.copy_(tensor.detach(), non_blocking=tensor.is_cuda)


def to_host(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint with its tensors in host memory; those of a CPU are not copied."""
    return _map_tensors(checkpoint, lambda tensor, place: tensor.detach().cpu())


def check_finite(checkpoint: Mapping[str, Any]) -> None:
    """Raise RunFault if a weight is NaN or infinite."""
    for name, value in checkpoint['state_dict'].items():
        if value.is_floating_point() and not value.isfinite().all():
            raise RunFault(
                f'step {checkpoint["meta"].get("iter")}: {name} is NaN or infinite, so no checkpoint is written; '
                'continue from an earlier one with --resume'
            )


def _map_tensors(value: Any, function: Callable[[Tensor, tuple[object, ...]], Tensor], *place: object) -> Any:
    """A copy of nested dicts and lists with each tensor replaced by `function(tensor, its place)`."""
    if isinstance(value, Tensor):
        return function(value, place)
    if isinstance(value, dict):
        copied = copy.copy(value)  # keeps the attributes of a state_dict
        copied.update({key: _map_tensors(item, function, *place, key) for key, item in value.items()})
        return copied
    if type(value) in (list, tuple):
        return type(value)(_map_tensors(item, function, *place, i) for i, item in enumerate(value))
    return value

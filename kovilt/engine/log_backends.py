"""Where a run logs besides its record: TensorBoard, MLflow, W&B, files. None of them can stop or delay a training."""

from __future__ import annotations

import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, TensorboardVisBackend, Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend

from kovilt.errors import KoviltError, first_line
from kovilt.terminal import printable

PATIENCE = 30.0  # seconds that a training waits for a call; MLflow and W&B retry for minutes
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds without a call after a failed one
_PACKAGES = {  # of the classes of MMEngine
    'TensorboardVisBackend': "'kovilt[tensorboard]'",
    'MLflowVisBackend': "'kovilt[mlflow]'",
    'WandbVisBackend': "'kovilt[wandb]'",
    'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
    'AimVisBackend': 'aim',
}
LOGGERS = {
    'tensorboard': 'TensorboardVisBackend',
    'mlflow': 'MLflowVisBackend',
    'wandb': 'WandbVisBackend',
}  # of --logger
_METHODS = ('add_config', 'add_graph', 'add_image', 'add_scalar', 'add_scalars')
# In the names of metrics: in MLflow's file store accuracy/색 would be a file in the file accuracy.
_NOT_OF_MLFLOW = re.compile(r'(?<!^train)(?<!^val)(?<!^test)/|[^/\w.\- ]')


def add_backends(config: Config, names: Iterable[str]) -> None:
    """Let a run log to 'tensorboard', 'mlflow' or 'wandb', too."""
    visualizer = dict(config.get('visualizer') or {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]})
    backends = _backends_of(visualizer)
    missing = {LOGGERS[name]: None for name in names}.keys() - {_type_name(backend) for backend in backends}
    config.visualizer = {**visualizer, 'vis_backends': backends + [{'type': name} for name in sorted(missing)]}
    # Else a loss of the training and that of the validation would be one curve.
    config.log_processor = {
        **(config.get('log_processor') or {'type': 'BriefLogProcessor'}),
        'log_with_hierarchy': True,
    }


def complete_backends(visualizer: dict[str, Any], work_dir: str) -> None:
    """Give the back ends of a config the places and names that it leaves open.

    TensorBoard's files and MLflow's store lie in the work folder, so that all starts of a resumed run stand together.
    MLFLOW_TRACKING_URI names another store or a server; WANDB_MODE and the other variables of W&B count as always.
    """
    folder, uri = Path(work_dir).resolve(), os.environ.get('MLFLOW_TRACKING_URI')
    for backend in _backends_of(visualizer):
        defaults: dict[str, Any] = {}
        match _type_name(backend):
            case 'TensorboardVisBackend':
                defaults = {'save_dir': str(folder / 'tensorboard')}
            case 'MLflowVisBackend':
                defaults = {'exp_name': 'kovilt', 'run_name': folder.name, 'tracking_uri': uri}
                if not backend.get('tracking_uri', uri):
                    os.environ.setdefault('MLFLOW_ALLOW_FILE_STORE', 'true')  # newer versions ask for a database
                    # No files of the work folder are copied into the store: it lies there, and would take in itself.
                    defaults |= {'save_dir': str(folder / 'mlflow'), 'artifact_suffix': ()}
            case 'WandbVisBackend':
                names = {'project': 'kovilt', 'name': folder.name, 'group': folder.name}
                defaults = {'save_dir': str(folder), 'init_kwargs': names}
        for key, value in defaults.items():
            backend.setdefault(key, value)


def _backends_of(visualizer: Mapping[str, Any]) -> list[dict[str, Any]]:
    backends = visualizer.get('vis_backends') or []
    return [backends] if isinstance(backends, Mapping) else list(backends)  # type: ignore[list-item]


def _type_name(backend: Mapping[str, Any]) -> str:
    kind = backend['type']
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


class GuardedBackend(BaseVisBackend):
    """A back end whose errors are warnings and whose calls take `PATIENCE` at most.

    After a failed call the next ones are left out for a minute, then longer, so that a server may come back. One that
    is not local works in a thread of its own, which the end of the process does not wait for.

    Args:
        backend: any back end of MMEngine; its other attributes can be read from this one.
        name: its name in messages.

    Raises:
        KoviltError: by the first call, if a package is missing.
    """

    def __init__(self, backend: BaseVisBackend, name: str) -> None:
        self._backend, self._name = backend, name
        self._works = False  # whether a call has ended well
        self._lost = 0  # calls since a call has failed
        self._pause, self._next_try = _FIRST_PAUSE, 0.0
        self._closed = False
        self._thread = None if isinstance(backend, (LocalVisBackend, TensorboardVisBackend)) else _Thread(name)
        if isinstance(backend, TensorboardVisBackend):
            threading.excepthook = partial(_report_thread_error, threading.excepthook)
        for method in _METHODS:
            setattr(self, method, partial(self._call, method))

    def __getattr__(self, name: str) -> Any:
        if name == '_backend':  # while it is copied
            raise AttributeError(name)
        return getattr(self._backend, name)

    @property
    def experiment(self) -> Any:
        """The object of the library, with which a hook of one's own logs at its own risk."""
        return self._backend.experiment

    def _init_env(self) -> None:  # abstract in MMEngine; the back end's own is called by its methods
        self._backend._init_env()

    def close(self) -> None:
        if not self._closed and (self._works or self._lost):  # it was used, which it is not on other ranks than 0
            self._next_try = 0.0
            self._call('close')
            self._closed = True

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        self._closed = False
        if method == 'add_scalars' and isinstance(self._backend, MLflowVisBackend):
            args = ({_NOT_OF_MLFLOW.sub('.', name): value for name, value in args[0].items()}, *args[1:])
        if time.monotonic() < self._next_try or (self._thread is not None and self._thread.is_busy()):
            self._lost += 1
            return
        call = partial(getattr(self._backend, method), *args, **kwargs)
        try:
            if self._thread is None:
                call()
            else:
                self._thread.do(call)
        except ImportError as error:
            if self._works:
                self._give_up(error)
                return
            remedy = f'pip install {_PACKAGES[kind]}' if (kind := type(self._backend).__name__) in _PACKAGES else ''
            raise KoviltError(
                f'visualizer: {self._name} lacks a package ({first_line(error)}); {remedy or "install it"}, or leave '
                'this back end out'
            ) from error
        except (Exception, SystemExit) as error:
            self._give_up(error)
        else:
            if method == 'close':
                return
            if self._lost:
                print_log(f'{self._name} logs again; {self._lost:,} calls were lost', 'current', logging.WARNING)
            self._works, self._lost, self._pause = True, 0, _FIRST_PAUSE

    def _give_up(self, error: BaseException) -> None:
        if not self._lost:  # later failures are silent
            print_log(
                f'{self._name} fails ({type(error).__name__}: {first_line(error)}); the run goes on without it and '
                'tries again from time to time',
                'current',
                logging.WARNING,
            )
        if isinstance(self._backend, TensorboardVisBackend):
            self._backend._env_initialized = False  # its writer, a thread, has ended: the next try takes a new one
        self._lost += 1
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _report_thread_error(report: Callable[..., object], arguments: threading.ExceptHookArgs) -> None:
    """Do not print the error of TensorBoard's writer: its next call raises it."""
    if type(arguments.thread).__name__ != '_AsyncWriterThread':
        report(arguments)


class _Thread(threading.Thread):
    """Does calls one after the other; all in one thread, since MLflow's active run belongs to a thread."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Future[None]]] = queue.SimpleQueue()
        self._last: Future[None] | None = None

    def is_busy(self) -> bool:
        return self._last is not None and not self._last.done()

    def do(self, call: Callable[[], object]) -> None:
        """Do a call, and raise what it raises.

        Raises:
            TimeoutError: it takes longer than `PATIENCE`; the thread goes on with it.
        """
        if self._last is None:
            self.start()
        self._last = Future()
        self._calls.put((call, self._last))
        if not wait([self._last], PATIENCE).done:
            raise TimeoutError(f'no answer within {PATIENCE:g} s')
        self._last.result()

    def run(self) -> None:
        while True:
            call, future = self._calls.get()
            try:
                call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


def is_hanging() -> bool:
    """Whether a back end still waits for its server. Its library may then wait for minutes when the process ends."""
    return any(isinstance(thread, _Thread) and thread.is_busy() for thread in threading.enumerate())


def guard_backends(visualizer: Visualizer) -> Visualizer:
    """Guard the back ends of a visualizer, which may be one of an earlier run; returns it."""
    backends = visualizer._vis_backends
    for name, backend in backends.items():
        if not isinstance(backend, GuardedBackend):
            backends[name] = GuardedBackend(backend, name)
    return visualizer


def guard_log_files(logger: logging.Logger) -> None:
    """Let the log files of a logger take Hangul in every locale, and a full disk cost one warning in all."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            handler.stream.reconfigure(encoding='utf-8', errors='backslashreplace')
            handler.handleError = _LogFileWarning(handler.baseFilename)  # type: ignore[method-assign]


class _LogFileWarning:
    """What a handler of a log file does at an error. Python would print a traceback for every line of the log."""

    def __init__(self, path: str) -> None:
        self.path, self.is_told = path, False

    def __call__(self, record: logging.LogRecord) -> None:
        if not self.is_told:
            self.is_told = True
            error = sys.exc_info()[1]
            reason = first_line(error) if error else 'unknown error'
            print(f'warning: {printable(self.path)}: cannot be written ({printable(reason)})', file=sys.stderr)

"""A log back end that fails, as a server of MLflow or W&B may."""

from __future__ import annotations

import threading
from typing import Any

from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend

ERRORS = {'refuse': ConnectionError, 'full': OSError, 'exit': SystemExit, 'other': RuntimeError}


@VISBACKENDS.register_module()
class FaultBackend(BaseVisBackend):
    """Fails in one of its methods.

    Args:
        fails: the method, and 'hang' or one of ERRORS; '' = never.
    """

    def __init__(self, save_dir: str, fails: str) -> None:
        super().__init__(save_dir)
        self.method, _, self.how = fails.partition(' ')

    def _init_env(self) -> None:
        self._fail('_init_env')

    @property
    def experiment(self) -> None:
        return None

    def add_config(self, config: Any, **kwargs: Any) -> None:
        self._fail('add_config')

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        self._fail('add_scalars')

    def close(self) -> None:
        self._fail('close')

    def _fail(self, method: str) -> None:
        if method == self.method:
            if self.how == 'hang':
                threading.Event().wait()
            raise ERRORS[self.how]('planted by the fault suite')

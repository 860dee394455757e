"""Which sample each worker of a data loader is reading, for the message when it dies or is stuck."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

_MOST_WORKERS = 1024


class Reading:
    """The index that each worker reads, in memory that forked and spawned workers share with their process.

    In a process without workers nothing is noted.
    """

    def __init__(self) -> None:
        self._indices = torch.full((_MOST_WORKERS,), -1, dtype=torch.int64).share_memory_()
        self._view: np.ndarray | None = None  # of the tensor, five times as fast

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), '_view': None}

    def note(self, index: int | None) -> None:
        """Note that this worker begins to read the sample `index`, or that it has read all that it was asked for."""
        if (worker := get_worker_info()) is not None:
            if self._view is None:
                self._view = self._indices.numpy()
            self._view[worker.id] = -1 if index is None else index

    def index_of(self, worker: int) -> int | None:
        """The index that a worker is reading, or was reading when it died; None = none."""
        index = int(self._indices[worker])
        return None if index < 0 else index

    def clear(self) -> None:
        """Forget workers that are gone."""
        self._indices.fill_(-1)

"""Large arrays that spawned workers share instead of copying."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class SharedArray(np.ndarray):
    """An array that is pickled as a tensor: torch sends tensors to its workers through shared memory."""

    _tensor: torch.Tensor | None = None  # shared; must live until the workers have opened it

    def __reduce__(self) -> Any:
        if self._tensor is None:
            self._tensor = torch.from_numpy(np.ascontiguousarray(self).view(np.ndarray))
        return _from_tensor, (self._tensor,)


def share(array: np.ndarray) -> SharedArray:
    """A view of an array that spawned workers will share."""
    return array.view(SharedArray)


def _from_tensor(tensor: torch.Tensor) -> SharedArray:
    return share(tensor.numpy())

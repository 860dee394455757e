"""The device on which a trained model computes."""

from __future__ import annotations

from typing import Any

import torch

from kovilt.errors import KoviltError, first_line


def check_device(device: Any) -> None:
    """KoviltError unless `device` is None or a device that this machine has."""
    wanted = "give 'cpu', or 'cuda' where torch finds a GPU, or leave it out"
    if device is None:
        return
    try:
        found = torch.device('' if isinstance(device, bool) else device)
    except (RuntimeError, TypeError) as error:
        raise KoviltError(f'device {device}: no such device; {wanted}') from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == 'meta' or found.type == 'cuda' and (found.index or 0) >= count:
        raise KoviltError(f'device {device}: torch finds {count} GPUs here; {wanted}')


def move_to_device(model: Any, device: str | torch.device | None) -> torch.device:
    """Move a model or a graph to a device, None = the GPU if there is one, and return the device.

    Raises:
        KoviltError: the model does not fit there.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise KoviltError(f'device {device}: {first_line(error)}') from error
    return torch.device(device)

"""Read and write safetensors files: tensors by name, no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kovilt.errors import KoviltError


def load_safetensors(path: Path, map_location: str | torch.device = 'cpu') -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file by name; KoviltError if it is damaged or cut off."""
    try:
        return load_file(path, device=str(map_location))
    except (SafetensorError, OSError, ValueError) as error:
        raise KoviltError(f'{path}: not a safetensors file, or cut off ({error})') from error


def save_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a new `.safetensors` file, with the permissions that the umask gives."""
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata={'format': 'pt'})
    except SafetensorError as error:
        raise KoviltError(f'{path}: not written ({error})') from error
    path.chmod(mode)  # save_file replaces the file by one that only its owner can read

"""Read and write safetensors files: tensors by name, no code, and no checksum of their own: `sha256sum`'s is beside."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from kovilt.errors import KoviltError, first_line
from kovilt.files import check_file, file_sha256, read_text, write_text

_TYPES = {  # safetensors' names
    **dict(F32=torch.float32, F16=torch.float16, BF16=torch.bfloat16, F64=torch.float64),
    **dict(I64=torch.int64, I32=torch.int32, I16=torch.int16, I8=torch.int8, U8=torch.uint8, BOOL=torch.bool),
    **dict(C64=torch.complex64, F8_E4M3=torch.float8_e4m3fn, F8_E5M2=torch.float8_e5m2),
}

DIGEST_SUFFIX = '.sha256'
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # what weights may be stored as


def read_safetensors_sizes(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file by name, on the meta device: the header alone is read.

    Raises:
        KoviltError: as `load_safetensors`, or a type of numbers that torch does not have.
    """
    check_file(path, 'weights')
    sizes = {}
    try:
        with safe_open(path, framework='pt') as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                part = file.get_slice(name)
                dtype = _TYPES.get(part.get_dtype())
                if dtype is None:
                    raise KoviltError(f'{path}: {name} holds {part.get_dtype()}, which is not read as weights')
                sizes[name] = torch.empty(part.get_shape(), dtype=dtype, device='meta')
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise KoviltError(f'{path}: not a safetensors file, or cut off ({first_line(error)})') from error
    return sizes


def load_safetensors(path: Path, map_location: str | torch.device = 'cpu') -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file by name.

    Raises:
        KoviltError: no regular file or too large (`kovilt.files.check_file`), damaged or cut off.
    """
    check_file(path, 'weights')
    try:
        return load_file(path, device=str(map_location))
    except (SafetensorError, OSError, ValueError) as error:
        raise KoviltError(f'{path}: not a safetensors file, or cut off ({first_line(error)})') from error


def check_digest(path: Path) -> None:
    """Compare a file with the digest beside it, `<path>.sha256` as `sha256sum` writes it, if there is one.

    Reads the whole file: half a gigabyte takes 0.3 to 1 s.

    Raises:
        KoviltError: it differs, or the file beside it holds no digest.
    """
    beside = path.with_name(path.name + DIGEST_SUFFIX)
    if not beside.is_file():
        return
    found = re.fullmatch(r'([0-9a-fA-F]{64})(?: [ *].*)?', read_text(beside, 'config').strip())
    if found is None:
        raise KoviltError(f'{beside}: not a line of sha256sum; remove the file, or write it again')
    if found[1].lower() != file_sha256(path, 'weights'):
        raise KoviltError(
            f'{path}: damaged, its sha256 is not that of {beside.name}; copy it again or, if you have changed it on '
            f'purpose, remove {beside.name}'
        )


def check_values(tensors: Mapping[str, Tensor], model: Mapping[str, Tensor], source: object, remedy: str) -> None:
    """Check that the values of a file's tensors can be those of the model's tensors of the same names.

    Raises:
        KoviltError: weights that are no floats of 16 bits or more, other than floats where a model has such, not a
            number or infinite. If all values are zero, it only warns.
    """
    for name, tensor in tensors.items():
        like = model.get(name)
        if like is None:
            continue
        if tensor.dtype not in FLOATS if like.is_floating_point() else tensor.dtype != like.dtype:
            dtype = str(tensor.dtype).removeprefix('torch.')
            raise KoviltError(f'{source}: {name} holds {dtype} values, which are no weights of this model; {remedy}')
        if not torch.isfinite(tensor).all():
            raise KoviltError(f'{source}: {name} holds NaN or infinity; {remedy}')
    if tensors and not any(tensor.any() for tensor in tensors.values()):
        warnings.warn(f'{source}: all its weights are zero', stacklevel=2)


def save_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a new `.safetensors` file, and its digest beside it, with the permissions of the umask."""
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata={'format': 'pt'})
    except SafetensorError as error:
        raise KoviltError(f'{path}: not written ({error})') from error
    path.chmod(mode)  # save_file replaces the file by one that only its owner can read
    write_text(path.with_name(path.name + DIGEST_SUFFIX), f'{file_sha256(path, "weights")}  {path.name}\n')

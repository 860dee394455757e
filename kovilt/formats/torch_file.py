"""Check a `.pth` before torch opens it: its records are whole, not compressed, and no larger than the file.

torch reads records without their checksums, so that one flipped bit becomes another weight, inflates 4 GB from a file
of 4 MB, and lets a pickle of plain values allocate a bytearray of any size. The pickle itself is torch's matter
(`weights_only=True`).
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, strided

from kovilt.errors import KoviltError, first_line
from kovilt.files import open_file

_ZIP_START = b'PK\x03\x04'
_PICKLE_START = b'\x80'
_BYTEARRAY = b'bytearray\n'  # as a pickle names the class


def check_torch_file(path: Path) -> None:
    """Check a file before `torch.load`.

    Raises:
        KoviltError: no regular file or too large (`kovilt.files.open_file`); neither a zip nor a pickle; a record that
            is compressed, damaged, there twice or larger than the file; a pickle that makes a bytearray.
    """
    with open_file(path, 'weights') as file:
        start = file.read(4)
        if start == _ZIP_START:
            try:
                with zipfile.ZipFile(file) as archive:
                    _check_records(archive, path)
                    pickles = [archive.read(name) for name in archive.namelist() if name.endswith('.pkl')]
            except (zipfile.BadZipFile, ValueError, struct.error, EOFError, OSError, RuntimeError) as error:
                raise KoviltError(f'{path}: not a checkpoint, or cut off ({first_line(error)})') from error
            makes_bytearray = any(_BYTEARRAY in content for content in pickles)
        elif start.startswith(_PICKLE_START):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                makes_bytearray = content.find(_BYTEARRAY) >= 0
        else:
            raise KoviltError(f'{path}: not a checkpoint: it is neither a zip nor a pickle')
    if makes_bytearray:
        raise KoviltError(f'{path}: refused, it holds a bytearray, which may be of any size; save tensors')


def _check_records(archive: zipfile.ZipFile, path: Path) -> None:
    """KoviltError unless the records of an archive that torch wrote are whole, uncompressed and within the file."""
    records = archive.infolist()
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise KoviltError(f'{path}: {record.filename} is compressed; torch writes no such file, so get it again')
        if '..' in Path(record.filename).parts or record.filename.startswith(('/', '\\')):
            raise KoviltError(f'{path}: {record.filename} lies outside the archive; get the file again')
    if len({record.filename for record in records}) < len(records):
        raise KoviltError(f'{path}: two of its records have one name; get the file again')
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise KoviltError(f'{path}: its records are larger than the file; get it again')
    if (damaged := archive.testzip()) is not None:
        raise KoviltError(f'{path}: {damaged} is damaged (CRC-32); copy the file again, or take an earlier checkpoint')


def check_state(state: Any, path: Path) -> None:
    """Check the `state_dict` of a file.

    Raises:
        KoviltError: it is no dict of tensors by name, or a tensor is sparse, quantised or has more values than the
            file, as an expanded one does.
    """
    if not isinstance(state, Mapping):
        raise KoviltError(f'{path}: its state_dict is a {type(state).__name__}, not a dict of tensors')
    num_bytes = path.stat().st_size
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise KoviltError(
                f'{path}: its state_dict has the name {name!r}, which is no text; save the state_dict alone'
            )
        if not isinstance(tensor, Tensor):
            raise KoviltError(f'{path}: {name} is a {type(tensor).__name__}, not a tensor; save the state_dict alone')
        if tensor.layout is not strided or tensor.is_quantized or tensor.is_meta:
            raise KoviltError(f'{path}: {name} is no dense tensor of plain numbers; save it as one')
        if tensor.numel() * tensor.element_size() > num_bytes:
            raise KoviltError(f'{path}: {name} has {tensor.numel():,} values, more than the file; get the file again')

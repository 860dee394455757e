"""The rows of a reader in Arrow files, so that a data set of millions of rows opens in a second after the first time.

    <Reader>-<split>-<digest of its arguments>.rows.arrow      the table of the rows
    <Reader>-<split>-<digest of its arguments>.images.arrow    the table of the images

Both carry the state that they were made from: the arguments, kovilt's code, and the files below `data_root`. Of folders
the names of all files count; of files that are no images also their sizes and times. So a new, missing or renamed image
makes a cache stale, and so does any change of labels and zips. An image that is replaced under its name does not: the
cache holds where images lie, not what they show. Files elsewhere count where an argument names them; images elsewhere,
which a table names by absolute paths, do not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from kovilt.datasets.image_store import IMAGE_SUFFIXES, ImageStore
from kovilt.datasets.rows import ReadReport, RowSet, collect_rows
from kovilt.datasets.table import MappedTable, map_table, write_table
from kovilt.errors import KoviltError, first_line
from kovilt.json_text import parse_json
from kovilt.version import __version__

if TYPE_CHECKING:
    from kovilt.datasets.readers.base import Reader

FOLDER = '.kovilt_cache'  # beneath data_root, for cache=True
_KEY = b'kovilt'  # of the metadata of the files


def read_rows_cached(reader: Reader) -> RowSet:
    """The rows of a reader whose `cache` is set: from the cache, or else from the files, and then into the cache.

    A cache that is stale or damaged is replaced. One that cannot be written is a warning.

    Raises:
        KoviltError: as `collect_rows`.
    """
    folder = reader.data_root / FOLDER if reader.cache is True else Path(os.path.expanduser(str(reader.cache)))
    arguments = {name: str(value) for name, value in vars(reader).items() if name != 'cache'}
    digest = hashlib.blake2b(json.dumps(arguments, sort_keys=True).encode(), digest_size=4).hexdigest()
    name = re.sub(r'[^\w-]', '_', f'{type(reader).__name__}-{reader.split}-{digest}')
    paths = folder / f'{name}.rows.arrow', folder / f'{name}.images.arrow'
    # Taken before reading: a file that changes meanwhile makes the cache stale.
    state = {'arguments': arguments, 'code': _digest_code(reader), 'files': _digest_files(reader)}
    rows = _open(reader, paths, state)
    if rows is not None:
        return rows
    rows = collect_rows(reader, ReadReport())
    if os.environ.get('LOCAL_RANK', '0') != '0':  # the first process of each machine writes
        return rows
    metadata = {_KEY: json.dumps({'state': state, 'left_out': rows.left_out}).encode()}
    try:
        for path, table in zip(paths, (rows.table, rows.images.table), strict=True):
            write_table(path, table, metadata)
    except OSError as error:
        _log(
            f'the rows cannot be cached in {folder} ({first_line(error)}); cache=FOLDER names another', logging.WARNING
        )
        return rows
    _log(f'{len(rows):,} rows cached in {paths[0]}')
    del rows  # before the files are mapped: together they would take twice the memory
    return _open(reader, paths, state) or collect_rows(reader, ReadReport())


def _open(reader: Reader, paths: tuple[Path, Path], state: dict[str, Any]) -> RowSet | None:
    """Map the rows and images of a cache; None when there is none, or another state or damage makes it useless."""
    if not all(path.exists() for path in paths):
        return None
    try:
        rows, images = map(map_table, paths)
        content, other = (_metadata(table) for table in (rows, images))
        if not content['state'] == other['state'] == state:
            _log(f'{paths[0]}: the files of the data set have changed; reading them again')
            return None
        numbers = rows['image'].to_numpy()
        if numbers.min() < 0 or numbers.max() >= len(images['image_id']):
            raise ValueError('an image number out of range')
        return RowSet(reader, rows, ImageStore(images), Counter(content['left_out']))
    except (KoviltError, ValueError, LookupError, TypeError) as error:
        _log(f'{paths[0]}: damaged ({first_line(error)}); reading the data set again', logging.WARNING)
        return None


def _metadata(table: MappedTable) -> dict[str, Any]:
    return parse_json((table.batch.schema.metadata or {})[_KEY].decode(), 'metadata')


def _digest_files(reader: Reader) -> str:
    """A digest of the names, sizes and times of the files that the rows depend on."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in reader.list_folders():
        if FOLDER in folder.parts:
            continue
        digest.update(f'{folder.parts}{folder.files}'.encode(errors='surrogateescape'))
        for name in folder.files:
            if not name.lower().endswith(IMAGE_SUFFIXES):
                digest.update(_describe_file(os.path.join(folder.path, name)))
    for value in vars(reader).values():
        path = reader.data_root / os.path.expanduser(str(value).replace('{split}', reader.split))
        if isinstance(value, str) and path.is_file():
            digest.update(_describe_file(path))
    return digest.hexdigest()


def _describe_file(path: str | os.PathLike[str]) -> bytes:
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing
        return b'-'
    return f'{status.st_size} {status.st_mtime_ns} '.encode()


def _digest_code(reader: Reader) -> str:
    """A digest of the code that makes rows: kovilt's data sets, and the modules of a reader of one's own."""
    digest = hashlib.blake2b(__version__.encode(), digest_size=16)
    for path in sorted(_code_files(reader)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _code_files(reader: Reader) -> Iterator[Path]:
    yield from Path(__file__).parent.glob('*.py')
    yield from Path(__file__).parent.glob('readers/*.py')
    for kind in type(reader).__mro__:
        path = getattr(sys.modules.get(kind.__module__), '__file__', None)
        if path and not kind.__module__.startswith('kovilt.') and kind.__module__ not in sys.stdlib_module_names:
            yield Path(path)


def _log(message: str, level: int = logging.INFO) -> None:
    print_log(message, logger='current', level=level)

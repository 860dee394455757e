"""The pieces of all texts of a set in one mapped file: made at the first start, mapped at all later ones.

    <digest>.tokens    256 bytes, JSON: how much it holds, and a checksum
                       uint32 of each piece, text after text: its id, and above it the number of its eojeol + 1, which
                       is 0 on [CLS] and [SEP]; then zeros up to a multiple of 8 bytes
                       int64 of each text: where its pieces end

The digest is of the tokenizer, of how texts are cut and of the texts themselves, so that a file is never out of date:
another tokenizer or other texts have another file. Nothing is lost when a file is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import uuid
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.datasets.columns import TextColumn
from kovilt.datasets.transforms.text import TokenizeKorean
from kovilt.errors import KoviltError

FORMAT = 1  # grows when the same texts become other pieces, or the same pieces another file
_HEADER_BYTES = 256
_ID_BITS = 20  # of the 32 of a piece
_AT_ONCE = 4096  # texts

Say = Callable[[str, int], None]  # a message and its level of logging


class TokenCache:
    """The pieces of texts by their numbers; `open_tokens` gives one."""

    def __init__(self, path: Path, pad_id: int, *, check: bool = False) -> None:
        """Maps the file; `check` compares its content with the checksum.

        Raises:
            OSError, ValueError: not there; not whole or damaged.
        """
        self._path, self._pad_id = path, pad_id
        content = np.memmap(path, dtype=np.uint8, mode='r').view(np.ndarray)
        header = json.loads(content[:_HEADER_BYTES].tobytes())
        last, middle = _places(header['pieces'])
        if len(content) != middle + header['texts'] * 8:
            raise ValueError(f'{len(content):,} bytes')
        if check and zlib.crc32(content[_HEADER_BYTES:]) != header['checksum']:
            raise ValueError('wrong checksum')
        self._pieces, self._ends = content[_HEADER_BYTES:last].view(np.uint32), content[middle:].view(np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def of(self, texts: np.ndarray) -> list[dict[str, Any]]:
        """`input_ids`, `word_ids`, both int64 (l,), and `pad_id` of some texts, int64 (n,), as TokenizeKorean says."""
        ends = self._ends[texts]
        counts = ends - np.where(texts > 0, self._ends[texts - 1], 0)
        stops = np.cumsum(counts)
        pieces = self._pieces[np.arange(counts.sum()) + np.repeat(ends - stops, counts)]
        input_ids = (pieces & ((1 << _ID_BITS) - 1)).astype(np.int64)
        word_ids = (pieces >> _ID_BITS).astype(np.int64) - 1
        places = zip((stops - counts).tolist(), stops.tolist(), strict=True)
        return [
            {'input_ids': input_ids[start:stop], 'word_ids': word_ids[start:stop], 'pad_id': self._pad_id}
            for start, stop in places
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._path, self._pad_id)  # a map would travel to a spawned worker as all its bytes


def _open_again(path: Path, pad_id: int) -> TokenCache:
    try:
        return TokenCache(path, pad_id)
    except (OSError, ValueError) as error:
        raise KoviltError(f'{path}: deleted or damaged while it was in use ({error}); start again') from None


def open_tokens(folder: str | os.PathLike, tokenize: TokenizeKorean, texts: TextColumn, say: Say) -> TokenCache | None:
    """What `tokenize` makes of `texts`, from a file in `folder`, which is made where it is missing or damaged.

    Several processes may do so at once: each writes a file of its own, and the last one stays.

    Returns:
        None when the file cannot be written, which is said: texts can be tokenized without it.
    """
    path = Path(os.path.abspath(os.path.expanduser(folder))) / f'{_digest(tokenize, texts)}.tokens'
    pad_id = tokenize.tokenizer.pad_token_id
    try:
        return TokenCache(path, pad_id, check=True)
    except FileNotFoundError:
        say(f'tokenizing {len(texts):,} texts, once: {path}', logging.INFO)
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f'{path}: damaged ({error}); it is made again', logging.WARNING)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, tokenize, texts)
        return TokenCache(path, pad_id, check=True)
    except (OSError, ValueError) as error:
        say(
            f'token_cache {folder}: cannot be written ({error}); texts are tokenized as they are read. Name another '
            'folder, or None',
            logging.WARNING,
        )
        return None


def _places(pieces: int) -> tuple[int, int]:
    """The bytes at which so many pieces end and at which the ends begin."""
    last = _HEADER_BYTES + 4 * pieces
    return last, -(-last // 8) * 8


def _digest(tokenize: TokenizeKorean, texts: TextColumn) -> str:
    digest = hashlib.blake2b(f'{FORMAT} {tokenize.identity()}'.encode(), digest_size=16)
    digest.update(texts.digest())
    return digest.hexdigest()


def _write(path: Path, tokenize: TokenizeKorean, texts: TextColumn) -> None:
    """Whole or not at all."""
    draft = path.with_name(f'{path.name}.{uuid.uuid4().hex}.tmp')
    ends, checksum = array('q'), 0
    try:
        with open(draft, 'xb') as file:
            file.write(bytes(_HEADER_BYTES))
            count = 0
            for start in range(0, len(texts), _AT_ONCE):
                results = [tokenize({'text': texts[i]}) for i in range(start, min(start + _AT_ONCE, len(texts)))]
                input_ids = np.concatenate([result['input_ids'] for result in results])
                word_ids = np.concatenate([result['word_ids'] for result in results])
                pieces = (input_ids | (word_ids + 1) << _ID_BITS).astype(np.uint32)
                file.write(pieces)
                checksum = zlib.crc32(pieces, checksum)
                ends.frombytes(np.cumsum([count, *(len(result['input_ids']) for result in results)])[1:].tobytes())
                count = ends[-1]
            last, middle = _places(count)
            for rest in (bytes(middle - last), ends):
                file.write(rest)
                checksum = zlib.crc32(rest, checksum)
            header = json.dumps({'texts': len(ends), 'pieces': count, 'checksum': checksum})
            file.seek(0)
            file.write(header.ljust(_HEADER_BYTES).encode())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise

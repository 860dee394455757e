"""The tokens of all texts of a data set in one memory-mapped file, written at the first start and mapped afterwards.

    <digest>.tokens    256 bytes, JSON: number of texts and tokens, and a checksum
                       uint32 of each token, text after text: its id in the lower 20 bits, above it the number of its
                       word (eojeol) + 1, which is 0 for [CLS] and [SEP]; then zeros up to a multiple of 8 bytes
                       int64 of each text: the number of tokens up to its end

The digest covers the tokenizer, how texts are cut, and the texts, so that a file is never out of date: another
tokenizer or other texts have another file. Any file can be deleted; it is written again when it is needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kovilt.datasets.columns import TextColumn
from kovilt.datasets.transforms.text import TokenizeKorean
from kovilt.errors import KoviltError
from kovilt.files import atomic_path

FORMAT = 2  # increased when the same texts get other tokens, or the same tokens another file
_HEADER_BYTES = 256
_ID_BITS = 20  # of the 32 bits of a token
_CHUNK = 4096  # texts tokenized at a time

Log = Callable[[str, int], None]  # called with a message and its logging level


class TokenCache:
    """The tokens of texts, by the number of the text; `open_token_cache` makes one."""

    def __init__(self, path: Path, pad_id: int, *, check: bool = False) -> None:
        """Map the file; `check` compares its content with the checksum.

        Raises:
            OSError, ValueError: the file is missing, or it is incomplete or damaged.
        """
        self._path, self._pad_id = path, pad_id
        content = np.memmap(path, dtype=np.uint8, mode='r').view(np.ndarray)
        header = json.loads(content[:_HEADER_BYTES].tobytes())
        tokens_end, ends_start = _file_layout(header['tokens'])
        if len(content) != ends_start + header['texts'] * 8:
            raise ValueError(f'{len(content):,} bytes')
        if check and zlib.crc32(content[_HEADER_BYTES:].data) != header['checksum']:
            raise ValueError('wrong checksum')
        self._tokens = content[_HEADER_BYTES:tokens_end].view(np.uint32)
        self._ends = content[ends_start:].view(np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, texts: np.ndarray) -> list[dict[str, Any]]:
        """`input_ids`, `word_ids`, both int64 (l,), and `pad_id` of some texts, int64 (n,), as TokenizeKorean gives."""
        ends = self._ends[texts]
        counts = ends - np.where(texts > 0, self._ends[texts - 1], 0)
        stops = np.cumsum(counts)
        tokens = self._tokens[np.arange(counts.sum()) + np.repeat(ends - stops, counts)]
        input_ids = (tokens & ((1 << _ID_BITS) - 1)).astype(np.int64)
        word_ids = (tokens >> _ID_BITS).astype(np.int64) - 1
        slices = zip((stops - counts).tolist(), stops.tolist(), strict=True)
        return [
            {'input_ids': input_ids[start:stop], 'word_ids': word_ids[start:stop], 'pad_id': self._pad_id}
            for start, stop in slices
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._path, self._pad_id)  # pickling a mapped file would copy all its bytes


def _open_again(path: Path, pad_id: int) -> TokenCache:
    try:
        return TokenCache(path, pad_id)
    except (OSError, ValueError) as error:
        raise KoviltError(f'{path}: deleted or damaged while it was in use ({error}); start again') from None


def open_token_cache(
    folder: str | os.PathLike[str], tokenize: TokenizeKorean, texts: TextColumn, log: Log
) -> TokenCache | None:
    """Open the tokens that `tokenize` gives for `texts`, from a file in `folder`, written if missing or damaged.

    Several processes may do this at once: each writes a file of its own, and the last one stays.

    Returns:
        None when the file cannot be written, which is logged: texts can be tokenized without it.
    """
    path = Path(os.path.abspath(os.path.expanduser(folder))) / f'{_digest(tokenize, texts)}.tokens'
    pad_id = tokenize.tokenizer.pad_token_id
    try:
        return TokenCache(path, pad_id, check=True)
    except FileNotFoundError:
        log(f'tokenizing {len(texts):,} texts, once: {path}', logging.INFO)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(f'{path}: damaged ({error}); it is written again', logging.WARNING)
    try:
        _write(path, tokenize, texts)
        return TokenCache(path, pad_id, check=True)
    except (OSError, ValueError) as error:
        log(
            f'token_cache {folder}: cannot be written ({error}); texts are tokenized when they are read. Name another '
            'folder, or None',
            logging.WARNING,
        )
        return None


def _file_layout(tokens: int) -> tuple[int, int]:
    """The byte at which this many tokens end, and the byte at which the ends of the texts start."""
    tokens_end = _HEADER_BYTES + 4 * tokens
    return tokens_end, -(-tokens_end // 8) * 8


def _digest(tokenize: TokenizeKorean, texts: TextColumn) -> str:
    digest = hashlib.blake2b(f'{FORMAT} {tokenize.identity()}'.encode(), digest_size=16)
    digest.update(texts.digest())
    return digest.hexdigest()


def _write(path: Path, tokenize: TokenizeKorean, texts: TextColumn) -> None:
    """Write the file atomically."""
    ends, checksum, count = array('q'), 0, 0
    with atomic_path(path) as draft, open(draft, 'wb') as file:
        file.write(bytes(_HEADER_BYTES))
        for start in range(0, len(texts), _CHUNK):
            results = [tokenize({'text': texts[i]}) for i in range(start, min(start + _CHUNK, len(texts)))]
            input_ids = np.concatenate([result['input_ids'] for result in results])
            word_ids = np.concatenate([result['word_ids'] for result in results])
            tokens = (input_ids | (word_ids + 1) << _ID_BITS).astype(np.uint32)
            file.write(tokens.data)
            checksum = zlib.crc32(tokens.data, checksum)
            ends.frombytes(np.cumsum([count, *(len(result['input_ids']) for result in results)])[1:].tobytes())
            count = ends[-1]
        tokens_end, ends_start = _file_layout(count)
        for rest in (bytes(ends_start - tokens_end), ends.tobytes()):
            file.write(rest)
            checksum = zlib.crc32(rest, checksum)
        header = json.dumps({'texts': len(ends), 'tokens': count, 'checksum': checksum})
        file.seek(0)
        file.write(header.ljust(_HEADER_BYTES).encode())

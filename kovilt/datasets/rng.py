"""Seeds and ids that are the same on every machine, in every process and after every restart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from kovilt.datasets.table import text_buffers

if TYPE_CHECKING:
    import pyarrow as pa

_HASH_CHUNK = 1 << 16  # texts hashed at a time; a hash term of 8 bytes for each of their bytes is in memory
_HASH_BASE = 0x9E3779B97F4A7C15  # any odd number with many bits set: 2^64 over the golden ratio


def hash63(*parts: str | int) -> int:
    """Hash all parts, in their order, to 63 bits: an image's id, or the seed of a sample's random generator.

    63 bits fit a signed int64 tensor. The probability that any two of a million images get the same number is one in
    twenty million.
    """
    digest = hashlib.blake2b('\x1f'.join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def sampling_keys(seed: int, *parts: np.ndarray) -> np.ndarray:
    """uint64 (n,): a random key for each of n things, computed from what it is and not from its position.

    Taking the things with the smallest keys samples without replacement, and samples the same things in whatever order
    they are given. Each of `parts` is (n,) and holds numbers that identify the things.

    Source: the mixing function of SplitMix64 (Steele, Lea and Flood 2014).
    """
    keys = np.array([hash63('lots', seed)], dtype=np.uint64)  # with another text the same seed samples other things
    for part in parts:
        keys = (keys ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys = keys ^ (keys >> np.uint64(31))
    return keys


def hash_texts(texts: pa.LargeStringArray) -> np.ndarray:
    """uint64 (texts,): equal for equal texts, almost surely not for others; 0 for an empty text.

    A text is hashed as a polynomial of its UTF-8 bytes, all texts at once.
    """
    ends, data = text_buffers(texts)
    starts, ends = ends[:-1], ends[1:]
    powers = np.full(int((ends - starts).max(initial=0)), _HASH_BASE, dtype=np.uint64).cumprod()
    hashes = np.zeros(len(texts), dtype=np.uint64)
    for first in range(0, len(texts), _HASH_CHUNK):
        rows = np.arange(first, min(first + _HASH_CHUNK, len(texts)))
        rows = rows[ends[rows] > starts[rows]]
        if len(rows):
            begin, end = starts[rows[0]], ends[rows[-1]]
            position = np.arange(begin, end) - np.repeat(starts[rows], ends[rows] - starts[rows])
            terms = (data[begin:end].astype(np.uint64) + np.uint64(1)) * powers[position]
            hashes[rows] = np.add.reduceat(terms, starts[rows] - begin)
    return hashes

"""Numbers that identify: the same on every machine, in every process and after every restart."""

from __future__ import annotations

import hashlib


def hash63(*parts: str | int) -> int:
    """A 63-bit number of all parts and their order: a picture's identity, or the seed of a sample's chance.

    63 bits, so that it fits a signed int64 tensor. That any two of a million pictures share a number has a chance of
    one in twenty million.
    """
    digest = hashlib.blake2b('\x1f'.join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1

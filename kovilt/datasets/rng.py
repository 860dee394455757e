"""Numbers that identify: the same on every machine, in every process and after every restart."""

from __future__ import annotations

import hashlib

import numpy as np


def hash63(*parts: str | int) -> int:
    """A 63-bit number of all parts and their order: an image's identity, or the seed of a sample's chance.

    63 bits, so that it fits a signed int64 tensor. That any two of a million images share a number has a chance of
    one in twenty million.
    """
    digest = hashlib.blake2b('\x1f'.join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'big') >> 1


def sampling_keys(seed: int, *parts: np.ndarray) -> np.ndarray:
    """uint64 (n,): the lot of each of n things, drawn by what it is (its number in each part), not by its place.

    Taking the smallest lots draws without replacement, and the same things in whatever order they come. Source: the
    mixing function of SplitMix64 (Steele, Lea and Flood 2014).
    """
    lot = np.array([hash63('lots', seed)], dtype=np.uint64)
    for part in parts:
        lot = (lot ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        lot = (lot ^ (lot >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        lot = (lot ^ (lot >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        lot = lot ^ (lot >> np.uint64(31))
    return lot

"""Seeds and ids that are the same on every machine, in every process and after every restart."""

from __future__ import annotations

import hashlib

import numpy as np


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

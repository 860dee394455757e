"""Which images have turned out to be broken, known to all workers of a process."""

from __future__ import annotations

import torch


class BrokenImages:
    """A byte per image in shared memory: a fault met by one worker is noted once, and counted by all.

    Works with forked and spawned workers. Each process of a distributed run has its own, shared with its own workers.
    """

    def __init__(self, num_images: int) -> None:
        self._broken = torch.zeros(num_images, dtype=torch.uint8).share_memory_()

    def mark(self, image: int) -> None:
        self._broken[image] = 1

    def __contains__(self, image: int) -> bool:
        return bool(self._broken[image])

    def __len__(self) -> int:
        return int(self._broken.count_nonzero())

    def numbers(self) -> list[int]:
        """The broken images, ascending."""
        return self._broken.nonzero().flatten().tolist()

"""Which pictures have turned out to be broken, known to all workers of a process."""

from __future__ import annotations

import torch


class PictureFaults:
    """A byte per picture in shared memory: a fault met by one worker is noted once, and counted by all.

    Works with forked and spawned workers. Each process of a distributed run has its own, shared with its own workers.
    """

    def __init__(self, num_pictures: int) -> None:
        self._broken = torch.zeros(num_pictures, dtype=torch.uint8).share_memory_()

    def mark(self, picture: int) -> None:
        self._broken[picture] = 1

    def __contains__(self, picture: int) -> bool:
        return bool(self._broken[picture])

    def __len__(self) -> int:
        return int(self._broken.count_nonzero())

    def numbers(self) -> list[int]:
        """The broken pictures, ascending."""
        return self._broken.nonzero().flatten().tolist()

"""A record of broken images that all workers of a process share."""

from __future__ import annotations

import torch


class BrokenImages:
    """The images that could not be read, one byte per image in shared memory.

    An image that one worker marks is counted by all. Works with forked and spawned workers. Each process of a
    distributed run has its own record, shared with its own workers.
    """

    def __init__(self, num_images: int) -> None:
        self._broken = torch.zeros(num_images, dtype=torch.uint8).share_memory_()

    def mark(self, image: int) -> None:
        """Record that an image is broken."""
        self._broken[image] = 1

    def __contains__(self, image: int) -> bool:
        return bool(self._broken[image])

    def __len__(self) -> int:
        return int(self._broken.count_nonzero())

    def numbers(self) -> list[int]:
        """The numbers of the broken images, ascending."""
        return self._broken.nonzero().flatten().tolist()

"""Running out of memory, told with the batch that was too large."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from kovilt.batch import Batch
from kovilt.errors import RunFault

# Of torch's DefaultCPUAllocator, of C++, and of oneDNN, which computes products on CPUs; each raises a RuntimeError.
_CPU_MESSAGES = re.compile("can't allocate memory|std::bad_alloc|could not (create|execute) a primitive$")


@contextmanager
def memory_errors(batches: Sequence[Batch], *, training: bool) -> Iterator[None]:
    """Turn an out-of-memory error of a CPU or GPU into a RunFault that names the size of the batch and the remedies."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            if not _CPU_MESSAGES.search(str(error)):
                raise
        sizes = [(*batch['input_ids'].shape, *batch['grids'].prod(dim=1).sum(dim=0, keepdim=True)) for batch in batches]
        pairs, tokens, patches = max(sizes, key=lambda size: int(size[2]), default=(0, 0, 0))
        remedy = (
            'lower train_dataloader.batch_size, set train_dataloader.collate_fn.micro_batches=4 or '
            'model.encoder.with_cp=True, or add --amp; then continue with --resume'
            if training
            else 'lower val_dataloader.batch_size (test_dataloader.batch_size in a test)'
        )
        raise RunFault(
            f'out of memory in a batch of {len(batches)} x {pairs} pairs with {tokens} tokens and {int(patches):,} '
            f'patches: {remedy}'
        ) from error

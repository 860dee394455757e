"""Running out of memory, told with the batch that was too large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from kovilt.batch import Batch
from kovilt.errors import RunFault, is_out_of_memory

Task = Literal['training', 'evaluation', 'prediction']
_REMEDIES: dict[Task, str] = {
    'training': 'lower train_dataloader.batch_size, set train_dataloader.collate_fn.micro_batches=4 or '
    'model.encoder.with_cp=True, or add --amp; then continue with --resume',
    'evaluation': 'lower val_dataloader.batch_size (test_dataloader.batch_size in a test)',
    'prediction': 'lower batch_size (--batch-size), or use a machine with more memory',
}


@contextmanager
def memory_errors(batches: Sequence[Batch], task: Task) -> Iterator[None]:
    """Turn an out-of-memory error of a CPU or GPU into a RunFault that names the size of the batch and the remedies."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        sizes = [(*batch['input_ids'].shape, *batch['grids'].prod(dim=1).sum(dim=0, keepdim=True)) for batch in batches]
        pairs, tokens, patches = max(sizes, key=lambda size: int(size[2]), default=(0, 0, 0))
        raise RunFault(
            f'out of memory in a batch of {len(batches)} x {pairs} pairs with {tokens} tokens and {int(patches):,} '
            f'patches: {_REMEDIES[task]}'
        ) from error

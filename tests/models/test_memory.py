import pytest
import torch

from kovilt.errors import RunFault, user_error
from kovilt.models.memory import memory_errors

BATCH = {'input_ids': torch.zeros(3, 7), 'grids': torch.tensor([[2, 3], [4, 5]])}


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB'),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError('could not create a primitive'),
        RuntimeError('std::bad_alloc'),
    ],
)
def test_the_batch_and_the_remedies_are_named(error):
    size = 'out of memory in a batch of 1 x 3 pairs with 7 tokens and 26 patches'
    with pytest.raises(RunFault, match=f'{size}: .*micro_batches=4 or model.encoder.with_cp=True, or add --amp'):
        with memory_errors([BATCH], 'training'):
            raise error
    for task, remedy in (('evaluation', 'lower val_dataloader.batch_size'), ('prediction', 'lower batch_size')):
        with pytest.raises(RunFault, match=f'{size}: {remedy}'), memory_errors([BATCH], task):
            raise error
    assert isinstance(user_error(error), RunFault)  # wherever it is raised


def test_what_torch_raises_on_this_machine_is_recognized():
    with pytest.raises(RunFault, match='out of memory'), memory_errors([BATCH], 'training'):
        torch.empty(1 << 55)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='size mismatch'), memory_errors([BATCH], 'training'):
        raise RuntimeError('size mismatch')
    assert user_error(RuntimeError('size mismatch')) is None

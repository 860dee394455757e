"""Open and run an ONNX graph, which may be a stranger's, within limits of memory and time.

onnxruntime runs no code of a graph, but computes whatever it describes: a constant of 10^10 numbers, a loop of 10^15
rounds. Memory is bounded by the allocator. Time is bounded by a thread that is waited for: onnxruntime ends a run
between two nodes when it is told so, but no single node; a thread that does not end is left to itself until the process
ends.
"""

from __future__ import annotations

import functools
import importlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from kovilt.errors import KoviltError, first_line
from kovilt.files import open_file
from kovilt.weights.graph import Inputs

MAX_MEMORY = 4 << 30  # bytes of all graphs of a process; 32 pairs at base size take less than 1 GiB
MAX_SECONDS = 120.0  # to open a graph, or to compute a batch; 32 pairs at base size take about 15 on one core

_INPUTS = {  # type and number of axes
    'input_ids': ('tensor(int64)', 2),
    'text_mask': ('tensor(bool)', 2),
    'patches': ('tensor(uint8)', 3),
    'grid_index': ('tensor(int64)', 1),
}
_OUTPUT = ('scores', 'tensor(float)', 2)
_ORT_FORMAT = b'ORTM'  # at byte 4 of a file in onnxruntime's own format, which it reads under any name

Result = TypeVar('Result')


def load_onnx(file: Path, num_answers: int) -> Callable[[Inputs], Tensor]:
    """The graph in onnxruntime, with as many threads as torch uses.

    Raises:
        KoviltError: onnxruntime is missing or cannot open the file, the file refers to other files, the graph has other
            inputs, outputs or answers than kovilt writes, or it takes too long.
    """
    runtime = import_all('onnxruntime')
    _check_onnx_file(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it logs is in the exception as well
    if _limit_memory():
        options.add_session_config_entry('session.use_env_allocators', '1')

    def load() -> Any:
        # Constants are folded when the graph was exported; here that would compute without any limit but time.
        return runtime.InferenceSession(
            file, options, providers=['CPUExecutionProvider'], disabled_optimizers=['ConstantFolding']
        )

    try:
        session = _in_time(load, file)
    except KoviltError:
        raise
    except Exception as error:  # onnxruntime's error classes have no narrower base class
        raise KoviltError(f'{file}: onnxruntime cannot open it ({first_line(error)}); copy it again') from error
    _check_interface(session, file, num_answers)

    def run(inputs: Inputs) -> Tensor:
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        run_options = runtime.RunOptions()
        run_options.log_severity_level = 4
        try:
            (scores,) = _in_time(
                lambda: session.run(['scores'], arrays, run_options),
                file,
                cancel=lambda: setattr(run_options, 'terminate', True),
            )
        except KoviltError:
            raise
        except Exception as error:
            raise KoviltError(
                f'{file}: onnxruntime cannot compute it ({first_line(error)}); a smaller batch_size takes less memory'
            ) from error
        return torch.from_numpy(scores)

    return run


def import_all(*packages: str) -> Any:
    """Import `packages` and return the last; KoviltError with the command that installs them if one is missing."""
    try:
        return [importlib.import_module(package) for package in packages][-1]
    except ImportError as error:
        raise KoviltError(f"{error.name} is not installed; run: pip install 'kovilt[export]'") from error


def _check_onnx_file(file: Path) -> None:
    """KoviltError if a file is not ONNX or names another file, where its weights would be read from."""
    with open_file(file, 'weights') as stream:
        if stream.read(8)[4:] == _ORT_FORMAT:
            raise KoviltError(f"{file}: in onnxruntime's own format; export the model as ONNX")
        if stream.seek(0, 2) and mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ).find(b'location') >= 0:
            raise KoviltError(f'{file}: its weights lie in another file; kovilt writes no such graph, export it anew')


@functools.cache
def _limit_memory() -> bool:
    """Bound the memory of all sessions that use the allocators of the process; False for an older onnxruntime."""
    runtime = import_all('onnxruntime')
    try:
        info = runtime.OrtMemoryInfo('Cpu', runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
        runtime.create_and_register_allocator(info, runtime.OrtArenaCfg({'max_mem': MAX_MEMORY}))
    except (AttributeError, TypeError):
        return False
    return True


def _check_interface(session: Any, file: Path, num_answers: int) -> None:
    """KoviltError unless a graph has the inputs and the output of `PaddedVQA.forward`, and its number of answers."""
    remedy = 'export the model anew'
    found = {node.name: (node.type, len(node.shape)) for node in session.get_inputs()}
    if found != _INPUTS:
        wrong = sorted(found.items() ^ _INPUTS.items())[0][0]
        raise KoviltError(f'{file}: its input {wrong} is not that of a graph of kovilt; {remedy}')
    (output, *more) = session.get_outputs()
    if more or (output.name, output.type, len(output.shape)) != _OUTPUT:
        raise KoviltError(f'{file}: its output {output.name} is not the scores of a graph of kovilt; {remedy}')
    if isinstance(output.shape[1], int) and output.shape[1] != num_answers:
        raise KoviltError(
            f'{file}: gives {output.shape[1]} scores, but config.json has {num_answers} answers; {remedy}'
        )


def _in_time(call: Callable[[], Result], file: Path, cancel: Callable[[], None] = lambda: None) -> Result:
    """What `call` returns or raises; KoviltError if it has not ended after `MAX_SECONDS`."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)  # daemon: the process can end without it
    thread.start()
    thread.join(MAX_SECONDS)
    if not outcome:
        cancel()
        raise KoviltError(f'{file}: computes for more than {MAX_SECONDS:.0f} seconds; give a smaller batch_size')
    result, error = outcome[0]
    if error is not None:
        raise error
    return result

"""Training on several processes: joining them on CPUs, one gradient exchange a step, a clean end."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import torch.distributed
from mmengine.dist import all_gather_object
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # not declared as exported
from torch.distributed.rendezvous import rendezvous

from kovilt.batch import Batch
from kovilt.engine.rank_watch import RankWatch, key_of
from kovilt.errors import KoviltError, RunFault, first_line
from kovilt.files import open_file
from kovilt.models.base import accumulate_step
from kovilt.processes import end_with_parent
from kovilt.ranges import Count, Index, Range, check_value
from kovilt.registry import MODEL_WRAPPERS

Port = Annotated[int, Range(ge=1, le=65_535)]
_NEVER = timedelta(days=7)  # of torch's own timeouts: RankWatch knows a hang from a long validation
_watch: list[RankWatch] = []  # that of this process, if it is one of several
LAUNCH_FOLDER = 'KOVILT_LAUNCH_FOLDER'  # set by kovilt/cli/launch.py, a folder for messages to it
SCRIPTS = 'tools/dist_train.sh, tools/dist_test.sh or tools/slurm_train.sh'
# What torchrun and Slurm tell a process by environment variables, and what they may be.
OF_TORCHRUN = {'RANK': Index, 'WORLD_SIZE': Count, 'LOCAL_RANK': Index, 'MASTER_ADDR': str, 'MASTER_PORT': Port}
OF_SLURM = {'SLURM_PROCID': Index, 'SLURM_NTASKS': Count, 'SLURM_LOCALID': Index, 'SLURM_NODELIST': str}


def check_launcher(launcher: str) -> None:
    """Check the environment variables of a launcher before any process waits for another.

    Raises:
        KoviltError: a variable is missing, no number, or out of its range.
    """
    variables = {'pytorch': OF_TORCHRUN, 'slurm': OF_SLURM}.get(launcher)
    if variables is None:
        return
    for name, hint in variables.items():
        text = os.environ.get(name, '')
        if not text:
            where = ' outside of Slurm' if launcher == 'slurm' else ''
            raise KoviltError(f'--launcher {launcher}{where}: {name} is not set; start the program with {SCRIPTS}')
        is_number = hint is not str and text.isascii() and text.lstrip('-').isdigit()
        check_value(f'the environment variable {name}', int(text) if is_number else text, hint)
    rank, processes = ('SLURM_PROCID', 'SLURM_NTASKS') if launcher == 'slurm' else ('RANK', 'WORLD_SIZE')
    if int(os.environ[rank]) >= int(os.environ[processes]):
        raise KoviltError(
            f'the environment variable {rank} is {os.environ[rank]}; it must be below {processes}, '
            f'{os.environ[processes]}'
        )


def join_processes(backend: str = 'nccl', timeout: float | None = None, join_timeout: float = 120) -> None:
    """Join this process to the others with torchrun's environment variables: by `backend` on GPUs, by gloo on CPUs.

    Args:
        timeout: seconds without progress after which a run hangs and is ended (`RankWatch`); None = 300 until the
            first step, 100 afterwards.
        join_timeout: seconds that a process waits for the others at the start.

    Raises:
        KoviltError: the port is taken, the first machine is not reached, or a process does not come.
    """
    if torch.distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    limit = timedelta(seconds=join_timeout)
    try:
        store, rank, processes = next(rendezvous('env://', timeout=limit))
        # torchrun may keep the store when it starts the processes again, and with it the addresses of those that died.
        kept = os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
        start = f'start {os.environ.get("TORCHELASTIC_RESTART_COUNT", 0) if kept else 0}'
        store, of_watch = PrefixStore(start, store), PrefixStore(start, store.clone())
        watch = RankWatch(of_watch, rank, processes, timeout=timeout)
        store.wait([key_of(other) for other in range(processes)], limit)
        watch.start()
        torch.distributed.init_process_group(
            backend if torch.cuda.is_available() else 'gloo',
            store=store,
            rank=rank,
            world_size=processes,
            timeout=_NEVER,
        )
    except (RuntimeError, ValueError) as error:  # a taken port, the address of no machine, a process that does not come
        place = f'MASTER_ADDR {os.environ["MASTER_ADDR"]}, MASTER_PORT {os.environ["MASTER_PORT"]}'
        raise KoviltError(
            f'{place}: the processes cannot join ({first_line(error)}); check that all are started with this address, '
            'and set PORT to a free one'
        ) from error
    _watch.append(watch)
    atexit.register(_leave_process_group)


def mark_progress(stage: str, steps: int | None = None, *, long: bool = False, work: bool = False) -> None:
    """Note for the others that this process has come on; see `RankWatch.mark`."""
    for watch in _watch:
        watch.mark(stage, steps, long=long, work=work)


@contextmanager
def lost_process_errors() -> Iterator[None]:
    """Turn the error of an exchange with a process that has ended into a RunFault."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and 'gloo' not in str(error):
            raise
        for watch in _watch:
            watch.wait_for_verdict()
        raise RunFault(
            f'another process has ended, and rank {os.environ.get("RANK", 0)} cannot go on without it; the message of '
            'that process, or of the launcher, tells why. --resume continues from the latest checkpoint'
        ) from error


def set_variables_from_slurm() -> None:
    """Set torchrun's environment variables from those of Slurm; the port from the number of the job, unless it is set.

    Raises:
        KoviltError: Slurm does not say which machine comes first.
    """
    nodes = os.environ['SLURM_NODELIST']
    try:
        command = ['scontrol', 'show', 'hostname', nodes]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True)
        first = hosts.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise KoviltError(
            f'--launcher slurm: scontrol does not name the machines of {nodes}; run it in Slurm'
        ) from error
    os.environ.setdefault('MASTER_ADDR', first)
    job = os.environ.get('SLURM_JOB_ID', '')
    os.environ.setdefault('MASTER_PORT', str(20_000 + int(job) % 10_000) if job.isdecimal() else '29500')
    os.environ.update(
        RANK=os.environ['SLURM_PROCID'],
        WORLD_SIZE=os.environ['SLURM_NTASKS'],
        LOCAL_RANK=os.environ['SLURM_LOCALID'],
    )


def check_ranks_agree(facts: Mapping[str, Any]) -> None:
    """Compare what all processes must have in common before they take a step together.

    Raises:
        KoviltError: on all ranks, naming the first thing in which one of them differs from rank 0.
    """
    first, *others = all_gather_object(dict(facts))
    for rank, theirs in enumerate(others, start=1):
        for name in [*first, *(name for name in theirs if name not in first)]:
            if first.get(name) != theirs.get(name):
                raise KoviltError(
                    f'rank {rank} differs from rank 0 in {name}: {theirs.get(name)!r}, not {first.get(name)!r}; '
                    'start all processes with the same code, config and data'
                )


def check_same_file(path: str) -> None:
    """Check that all processes find the same checkpoint under a path, on whichever machine they are.

    Raises:
        KoviltError: on all ranks, naming one that lacks it or has another.
    """
    first, *others = all_gather_object((*_fingerprint(path), socket.gethostname()))
    for rank, theirs in enumerate(others, start=1):
        if theirs[:-1] != first[:-1]:
            what = 'another file of that name than rank 0' if theirs[0] else 'no such file'
            raise KoviltError(
                f'{path}: rank {rank}, on {theirs[-1]}, has {what}; let all machines share the work folder, or copy '
                f'the checkpoint from {first[-1]} to each'
            )


def _fingerprint(path: str) -> tuple[int, str]:
    """Size of a file and a digest of its end, where a zip has the checksums of its members; of no file (0, nothing)."""
    try:
        with open_file(path, 'weights') as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(-min(size, 1 << 16), os.SEEK_END)
            return size, hashlib.blake2b(file.read(), digest_size=16).hexdigest()
    except KoviltError:
        return 0, ''


def _leave_process_group() -> None:
    for watch in _watch:
        watch.stop()
    _watch.clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_process(code: int = 0, *, last: Callable[[], object] | None = None) -> None:
    """End this process with an exit code if it is one of several. To be called when all work is done and written.

    `last` is what this process still does, in any case: alone, when it has left the others.

    The model holds the process group, and the group holds threads that release Python objects. If one of them does so
    while the interpreter shuts down, the process aborts ("terminate called without an active exception"). So the
    interpreter is left without a shutdown.

    torchrun takes every code but 0 for a fault, ends the other processes and, with MAX_RESTARTS, starts all again. So
    under torchrun the process ends with 0, and leaves the code for kovilt/cli/launch.py.
    """
    is_one_of_several = torch.distributed.is_initialized()
    if is_one_of_several:
        if code and 'TORCHELASTIC_RUN_ID' in os.environ:
            if LAUNCH_FOLDER in os.environ:
                Path(os.environ[LAUNCH_FOLDER], 'exit_code').write_text(str(code), encoding='ascii')
            code = 0
        _leave_process_group()
    if last is not None:
        last()
    if is_one_of_several:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def follow_launcher() -> None:
    """Let this process get SIGTERM when torchrun is killed, so that it saves the run and ends, too. On Linux alone."""
    if 'TORCHELASTIC_RUN_ID' in os.environ and sys.platform == 'linux':
        end_with_parent(signal.SIGTERM)
        if os.getppid() == 1:  # it has died before
            os.kill(os.getpid(), signal.SIGTERM)


def note_begin() -> None:
    """Note for later starts by the same launcher that the run has begun: they are to continue it."""
    if LAUNCH_FOLDER in os.environ:
        Path(os.environ[LAUNCH_FOLDER], 'begun').touch()


def is_restarted() -> bool:
    """Whether the launcher has started this process again after a fault of a run that had begun."""
    if LAUNCH_FOLDER in os.environ:
        return Path(os.environ[LAUNCH_FOLDER], 'begun').exists()
    return os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') not in ('', '0')


@MODEL_WRAPPERS.register_module()
class KoviltDistributedDataParallel(MMDistributedDataParallel):
    """DistributedDataParallel for kovilt's lists of micro-batches: gradients are exchanged once, with the last one."""

    def train_step(self, data: list[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimizer step over all micro-batches, like the `train_step` of the model itself."""
        return accumulate_step(self, self.module.parse_losses, data, optim_wrapper, no_sync=self.no_sync)

"""Several processes: joining them on CPUs, and accumulating gradients before they talk."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys

import torch.distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.base import accumulate_step
from kovilt.registry import MODEL_WRAPPERS


def init_cpu_process_group(launcher: str) -> None:
    """Joins this process to the others over gloo, from the environment that torchrun or Slurm gives it."""
    if torch.distributed.is_initialized():
        return
    if launcher == 'slurm':
        nodes = os.environ['SLURM_NODELIST']
        first = subprocess.run(['scontrol', 'show', 'hostname', nodes], capture_output=True, text=True, check=True)
        os.environ.setdefault('MASTER_ADDR', first.stdout.split()[0])
        os.environ.setdefault('MASTER_PORT', '29500')
        os.environ.update(
            RANK=os.environ['SLURM_PROCID'],
            WORLD_SIZE=os.environ['SLURM_NTASKS'],
            LOCAL_RANK=os.environ.get('SLURM_LOCALID', '0'),
        )
    missing = [
        name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ
    ]
    if missing:
        raise KoviltError(
            f'--launcher {launcher}: {missing[0]} is not set; start the program with tools/dist_train.sh, '
            'tools/dist_test.sh or tools/slurm_train.sh'
        )
    torch.distributed.init_process_group('gloo')
    atexit.register(_leave_process_group)


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_process() -> None:
    """Ends this process with exit code 0 if it is one of several; its work is done and written.

    The model holds the process group to the end, and with it threads that may still give back what Python owns. One
    that does so while the interpreter is being taken down aborts the process ("terminate called without an active
    exception"), and the launcher calls a finished run a failure. So the interpreter is not taken down.
    """
    if torch.distributed.is_initialized():
        _leave_process_group()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@MODEL_WRAPPERS.register_module()
class KoviltDistributedDataParallel(MMDistributedDataParallel):
    """Takes kovilt's list of micro-batches; gradients are exchanged once, with the last of them."""

    def train_step(self, data: list[Batch], optim_wrapper: OptimWrapper) -> dict:
        """One optimizer step over all micro-batches, as the bare model's own train_step."""
        return accumulate_step(self, self.module.parse_losses, data, optim_wrapper, no_sync=self.no_sync)

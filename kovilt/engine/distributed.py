"""Training on several processes: joining them on CPUs, one gradient exchange a step, a clean end."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys

import torch.distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.base import accumulate_step
from kovilt.registry import MODEL_WRAPPERS


def init_cpu_process_group(launcher: str) -> None:
    """Join this process to the others over gloo, with the environment variables of torchrun or Slurm.

    Raises:
        KoviltError: a variable is missing.
    """
    if torch.distributed.is_initialized():
        return
    if launcher == 'slurm':
        _set_variables_from_slurm()
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise KoviltError(
            f'--launcher {launcher}: {missing[0]} is not set; start the program with tools/dist_train.sh, '
            'tools/dist_test.sh or tools/slurm_train.sh'
        )
    torch.distributed.init_process_group('gloo')
    atexit.register(_leave_process_group)


def _set_variables_from_slurm() -> None:
    nodes = os.environ['SLURM_NODELIST']
    command = ['scontrol', 'show', 'hostname', nodes]
    hosts = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S607  # Slurm is on the PATH
    os.environ.setdefault('MASTER_ADDR', hosts.stdout.split()[0])
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(
        RANK=os.environ['SLURM_PROCID'],
        WORLD_SIZE=os.environ['SLURM_NTASKS'],
        LOCAL_RANK=os.environ.get('SLURM_LOCALID', '0'),
    )


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end_process() -> None:
    """End this process with exit code 0 if it is one of several. To be called when all work is done and written.

    The model holds the process group, and the group holds threads that release Python objects. If one of them does so
    while the interpreter shuts down, the process aborts ("terminate called without an active exception"). So the
    interpreter is left without a shutdown.
    """
    if torch.distributed.is_initialized():
        _leave_process_group()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@MODEL_WRAPPERS.register_module()
class KoviltDistributedDataParallel(MMDistributedDataParallel):
    """DistributedDataParallel for kovilt's lists of micro-batches: gradients are exchanged once, with the last one."""

    def train_step(self, data: list[Batch], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One optimizer step over all micro-batches, like the `train_step` of the model itself."""
        return accumulate_step(self, self.module.parse_losses, data, optim_wrapper, no_sync=self.no_sync)

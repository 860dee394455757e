"""Preparing one data set with several processes, on one machine or on many: which part of the work is whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kovilt.errors import KoviltError


@dataclass(frozen=True)
class Task:
    """One of `count` processes that together prepare a data set; shard n is written by task n % count.

    The tasks exchange nothing. They may run at the same time or one after the other, and a repeated one continues.
    """

    index: int = 0
    count: int = 1

    def owns(self, shard: int) -> bool:
        """Whether this task writes the shard of this number."""
        return shard % self.count == self.index

    def __str__(self) -> str:
        return f'task {self.index + 1} of {self.count}'


THE_ONLY_TASK = Task()


def task_of_environment(environment: Mapping[str, str]) -> Task:
    """The task that torchrun, srun or a Slurm array gave this process by environment variables; else the only one.

    In a Slurm array, the processes that srun starts in one element of the array are tasks of their own.

    Raises:
        KoviltError: a variable that is not a number, or a rank that is not below the number of ranks.
    """
    if 'RANK' in environment and 'WORLD_SIZE' in environment:
        return _task(environment, 'RANK', 'WORLD_SIZE')
    task = THE_ONLY_TASK
    if 'SLURM_ARRAY_TASK_ID' in environment and 'SLURM_ARRAY_TASK_COUNT' in environment:
        first = _number(environment, 'SLURM_ARRAY_TASK_MIN', 0)
        step = max(1, _number(environment, 'SLURM_ARRAY_TASK_STEP', 1))
        task = _task(environment, 'SLURM_ARRAY_TASK_ID', 'SLURM_ARRAY_TASK_COUNT', first=first, step=step)
    # Of a job step, which srun starts: SLURM_NTASKS is also set where one process runs alone, in a batch script.
    if 'SLURM_PROCID' in environment and 'SLURM_STEP_NUM_TASKS' in environment:
        process = _task(environment, 'SLURM_PROCID', 'SLURM_STEP_NUM_TASKS')
        task = Task(task.index * process.count + process.index, task.count * process.count)
    return task


def _task(environment: Mapping[str, str], rank: str, count: str, *, first: int = 0, step: int = 1) -> Task:
    task = Task((_number(environment, rank) - first) // step, _number(environment, count))
    if not 0 <= task.index < task.count:
        raise KoviltError(f'{rank}={environment[rank]} does not lie below {count}={environment[count]}')
    return task


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None never arrives here: a name without default is present
    except ValueError:
        raise KoviltError(f'environment variable {name}={text!r}: not a whole number; correct or unset it') from None

"""The argument parser of kovilt's tools and benchmarks. It imports argparse alone, so that `--help` is instant."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import NoReturn


class ToolParser(argparse.ArgumentParser):
    """An ArgumentParser with the option `--debug` that reports a wrong argument in one line, `error: ...`, exit code 2.

    Args:
        description: the text above the options in `--help`; its line breaks stay. Usually the tool's docstring.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument('--debug', action='store_true', help='show the traceback of an error')

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'error: {message}\n')

    def add_cfg_options(self, example: str = 'train_dataloader.batch_size=64') -> None:
        """Add `--cfg-options`, which overrides values of a config."""
        self.add_argument(
            '--cfg-options',
            nargs='+',
            default=[],
            metavar='KEY=VALUE',
            action='extend',
            help=f'override values of the config by their full keys: {example}',
        )

    def add_launcher(self, script: str) -> None:
        """Add `--launcher`, and `--local-rank`, which torch.distributed.launch passes beside LOCAL_RANK: it is ignored.

        `script` starts the launcher.
        """
        self.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help=f'set by {script}')
        self.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def at_least(minimum: int) -> Callable[[str], int]:
    """The `type` of an option that takes an integer of at least `minimum`."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f'must be at least {minimum}, not {value}')
        return value

    integer.__name__ = 'int'  # argparse names the type in its message: invalid int value: 'x'
    return integer


def available_cpus() -> int:
    """The number of CPUs that this process may use, which a container or `taskset` can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

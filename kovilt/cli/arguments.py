"""The argument parser of kovilt's verbs and benchmarks. It imports argparse alone, so that `--help` is instant."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import NoReturn


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with the option `--debug` that reports a wrong argument in one line, `error: ...`, exit code 2.

    The `add_...` methods add what several verbs share.

    Args:
        description: the text above the options in `--help`; its line breaks stay. Usually the module's docstring.
        prog: the command as a user types it; by default the name of the program.
    """

    def __init__(self, description: str | None, prog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument('--debug', action='store_true', help='show the traceback of an error')

    def error(self, message: str) -> NoReturn:
        from kovilt.terminal import printable

        self.exit(2, f'error: {printable(message)}\n')

    def add_config(self, help: str = 'a file or a name of a config of kovilt (rooms/vqa)', nargs: str = '') -> None:
        """Add the argument CONFIG, which `load_config` takes; nargs: '?' where it may be left out."""
        self.add_argument('config', metavar='CONFIG', nargs=nargs or None, help=help)

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

    def add_precision(self) -> None:
        """Add `--precision`, in which a model answers."""
        self.add_argument(
            '--precision',
            choices=('float32', 'bfloat16', 'int8'),
            default='float32',
            help='int8: two to three times as fast on a CPU; bfloat16: faster on GPUs and on CPUs that have it; some '
            'answers change (default: float32)',
        )

    def add_abstention(self, model: str = 'the model') -> None:
        """Add `--threshold` and `--abstention`: when the model abstains, and what it answers then."""
        self.add_argument(
            '--threshold',
            type=float,
            metavar='P',
            help=f'probability, 0 to 1, below which {model} abstains; 0: never (default: of its calibration, else 0)',
        )
        self.add_argument(
            '--abstention',
            metavar='TEXT',
            help=f'what {model} answers then (default: of its calibration, else 모르겠음)',
        )

    def add_logger(self) -> None:
        """Add `--logger`, where a run logs besides its work folder."""
        self.add_argument(
            '--logger',
            choices=('tensorboard', 'mlflow', 'wandb'),
            action='append',
            default=[],
            help='log to TensorBoard, MLflow or Weights & Biases as well; may be repeated',
        )

    def add_launcher(self, script: str) -> None:
        """Add `--launcher`, and `--local-rank`, which torch.distributed.launch passes beside LOCAL_RANK: it is ignored.

        `script` starts the launcher.
        """
        self.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help=f'set by {script}')
        self.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)

    def add_no_report(self) -> None:
        """Add `--no-report`; the environment variable KOVILT_NO_REPORT sets it for all commands."""
        self.add_argument(
            '--no-report',
            action='store_true',
            default=os.environ.get('KOVILT_NO_REPORT', '0') not in ('', '0'),
            help='leave out report.html, curves, predictions.jsonl and the model folder (KOVILT_NO_REPORT=1: always)',
        )

    def add_checkpoint_parts(self) -> None:
        """Add `--config` and `--tokenizer` of a checkpoint."""
        self.add_argument('--config', help='config of the checkpoint (default: the one that it carries)')
        self.add_argument('--tokenizer', help='folder or file of the tokenizer, if it is not where the config says')

    def add_columns(self) -> None:
        """Add `--columns` of a table, as `parse_columns` reads it."""
        self.add_argument(
            '--columns',
            nargs='+',
            action='extend',
            default=[],
            metavar='NAME=COLUMN',
            help="of a table with other names than kovilt's: image=사진 question=질문 answer=답",
        )

    def add_workers(self, task: str) -> None:
        """Add `--workers`; the task is what the processes do."""
        help = f'processes that {task} (default: one per CPU)'
        self.add_argument('--workers', type=at_least(1), default=available_cpus(), metavar='W', help=help)


def parse_columns(options: Sequence[str], *, config: str | None = None) -> dict[str, str]:
    """The names of columns by kovilt's, of texts NAME=COLUMN.

    Args:
        config: that is read in place of a table; it names the columns itself.

    Raises:
        KoviltError: another text, or columns beside a config.
    """
    from kovilt.errors import KoviltError

    if options and config is not None:
        raise KoviltError(f'--columns is for a folder; {config} is a config, whose readers take columns=dict(...)')
    columns: dict[str, str] = {}
    for option in options:
        ours, _, theirs = option.partition('=')
        if not (ours and theirs) or ours in columns:
            raise KoviltError(f'--columns {option}: give NAME=COLUMN, each name once, such as question=질문')
        columns[ours] = theirs
    return columns


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

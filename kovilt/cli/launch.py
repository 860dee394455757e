"""What tools/dist_train.sh and tools/dist_test.sh run: N processes of a verb on this machine, started by torchrun.

    python -m kovilt.cli.launch N VERB ARGUMENTS

It adds to torchrun: its settings are checked first, an error is one line, the exit code of the processes comes back (2
for bad input, 75 for a run that is saved), and a process that was stopped (SIGSTOP) can be ended. It reads from the
environment:

    NNODES (1), NODE_RANK (0), MASTER_ADDR, PORT (29500)   of several machines; on one, torchrun takes a free port
    MAX_RESTARTS (0)      how often all processes are started again when one has died, but not after bad input
    JOIN_TIMEOUT (120)    seconds that this machine waits for the others, at the start and at each restart
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError, RunFault, first_line, run_cli

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
FOLDER = 'KOVILT_LAUNCH_FOLDER'  # where the processes leave `exit_code` and `begun`; see kovilt/engine/distributed.py
_SHUTDOWN_TIMEOUT = 120  # seconds that processes have for their last step and for saving, before SIGKILL


def main(argv: Sequence[str]) -> int:
    """Start the processes and wait for their end; returns the exit code."""
    number, *command = argv
    arguments = torchrun_arguments(number, command)
    processes = int(number)
    if processes > (cpus := os.cpu_count() or processes):
        print(f'warning: {processes} processes share the {cpus} CPUs of this machine', file=sys.stderr)
    _set_log_levels()
    if '--rdzv-backend=c10d' in arguments and '--max-restarts=0' not in arguments:
        # A new store for each start: torchrun gives the old one to no machine that is started anew.
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    threading.Thread(target=_wake_stopped_processes, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        code = run_torchrun(arguments)
        told = Path(folder, 'exit_code')
        return int(told.read_text('ascii')) if told.is_file() else code


def _set_log_levels() -> None:
    """Torch tells a lost connection with a page of addresses: here that is an error, which is told in one line."""
    level = os.environ.get('TORCH_CPP_LOG_LEVEL')
    os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'FATAL')
    import torch.distributed.run  # noqa: F401  reads the level

    logging.getLogger('torch.distributed.elastic').setLevel(logging.ERROR)

    os.environ['TORCH_CPP_LOG_LEVEL'] = level or 'ERROR'  # for the processes, in which NCCL tells its errors so


def torchrun_arguments(number: str, command: Sequence[str]) -> list[str]:
    """The arguments of torchrun for a command of kovilt, by the environment variables.

    Raises:
        KoviltError: a variable is no number or out of its range, or the port is taken.
    """
    _read_number('N', number, least=1)
    machines = _read_number('NNODES', os.environ.get('NNODES') or '1', least=1)
    port = _read_number('PORT', os.environ.get('PORT') or '29500', least=1, most=65_535)
    restarts = _read_number('MAX_RESTARTS', os.environ.get('MAX_RESTARTS') or '0')
    patience = _read_number('JOIN_TIMEOUT', os.environ.get('JOIN_TIMEOUT') or '120', least=1)
    machine = os.environ.get('NODE_RANK') or '0'
    if not re.fullmatch(r'\d{1,4}', machine) or int(machine) >= machines:
        raise KoviltError(f"NODE_RANK is '{machine}'; it must be a number from 0 to {machines - 1}")
    if machines == 1 and not os.environ.get('PORT'):
        place = ['--standalone', '--local-addr=127.0.0.1']
    else:
        address = os.environ.get('MASTER_ADDR') or '127.0.0.1'
        if int(machine) == 0:
            _check_port(port)
        place = [
            f'--nnodes={machines}',
            '--rdzv-backend=c10d',
            '--rdzv-id=kovilt',
            f'--rdzv-endpoint={address}:{port}',
            f'--rdzv-conf=is_host={int(int(machine) == 0)},join_timeout={patience},read_timeout={patience}',
            # torchrun numbers the machines in the order of these texts, and only the first is taken for an address.
            f'--local-addr={address if int(machine) == 0 else f"~{int(machine):04}"}',
        ]
    return [
        *place,
        f'--nproc-per-node={number}',
        f'--max-restarts={restarts}',
        f'--signals-to-handle={",".join(number.name for number in SIGNALS)}',
        f'--shutdown-timeout={_SHUTDOWN_TIMEOUT}',
        '--module',
        'kovilt',
        *command,
    ]


def _read_number(name: str, text: str, least: int = 0, most: int = 99_999) -> int:
    if not re.fullmatch(r'[0-9]{1,5}', text) or not least <= int(text) <= most:
        due = f'a number of at least {least}' if least else 'a number'
        raise KoviltError(f"{name} is '{text}'; it must be {due}{f' and at most {most}' if most < 99_999 else ''}")
    return int(text)


def _check_port(port: int) -> None:
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(('', port))
    except OSError as error:
        raise KoviltError(
            f'PORT {port} is taken on this machine; set PORT to a free one, the same on all machines'
        ) from error


def run_torchrun(arguments: Sequence[str]) -> int:
    """Run torchrun in this process.

    Raises:
        RunFault: the machines do not find each other, or a process was killed.
    """
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher import api
    from torch.distributed.run import parse_args, run

    class Agent(LocalElasticAgent):
        """Starts nothing again after bad input, which ends every start alike. torchrun has no option for that."""

        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
            result = super()._monitor_workers(worker_group)
            if any(failure.exitcode == KoviltError.exit_code for failure in result.failures.values()):
                self._remaining_restarts = 0
            return result

    api.LocalElasticAgent = Agent  # type: ignore[attr-defined]  # not declared as exported; torchrun uses this name
    try:
        run(parse_args(list(arguments)))
        return 0
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            raise RunFault(
                f'process {failure.pid} (local rank {failure.local_rank}) was ended by {name}'
                f'{", perhaps for lack of memory" if name == "SIGKILL" else ""}; --resume continues from the latest '
                'checkpoint, and MAX_RESTARTS=3 before the command does so by itself'
            ) from error
        return failure.exitcode  # it has told itself
    except SignalException:
        return 1
    except RendezvousError as error:
        machines, place = os.environ.get('NNODES', '1'), next(text for text in arguments if 'rdzv-endpoint' in text)
        raise RunFault(
            f'the {machines} machines did not find each other at {place.partition("=")[2]} within '
            f'{os.environ.get("JOIN_TIMEOUT") or 120} s, or have lost each other '
            f'({first_line(error)}); check MASTER_ADDR and PORT, and start the same command on all machines, each with '
            'its NODE_RANK and with --resume'
        ) from error


def _wake_stopped_processes() -> None:
    """Let processes go on that were stopped (SIGSTOP) and have since been asked to end, which they do not notice."""
    asked = sum(1 << (number - 1) for number in SIGNALS)
    children = Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children')  # of Linux
    while children.is_file():
        threading.Event().wait(1)
        for child in children.read_text().split():
            status = _read_status(child)
            if status.get('State', '').startswith('T') and int(status.get('ShdPnd', '0'), 16) & asked:
                os.kill(int(child), signal.SIGCONT)


def _read_status(process: str) -> dict[str, Any]:
    try:
        lines = Path(f'/proc/{process}/status').read_text().splitlines()
    except OSError:  # it has ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(':') for line in lines)}


if __name__ == '__main__':
    sys.exit(run_cli(lambda: main(sys.argv[1:])))

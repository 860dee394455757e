"""Ends a run of several processes in which one stands still, and names that one.

Every process reports how far it has come ("beats") into the store that joined the processes, from a thread of its own.
So a process whose main thread sleeps or loops for ever still reports, and one that was stopped (SIGSTOP) is silent.
The run hangs when no process has come on for longer than it may: a process that validates more batches than the
others, or writes a large checkpoint while they wait, is none.

The timeouts of torch's process groups cannot tell this. They count from the start of each exchange, so that they would
have to be longer than the longest validation, and they name no process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from torch.distributed import Store  # type: ignore[attr-defined]  # not declared as exported
from torch.distributed import distributed_c10d as c10d

from kovilt.terminal import printable

FIRST_TIMEOUT, TIMEOUT = 300.0, 100.0  # seconds without progress: until the first step of a kind, and afterwards
_LEAST_WORK = 0.05  # of a core: more than the watch itself takes


class Beat(NamedTuple):
    """What a process reports."""

    number: int
    idle: float  # seconds since its last progress
    limit: float  # seconds that it may be idle
    steps: int  # training steps that it has finished
    stage: str  # the last hook or stage that it has reached
    exchanges: int  # collectives that it has begun
    process: str
    place: str  # file, line and function that its main thread executes; '' before it is idle for long
    verdict: str  # of rank 0: why the run ends; '' = it goes on


class RankWatch:
    """Reports the progress of this process, and ends it when the run hangs. Rank 0 judges, the others judge rank 0.

    Two threads share the work: one exchanges beats, the other judges, because the store may be that of a process that
    was stopped, and then an exchange never returns.

    Args:
        store: a connection of its own to the store that joined the processes. It serves one thread at a time.
        timeout: seconds without progress after which the run is ended; None = 300 until the first step of a kind
            (training, validation, test) is finished and around checkpoints, 100 for the steps after it.
    """

    def __init__(self, store: Store, rank: int, world_size: int, *, timeout: float | None = None) -> None:
        self._first, self._later = (FIRST_TIMEOUT, TIMEOUT) if timeout is None else (timeout, timeout)
        self.interval = min(2.0, self._later / 10)
        self._store, self._rank = store, rank
        self._finished: set[str] = set()  # kinds of steps of which one is finished: 'train', 'val', 'test'
        self._steps, self._stage, self._limit, self._since = 0, 'start', self._first, time.monotonic()
        self._number, self._is_work, self._worked = 0, False, time.process_time()
        self.verdict = ''  # why the run ends
        self._judged = time.monotonic()
        self._main = threading.main_thread().ident
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,), name='rank watch', daemon=True)
            for work in (self.exchange, self._judge_and_end)
        ]
        # The last beat of each process that this one watches, and when it came.
        watched = [number for number in (range(world_size) if rank == 0 else [0]) if number != rank]
        self._seen = {number: (self._make_beat(), time.monotonic()) for number in watched}
        self._report()

    def mark(self, stage: str, steps: int | None = None, *, long: bool = False, work: bool = False) -> None:
        """Note progress.

        Args:
            stage: the name of a hook of MMEngine, or of a stage before the first.
            steps: training steps that are finished; None = as before.
            long: what follows may take as long as a first step.
            work: until the next mark, computing is progress: millions of rows may take longer to read than any limit.
        """
        order, kind, unit = [*stage.split('_'), '', ''][:3]
        if (order, unit) == ('after', 'iter'):
            self._finished.add(kind)
        is_quick = unit == 'iter' and kind in self._finished and not long
        self._stage, self._steps = stage, self._steps if steps is None else steps
        self._limit, self._since = self._later if is_quick else self._first, time.monotonic()
        self._is_work = work

    def start(self) -> None:
        """Begin to exchange and to judge, when all processes have reported once."""
        self.exchange()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the exchange, before the processes leave each other."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=1)

    def wait_for_verdict(self) -> None:
        """Let the run end by its verdict if there is one: an exchange fails as soon as one of the others has ended."""
        if self.verdict:
            self._threads[1].join()

    def exchange(self) -> None:
        """Report, and read the beats of the watched processes."""
        keys = [key_of(rank) for rank in self._seen]
        try:
            self._report()
            for rank, value in zip(self._seen, self._store.multi_get(keys), strict=True):
                beat = Beat(*json.loads(value))
                if beat.number != self._seen[rank][0].number:
                    self._seen[rank] = beat, time.monotonic()
        except RuntimeError:  # the process or launcher that holds the store has ended, as a rule: its silence will tell
            if not self._stopped.wait(10 * self.interval):
                with suppress(RuntimeError):
                    self._store = self._store.clone()

    def judge(self) -> str:
        """Why the run must end; '' = it goes on."""
        own, now = self._make_beat(), time.monotonic()
        if self._rank and self._seen[0][0].verdict:
            return self._seen[0][0].verdict
        beats = {rank: beat for rank, (beat, _) in self._seen.items()} | {self._rank: own}
        silences = {rank: now - came for rank, (_, came) in self._seen.items()} | {self._rank: 0.0}
        if any(beat.idle + silences[rank] <= beat.limit for rank, beat in beats.items()):
            return ''
        silent = {rank for rank, silence in silences.items() if silence > 5 * self.interval}
        return describe_hang(beats, silent, own) if self._rank == 0 or silent else ''

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stopped.wait(self.interval):
            work()

    def _judge_and_end(self) -> None:
        now = time.monotonic()
        if now - self._judged > self._limit / 2:  # this process was stopped, and goes on now
            self._since = now
        self._judged = now
        self.verdict = self.judge()
        if self.verdict and not self._stopped.is_set():
            if self._rank == 0 or os.environ.get('LOCAL_RANK', '0') == '0' or self._seen[0][0].verdict == '':
                print(f'error: {printable(self.verdict)}', file=sys.stderr, flush=True)  # once on each machine
            time.sleep(3 * self.interval)  # the others read it, and the store may end with this process
            os._exit(1)  # the main thread waits in an exchange, which nothing interrupts

    def _report(self) -> None:
        self._number += 1
        worked, self._worked = self._worked, time.process_time()
        if self._is_work and self._worked - worked > _LEAST_WORK * self.interval:
            self._since = time.monotonic()
        self._store.set(key_of(self._rank), json.dumps(self._make_beat()))

    def _make_beat(self) -> Beat:
        idle = time.monotonic() - self._since
        return Beat(
            number=self._number,
            idle=round(idle, 2),
            limit=self._limit,
            steps=self._steps,
            stage=self._stage,
            exchanges=_count_exchanges(),
            process=f'process {os.getpid()} on {socket.gethostname()}',
            place=self._find_place() if idle > self._limit / 2 else '',
            verdict=self.verdict,
        )

    def _find_place(self) -> str:
        frame = sys._current_frames().get(self._main or 0)
        if frame is None:
            return ''
        path = '/'.join(frame.f_code.co_filename.split(os.sep)[-3:])
        return f'{path}:{frame.f_lineno} in {frame.f_code.co_name}'


def key_of(rank: int) -> str:
    """The key of a rank's beats in the store."""
    return f'kovilt beat {rank}'


def describe_hang(beats: Mapping[int, Beat], silent: Collection[int], own: Beat) -> str:
    """One line that names the processes that the others wait for, and where each stands.

    Args:
        beats: the last beat of each rank.
        silent: the ranks of which no beat comes any more.
        own: the beat of the process that judges.
    """
    if silent:
        named = ', '.join(f'rank {rank} ({beats[rank].process}) does not answer' for rank in sorted(silent)[:4])
    else:
        fewest = min(beat.exchanges for beat in beats.values())
        behind = [rank for rank, beat in sorted(beats.items()) if beat.exchanges == fewest]
        named = ', '.join(
            f'rank {rank} ({beats[rank].process}) stands still in {beats[rank].stage} at {beats[rank].place}'
            for rank in behind[:4]
        )
        if len(behind) == len(beats) > 1:
            named = f'all ranks wait in the same exchange, so a device or the network stands still: {named}'
    # A process that has begun step k + 1 has exchanged gradients with all others in step k.
    steps = max(beat.steps for beat in beats.values())
    return (
        f'{named}; the last step that all have finished is {steps}, and no process has come on for {own.idle:.0f} s. '
        '--resume continues from the latest checkpoint; env_cfg.dist_cfg.timeout=SECONDS allows steps that take longer'
    )


def _count_exchanges() -> int:
    """The collectives that this process has begun in all groups: who waits for others has begun more than they."""
    groups: list[Any] = list(c10d._world.pg_map)  # torch does not declare their sequence numbers
    return sum(group._get_sequence_number_for_group() for group in groups)

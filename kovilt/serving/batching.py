"""Dynamic batching: questions of several requests that wait at the same time are answered in one batch."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kovilt.errors import KoviltError
from kovilt.serving.engine import Engine, Job
from kovilt.serving.metrics import Metrics

log = logging.getLogger('kovilt.serving')
T = TypeVar('T')


class Batcher:
    """Collects jobs into batches and lets one thread, that of the model, answer them.

    While the model computes a batch, the jobs of the next one gather. A job that comes to an idle model waits
    `max_wait` seconds for company.
    """

    def __init__(self, *, max_batch: int, max_wait: float, metrics: Metrics) -> None:
        self._max_batch, self._max_wait, self._metrics = max_batch, max_wait, metrics
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, 'model')
        self._other_work = asyncio.Lock()
        self._task = asyncio.create_task(self._run())

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    def submit(self, job: Job) -> asyncio.Future[dict[str, Any]]:
        """Queue a job; returns its answer to come. A job whose answer is cancelled is not computed."""
        self._jobs.put_nowait(job)
        return job.answer

    async def between_batches(self, work: Callable[[], T]) -> T:
        """Do other work of the model in its thread, one at a time: between two of them comes the batch that waits."""
        async with self._other_work:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = [job for job in await self._collect() if not job.answer.done()]
            if not jobs:
                continue
            outcomes = await loop.run_in_executor(self._thread, self._compute, jobs)
            for job, outcome in outcomes:
                if job.answer.done():  # cancelled meanwhile
                    continue
                if isinstance(outcome, Exception):
                    job.answer.set_exception(outcome)
                else:
                    job.answer.set_result(outcome)

    async def _collect(self) -> list[Job]:
        jobs = [await self._jobs.get()]
        deadline = asyncio.get_running_loop().time() + self._max_wait
        try:
            async with asyncio.timeout_at(deadline):
                while len(jobs) < self._max_batch:
                    jobs.append(await self._jobs.get())
        except TimeoutError:
            pass
        while len(jobs) < self._max_batch and not self._jobs.empty():
            jobs.append(self._jobs.get_nowait())
        return jobs

    def _compute(self, jobs: list[Job]) -> list[tuple[Job, dict[str, Any] | Exception]]:
        """The answer of each job, or why there is none. During a reload the jobs are of two engines."""
        outcomes: list[tuple[Job, dict[str, Any] | Exception]] = []
        jobs.sort(key=lambda job: id(job.engine))
        for engine, group in itertools.groupby(jobs, key=lambda job: job.engine):
            outcomes += self._answer(engine, list(group))
        return outcomes

    def _answer(self, engine: Engine, jobs: list[Job]) -> list[tuple[Job, dict[str, Any] | Exception]]:
        start = time.perf_counter()
        try:
            answers = engine.answer(jobs)
        except KoviltError as error:
            if len(jobs) == 1:
                return [(jobs[0], error)]
            return [outcome for job in jobs for outcome in self._answer(engine, [job])]  # one may fail, not its company
        except Exception as error:
            log.exception('a batch of %d questions failed', len(jobs))
            return [(job, error) for job in jobs]
        self._metrics.batch_pairs.observe(len(jobs))
        self._metrics.abstained.inc(sum(one.get('abstained', False) for one in answers))
        self._metrics.batch_seconds.observe(time.perf_counter() - start)
        return list(zip(jobs, answers, strict=True))

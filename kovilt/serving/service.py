"""The service without HTTP: prepares requests, answers them, loads the model anew."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from kovilt.apis.pair_transforms import ReadQuestion
from kovilt.errors import user_error
from kovilt.serving.batching import Batcher
from kovilt.serving.engine import Engine, Job
from kovilt.serving.failures import RETRY, RequestError
from kovilt.serving.metrics import Metrics
from kovilt.serving.settings import MAX_EXPLAINED, ServerSettings

_READERS = 4  # threads; they bound how many images are decoded at a time, each of up to 0.2 GB
log = logging.getLogger('kovilt.serving')
T = TypeVar('T')


class Service:
    """A model that answers requests of many clients.

    Attributes:
        lines: bounds the lines of all requests to /v1/batch that are answered at a time, as each may hold an image.

    Raises:
        KoviltError: the model cannot be loaded.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self._readers = ThreadPoolExecutor(_READERS, 'reader')
        self.engine = self._load()
        self.is_draining = False
        self._batcher: Batcher | None = None
        self.lines: asyncio.Semaphore
        self._queue_length = 0
        self._reloading = asyncio.Lock()

    def _load(self) -> Engine:
        return Engine(self.settings, self._readers, self.metrics)

    def start(self) -> None:
        """Begin to answer, in the event loop that runs."""
        self.lines = asyncio.Semaphore(self.settings.max_batch)
        self._batcher = Batcher(
            max_batch=self.settings.max_batch, max_wait=self.settings.max_wait_ms / 1000, metrics=self.metrics
        )

    async def stop(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()

    @property
    def is_healthy(self) -> bool:
        """False only if nothing will be answered any more, so that the process should be started anew."""
        return self._batcher is not None and self._batcher.is_running

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place in the queue, for as long as a request is read and answered, which bounds the memory of all.

        Raises:
            RequestError: the queue is full (429).
        """
        if self._queue_length >= self.settings.max_queue:
            message = f'{self._queue_length} requests are being answered (--max-queue); try again later'
            raise RequestError(429, message, RETRY)
        self._queue_length += 1
        self.metrics.queue_length.inc()
        try:
            yield
        finally:
            self._queue_length -= 1
            self.metrics.queue_length.dec()

    def in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        """Do what would hold up the event loop, such as parsing megabytes."""
        return asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def answer(
        self,
        image: bytes,
        questions: list[str],
        topk: int,
        *,
        choices: list[str] | None = None,
        explain: bool = False,
    ) -> list[dict[str, Any]]:
        """Answer questions about the image in a file, in their order, each among the choices if there are any.

        Returns:
            For each the keys of `VQAAnswer`, and num_tokens, of the question; explanation only with `explain`.

        Raises:
            KoviltError: an image, a question or a choice that cannot be used, or a model that cannot be explained.
            RequestError: more questions with `explain` than `MAX_EXPLAINED`.
            TimeoutError: not in time.
        """
        if explain and len(questions) > MAX_EXPLAINED:
            raise RequestError(422, f'explain: {len(questions)} questions; send at most {MAX_EXPLAINED} with it')
        assert self._batcher is not None
        engine, loop = self.engine, asyncio.get_running_loop()
        async with asyncio.timeout(self.settings.timeout):
            read, digest = await self.in_thread(
                lambda: (engine.read_questions(questions, choices), hashlib.sha256(image).digest())
            )
            prepared = await engine.prepare_image(image, digest)
            jobs = [Job(engine, prepared, question, topk, loop.create_future()) for question in read]
            answers = await asyncio.gather(*map(self._batcher.submit, jobs))
            if explain:
                best = [one['topk'][0]['answer'] for one in answers]  # also where the model abstains
                explanations = await self._explain(engine, image, read, best)
                answers = [one | {'explanation': why} for one, why in zip(answers, explanations, strict=True)]
        return [
            {'question': text, 'num_tokens': len(one.tokens['input_ids'])} | answer
            for text, one, answer in zip(questions, read, answers, strict=True)
        ]

    async def _explain(
        self, engine: Engine, image: bytes, questions: list[ReadQuestion], answers: list[str]
    ) -> list[dict[str, Any]]:
        assert self._batcher is not None
        whole, part = await self.in_thread(lambda: engine.read_whole(image))
        return [
            {'part': list(part)}
            | await self._batcher.between_batches(functools.partial(engine.explain, whole, question, answer))
            for question, answer in zip(questions, answers, strict=True)
        ]

    async def reload(self) -> None:
        """Load the model anew, from where it was. Until then, and if that fails, the old one answers."""
        async with self._reloading:
            try:
                self.engine = await asyncio.get_running_loop().run_in_executor(None, self._load)
            except Exception as error:  # whatever it is, the old model answers
                self.metrics.reloads.labels('failed').inc()
                found = user_error(error)
                message = 'the model was not loaded anew, the old one goes on: %s'
                log.error(message, found or repr(error), exc_info=None if found else error)
            else:
                self.metrics.reloads.labels('done').inc()
                log.warning('the model was loaded anew')

"""POST /v1/batch: a stream of JSONL requests, answered line by line, in their order, while more of them arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from kovilt.json_text import dump_json
from kovilt.serving.bodies import decode_image, parse_body
from kovilt.serving.failures import RequestError, as_request_error, error_detail, too_large
from kovilt.serving.schema import BatchLine, BatchResult
from kovilt.serving.service import Service
from kovilt.serving.settings import MAX_LINES

MEDIA_TYPES = ('application/jsonl', 'application/x-ndjson', 'application/x-jsonlines')
MAX_WAITING = 16 << 20  # bytes of answers that the client has not taken
_DISCARDED = 64 << 20  # bytes of a body that is given up; they are read, as the client may take nothing before its end
log = logging.getLogger('kovilt.serving')


class BatchStream(Response):
    """The response to a request of lines, which it reads itself.

    The next lines are read whether or not the client takes the answers: most clients send everything before they read
    anything, and both sides would wait for each other. `MAX_WAITING` bounds the answers that such a client leaves.
    `Service.lines` bounds the lines that are answered at a time. A line that cannot be answered gets an `error`.
    """

    media_type = MEDIA_TYPES[0]

    def __init__(self, service: Service) -> None:
        super().__init__()
        del self.headers['content-length']
        self._service = service
        self._waiting = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_gone = False
        with self._service.slot():
            await send({'type': 'http.response.start', 'status': 200, 'headers': self.raw_headers})
            results: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
            try:
                async with asyncio.TaskGroup() as group:
                    reader = group.create_task(self._read(receive, results, group))
                    while (task := await results.get()) is not None:
                        line = await task
                        await send({'type': 'http.response.body', 'body': line, 'more_body': True})
                        self._waiting -= len(line)
                    reader.cancel()
            except* ClientDisconnect:
                is_gone = True
            if is_gone:
                raise ClientDisconnect
            await send({'type': 'http.response.body', 'body': b''})

    async def _read(
        self, receive: Receive, results: asyncio.Queue[asyncio.Task[bytes] | None], group: asyncio.TaskGroup
    ) -> None:
        """Start a task for each line. Afterwards wait for the client to go, until this is cancelled."""
        lines, number = self._service.lines, 0
        try:
            async for number, line in self._lines(receive):
                await lines.acquire()
                task = group.create_task(self._answer(number, line))
                task.add_done_callback(lambda _: lines.release())
                results.put_nowait(task)
                if self._waiting > MAX_WAITING:
                    said = f'{self._waiting / 1e6:.0f} MB of answers were not taken; read them while you send'
                    raise RequestError(413, said)
        except RequestError as error:  # the rest of the body is given up
            results.put_nowait(group.create_task(self._encode(_failed(number + 1, error))))
        results.put_nowait(None)
        unread = _DISCARDED
        while (message := await receive())['type'] != 'http.disconnect':
            unread -= len(message.get('body', b''))
            if unread < 0:  # it may send without end
                await asyncio.Event().wait()
        raise ClientDisconnect

    async def _lines(self, receive: Receive) -> AsyncIterator[tuple[int, bytes]]:
        """The lines of the body that are not blank, with their numbers.

        Raises:
            RequestError: a line that is too long or does not come, or too many lines.
        """
        settings, buffer, number, more = self._service.settings, bytearray(), 0, True
        loop = asyncio.get_running_loop()
        while more or buffer:
            deadline, end, searched = loop.time() + settings.timeout, -1, 0
            while more and (end := buffer.find(b'\n', searched)) < 0:
                searched = len(buffer)
                if searched > settings.max_body_bytes:
                    raise too_large(settings.max_body_bytes, 'the line')
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await receive()
                except TimeoutError:
                    raise RequestError(408, 'the next line did not arrive in time; send it faster') from None
                if message['type'] == 'http.disconnect':
                    raise ClientDisconnect
                buffer += message.get('body', b'')
                more = message.get('more_body', False)
            end = buffer.find(b'\n') if end < 0 else end
            end = len(buffer) if end < 0 else end
            line = bytes(buffer[:end])
            if not buffer:  # after the last line
                return
            del buffer[: end + 1]
            number += 1
            if number > MAX_LINES:
                raise RequestError(413, f'more than {MAX_LINES:,} lines; send the rest in another request')
            if line.strip():
                yield number, line

    async def _answer(self, number: int, line: bytes) -> bytes:
        identity, service = None, self._service
        try:
            asked = await service.in_thread(lambda: parse_body(line, BatchLine, number))
            identity = asked.id
            image = await service.in_thread(lambda: decode_image(asked.image, service.settings.max_image_bytes))
            answers: list[Any] = await service.answer(
                image, asked.questions, asked.topk, choices=asked.choices, explain=asked.explain
            )
            result = BatchResult(id=identity, line=number, answers=answers)
        except Exception as error:
            found = as_request_error(error)
            if found is None:
                log.exception('line %d of a batch failed', number)
                found = RequestError(500, 'a fault of the service; its log tells more')
            result = _failed(number, found, identity)
        return await self._encode(result)

    async def _encode(self, result: BatchResult) -> bytes:
        line = f'{dump_json(result.model_dump(exclude_unset=True))}\n'.encode()
        self._waiting += len(line)
        return line


def _failed(number: int, error: RequestError, identity: str | int | None = None) -> BatchResult:
    return BatchResult(id=identity, line=number, error=error_detail(error.status_code, str(error.detail)))

"""What every request passes first and last: limits of its body, the log and the metrics, errors as JSON."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kovilt.json_text import dump_json
from kovilt.serving.failures import RequestError, as_request_error, error_response, too_large
from kovilt.serving.metrics import Metrics
from kovilt.serving.settings import ServerSettings

BATCH_PATH = '/v1/batch'  # whose body is read by lines, each with limits of its own
GONE = 499  # the status that the log gives a request whose client has gone; nobody receives it
_DRAINED_BYTES, _DRAIN_SECONDS = 64 << 20, 3  # of a refused body; see `_Exchange.drain`
_SHOWN = 200  # characters of a path or a method in the log
log = logging.getLogger('kovilt.serving')
access_log = logging.getLogger('kovilt.serving.access')


class Limits:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        bounded = scope['path'] != BATCH_PATH
        exchange = _Exchange(
            scope,
            receive,
            send,
            max_bytes=self._settings.max_body_bytes if bounded else None,
            timeout=self._settings.timeout if bounded else None,
        )
        started, scope['request_id'] = time.perf_counter(), exchange.id
        try:
            await self._answer(scope, exchange)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get('route'), 'path', 'other')  # not the path, of which there is no end
            self._metrics.requests.labels(route, exchange.status).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            access_log.info('%s', dump_json(_log_line(scope, exchange, seconds)))

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return
        except Exception as error:
            found = as_request_error(error)
            if found is None:
                log.exception('request %s failed', exchange.id)
                found = RequestError(500, f'a fault of the service; its log tells more about request {exchange.id}')
            if not exchange.is_started:
                await error_response(found)(scope, exchange.receive, exchange.send)


class _Exchange:
    """A request and its answer, as they pass.

    Args:
        max_bytes: of the body; None = any.
        timeout: seconds in which the body has to arrive; None = any.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, max_bytes: int | None, timeout: float | None
    ) -> None:
        headers = {name: value.decode('latin-1') for name, value in scope['headers']}
        self.id = uuid.uuid4().hex
        self.status, self.is_started = GONE, False
        self.bytes_in, self.bytes_out = 0, 0
        self._receive, self._send = receive, send
        self._max_bytes, length = max_bytes, headers.get(b'content-length', '')
        self._length = int(length) if length.isdecimal() else 0
        self._expects = b'expect' in headers  # waits for our word before it sends the body
        self._is_read = not self._length and b'transfer-encoding' not in headers
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout

    async def receive(self) -> Message:
        """The next part of the body. Raises RequestError when it is too large (413) or too slow (408)."""
        if self._is_read:
            return await self._receive()
        if self._max_bytes is not None and self._length > self._max_bytes:
            raise too_large(self._max_bytes)
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive_part()
        except TimeoutError:
            raise RequestError(408, 'the body did not arrive in time; send it faster, or smaller') from None
        if self._max_bytes is not None and self.bytes_in > self._max_bytes:
            raise too_large(self._max_bytes)
        return message

    async def _receive_part(self) -> Message:
        message = await self._receive()
        self.bytes_in += len(message.get('body', b''))
        self._is_read = not message.get('more_body', False)  # so also when the client has gone
        return message

    async def send(self, message: Message) -> None:
        if message['type'] == 'http.response.start':
            self.status, self.is_started = message['status'], True
            headers = [*message.get('headers', ()), (b'x-request-id', self.id.encode())]
            if not self._is_read:
                headers.append((b'connection', b'close'))
            message = {**message, 'headers': headers}
        else:
            self.bytes_out += len(message.get('body', b''))
            if not self._is_read and not message.get('more_body', False):
                await self._send({**message, 'more_body': True})
                await self.drain()
                message = {**message, 'body': b''}
        await self._send(message)

    async def drain(self) -> None:
        """Read on for a while before the connection is closed.

        A client that is still sending would be told of a broken connection instead of the answer. It gets a bounded
        time, as it may send without end.
        """
        most = self.bytes_in + _DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_read and not self._expects and self.bytes_in < most:
                    await self._receive_part()


def _log_line(scope: Scope, exchange: _Exchange, seconds: float) -> dict[str, Any]:
    """What the log tells of a request: nothing of its image and its questions."""
    return {
        'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'id': exchange.id,
        'client': (scope.get('client') or [None])[0],
        'method': scope['method'][:_SHOWN],
        'path': scope['path'][:_SHOWN],
        'status': exchange.status,
        'milliseconds': round(1000 * seconds, 1),
        'bytes_in': exchange.bytes_in,
        'bytes_out': exchange.bytes_out,
    } | scope.get('log', {})

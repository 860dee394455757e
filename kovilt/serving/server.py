"""Runs the application on uvicorn, in one process or several."""

from __future__ import annotations

import asyncio
import functools
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors.multiprocess import Multiprocess

from kovilt.errors import KoviltError
from kovilt.processes import end_with_parent
from kovilt.serving.listening import address_of, bind, is_local
from kovilt.serving.metrics import FOLDER
from kovilt.serving.settings import ServerSettings
from kovilt.terminal import set_up_output, show

HEADER_SECONDS = 10  # in which the header of a request has to arrive
DRAIN_SECONDS = 10  # that running requests have when the service ends
TAKE_SECONDS = 60  # a client that takes nothing of its answer for so long, and sends nothing, is cut off
MAX_CONNECTIONS = 1000  # more get 503; a connection without a request costs little, but not nothing
_BACKLOG = 2048


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, which are raised again at the end (`kovilt.serving.ending`).

    Raises:
        KoviltError: the address is not free, or the model cannot be loaded.
    """
    with bind(settings.host, settings.port) as listener:
        address = address_of(listener)
        if settings.workers > 1:
            _run_workers(settings, listener, address)
            return
        _log_to_output()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it would end the process; `create_app` takes it
        try:
            server = uvicorn.Server(_config(create(settings)))
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            raise
        listener.listen(_BACKLOG)
        _announce(settings, address)
        server.run(sockets=[listener])


def create(settings: ServerSettings) -> FastAPI:
    from mmengine.logging import MMLogger

    from kovilt.serving.app import create_app

    MMLogger.get_current_instance().setLevel('WARNING')  # it writes to stdout, which is for the access log
    return create_app(settings)


def _announce(settings: ServerSettings, address: str) -> None:
    show(f'{address}: {settings.model_name} is served; {address}/docs shows how to ask', flush=True)
    if not settings.token and not is_local(settings.host):
        show('warning: no --token: everybody who reaches this address can ask', flush=True)


def _config(app: Any, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop='asyncio',
        http=TimedProtocol,
        ws='none',
        lifespan='on',
        log_config=None,
        log_level='warning',
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=60,  # loading a model may hold up the thread that answers
        **more,
    )


def _log_to_output() -> None:
    """The access log, one JSON object a line, goes to stdout; everything else to stderr."""
    set_up_output()
    access = logging.getLogger('kovilt.serving.access')
    access.handlers, access.propagate = [logging.StreamHandler(sys.stdout)], False
    access.setLevel(logging.INFO)


class TimedProtocol(H11Protocol):
    """uvicorn's, which would wait without end for the header of a request, and for a client to take its answer."""

    _header_timer: asyncio.TimerHandle | None = None
    _taking_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # `pause_writing` is called whenever the client does not keep up
        self._expect_header()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._header_timer, self._taking_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._taking_timer is not None:
            self._expect_taking()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking_timer is not None:
            self._taking_timer.cancel()
            self._taking_timer = None

    def _expect_taking(self) -> None:
        if self._taking_timer is not None:
            self._taking_timer.cancel()
        waiting = self.transport.get_write_buffer_size()
        self._taking_timer = self.loop.call_later(TAKE_SECONDS, self._abort_unless_taken, waiting)

    def _abort_unless_taken(self, waiting: int) -> None:
        if self.transport.get_write_buffer_size() < waiting:
            self._expect_taking()
        else:
            self.transport.abort()

    def _expect_header(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._close_without_header)

    def _close_without_header(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and not self.transport.is_closing():
            self.transport.close()


def _run_workers(settings: ServerSettings, listener: socket.socket, address: str) -> None:
    with tempfile.TemporaryDirectory(prefix='kovilt-metrics-') as folder:
        os.environ[FOLDER] = folder
        listener.listen(_BACKLOG)  # a client that comes before the workers have loaded the model waits
        config = _config(functools.partial(_worker_app, settings), factory=True, workers=settings.workers)
        workers = _Workers(config, [listener], announce=lambda: _announce(settings, address))
        workers.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes):
        raise KoviltError(f'{settings.model}: no worker could start; the lines above tell why')


class _Workers(Multiprocess):
    """
    Args:
        announce: called once, when the first worker can answer.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], announce: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._announce: Callable[[], None] | None = announce

    def init_processes(self) -> None:
        """A worker that is started later and cannot load the model is tried again: the others go on."""
        with _interrupts_held_back():
            super().init_processes()
        app: Any = self.config.app
        self.config.app = functools.partial(app, failure=1)
        self._leave_pipes()

    def _leave_pipes(self) -> None:
        """Close the workers' ends of the pipes here: a dead worker would be waited for as if it could still answer."""
        for worker in self.processes:
            worker.child_conn.close()

    def terminate_all(self) -> None:
        for listener in self.sockets:  # else clients would be let in as long as this process has it open
            listener.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        before = {worker.pid for worker in self.processes}
        with _interrupts_held_back():
            super().keep_subprocess_alive()
        self._leave_pipes()
        for pid in before - {worker.pid for worker in self.processes}:
            mark_process_dead(pid)  # else kovilt_queue_length would count the requests that it had for ever
        if self._announce is not None and any(worker.is_ready() for worker in self.processes):
            self._announce()
            self._announce = None

    def handle_hup(self) -> None:
        """Let each worker load the model anew; uvicorn would start new workers and close their connections."""
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that are started here never get SIGINT: Ctrl-C reaches all of a terminal, and this one ends them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _worker_app(settings: ServerSettings, failure: int = STARTUP_FAILURE) -> FastAPI:
    """The application in a worker process, which shares the processors with the others.

    Args:
        failure: the exit code if the model cannot be loaded; `STARTUP_FAILURE` ends all workers.
    """
    import torch

    end_with_parent(signal.SIGTERM)
    if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
        sys.exit(failure)  # it ended while this process began
    _log_to_output()
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.workers))
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # uvicorn's would wait until the model is loaded
    try:
        return create(settings)
    except KoviltError as error:
        show(f'error: {error}', flush=True)
        sys.exit(failure)
    finally:
        signal.signal(signal.SIGTERM, handler)

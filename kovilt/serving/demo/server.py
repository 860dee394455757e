"""Serves the demo: uploads are bounded, no other machine is asked for anything, and no file is left behind."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from kovilt.serving.demo.settings import DemoSettings
from kovilt.serving.demo.tabs import Demo, draw_examples
from kovilt.serving.demo.texts import LANGUAGES
from kovilt.serving.listening import address_of, bind, is_local
from kovilt.terminal import show

_OVERHEAD = 1_000_000  # bytes of a request beside the file
_END_SECONDS = 3  # that running answers have when the demo ends
_LOCAL_NAMES = ('localhost', '127.0.0.1', '[::1]', '::1')
# For screen readers. Gradio sets the language of the browser, and that later than the page is loaded.
_KEEP_LANGUAGE = """<script>(() => {{
  const root = document.documentElement, keep = () => {{ if (root.lang !== '{language}') root.lang = '{language}' }};
  new MutationObserver(keep).observe(root, {{attributeFilter: ['lang']}});
  keep();
}})()</script>"""
_CONNECTING = ('socket.connect', 'socket.sendto', 'socket.sendmsg')  # audit events with (socket, address)
_RESOLVING = ('socket.getaddrinfo', 'socket.gethostbyname')  # audit events with (host, ...)


def serve_demo(settings: DemoSettings) -> None:
    """Serve until SIGTERM or SIGINT, which are raised again at the end (`kovilt.serving.ending`).

    Raises:
        KoviltError: the address is not free, or a model or the predictions cannot be loaded.
    """
    with open_demo(settings) as demo:
        show(f'{demo.address}: the demo of {settings.model}; Ctrl-C ends it', flush=True)
        if not is_local(settings.host):
            show('warning: everybody who reaches this address can use the models', flush=True)
        demo.run()


class DemoServer(uvicorn.Server):
    """The demo, ready to run. It ends the connections of open pages, for which uvicorn would wait.

    Attributes:
        address: of the page.
    """

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level='warning',
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_END_SECONDS,
            )
        )
        self._pages = [route.app for route in app.routes if isinstance(route, Mount)]
        self._listener = listener
        self.address = address_of(listener)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run(sockets or [self._listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for page in self._pages:
            page.stop_event.set()  # type: ignore[attr-defined]  # of Gradio's application
        await super().shutdown(sockets)


@contextmanager
def open_demo(settings: DemoSettings) -> Iterator[DemoServer]:
    """Load the models and build the pages. At the end every file that they wrote is gone.

    Raises:
        KoviltError: as `serve_demo`.
    """
    with bind(settings.host, settings.port) as listener, temporary_files() as folder:
        listener.listen()
        demo = Demo(settings)
        app = _make_app(demo, settings, folder)
        with only_this_machine():
            yield DemoServer(app, listener)


@contextmanager
def temporary_files() -> Iterator[Path]:
    """A folder for all temporary files of this process, which is removed at the end; Gradio's are among them."""
    before = tempfile.tempdir, os.environ.get('GRADIO_TEMP_DIR')
    with tempfile.TemporaryDirectory(prefix='kovilt-demo-', ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        tempfile.tempdir = os.environ['GRADIO_TEMP_DIR'] = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before[0]
            os.environ.pop('GRADIO_TEMP_DIR')
            if before[1] is not None:
                os.environ['GRADIO_TEMP_DIR'] = before[1]


def _make_app(demo: Demo, settings: DemoSettings, folder: Path) -> FastAPI:
    """The page in each language below its name, and at / the way to the one that the browser prefers."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')  # before gradio is imported
    import gradio as gr

    from kovilt.serving.demo.page import build_page

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, max_body_size=settings.max_image_bytes + _OVERHEAD)
    if is_local(settings.host):  # no page from elsewhere reaches it under a name of its own (DNS rebinding)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOCAL_NAMES, settings.host])

    @app.get('/')
    def choose_language(request: Request) -> RedirectResponse:
        wanted = (one.strip()[:2].lower() for one in request.headers.get('accept-language', '').split(','))
        return RedirectResponse(f'{next((one for one in wanted if one in LANGUAGES), "en")}/')

    examples, names = draw_examples(folder), list(LANGUAGES)

    @app.get('/favicon.ico')
    @app.get('/manifest.json')
    def find_in_a_page(request: Request) -> RedirectResponse:
        return RedirectResponse(f'{names[0]}{request.url.path}')  # browsers ask for them here

    for number, (language, text) in enumerate(LANGUAGES.items()):
        page = build_page(demo, text, names[number - 1], examples, folder)
        gr.mount_gradio_app(
            app,
            page,
            f'/{language}',
            root_path=f'{os.environ.get("GRADIO_ROOT_PATH", "")}/{language}',  # which it does not find out everywhere
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=settings.max_image_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            head=_KEEP_LANGUAGE.format(language=language),
        )
        # As `launch` does: only then does Gradio refuse files outside the folder of uploads, and SVG inline.
        page.has_launched = page.is_running = True
    return app


_blocking = threading.Event()
_is_installed = False


@contextmanager
def only_this_machine() -> Iterator[None]:
    """Let this process open no connection to another machine, whatever a library or a request asks for.

    Gradio, for one, fetches addresses that a request names in place of a file. Connections from elsewhere may come in.
    """
    global _is_installed
    if not _is_installed:
        sys.addaudithook(
            _refuse_connection
        )  # for the rest of the process, but it refuses only while `_blocking` is set
        _is_installed = True
    _blocking.set()
    try:
        yield
    finally:
        _blocking.clear()


def _refuse_connection(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith('socket.') or not _blocking.is_set():
        return
    host = arguments[0] if event in _RESOLVING else None
    if event in _CONNECTING and isinstance(arguments[1], tuple):  # else a Unix socket
        host = arguments[1][0]
    if host and not is_local(host):
        raise PermissionError(f'the demo opens no connection to {host!r}')

"""A tiny model behind the service, which the tests of this folder share, and clients in this process."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('fastapi', reason="kovilt serve needs pip install 'kovilt[serve]'")

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.serving import server
from kovilt.serving.app import create_app
from kovilt.serving.listening import bind
from kovilt.serving.settings import ServerSettings
from kovilt.weights import save_model_folder

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?', '책은 몇 개 ?']


def image_file(seed: int = 0, kind: str = 'PNG', size: tuple[int, int] = (60, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def make_folder(folder: Path, **encoder: Any) -> Path:
    return save_model_folder(
        tiny_model(**encoder),
        tiny_tokenizer(),
        folder,
        model_cfg=tiny_config(**encoder),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp('serving') / 'tiny')


@pytest.fixture(scope='session')
def make_app(folder: Path) -> Callable[..., FastAPI]:
    """An application with the tiny model; arguments are those of `ServerSettings`."""

    def make(**settings: Any) -> FastAPI:
        return create_app(ServerSettings(**{'model': str(folder), 'device': 'cpu', **settings}))

    return make


@pytest.fixture(scope='session')
def app(make_app: Callable[..., FastAPI]) -> FastAPI:
    return make_app(max_image_mb=0.1, max_queue=4)


@pytest.fixture(scope='session')
def idle_app(make_app: Callable[..., FastAPI]) -> FastAPI:
    """Like `app`, but started by each test in an event loop of its own."""
    return make_app(max_image_mb=0.1, max_queue=4)


@pytest.fixture(scope='session')
def address(make_app: Callable[..., FastAPI]) -> Iterator[tuple[str, int]]:
    """Host and port of a server in a thread of this process."""
    listener = bind('127.0.0.1', 0)
    running = uvicorn.Server(server._config(make_app(max_image_mb=5, timeout=60, max_queue=8)))
    thread = threading.Thread(target=running.run, kwargs={'sockets': [listener]})
    thread.start()
    listener.listen()
    yield listener.getsockname()
    running.should_exit = True
    thread.join(60)
    assert not thread.is_alive(), _where(thread, running.servers[0].get_loop())


def _where(thread: threading.Thread, loop: asyncio.AbstractEventLoop) -> str:
    """What a thread and the tasks of its loop wait for."""
    stack = traceback.format_stack(sys._current_frames()[thread.ident])
    return '\n'.join([*stack, *map(repr, asyncio.all_tasks(loop))])


@pytest.fixture(scope='session')
def served(address: tuple[str, int]) -> str:
    return 'http://{}:{}'.format(*address)


@pytest.fixture(scope='module')
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client

"""The application: routes, the OpenAPI document, start and end."""

from __future__ import annotations

import asyncio
import html
import secrets
import signal
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kovilt.files import read_text
from kovilt.serving import schema
from kovilt.serving.batch_stream import MEDIA_TYPES, BatchStream
from kovilt.serving.bodies import decode_image, media_type, read_json_body, read_vqa_body
from kovilt.serving.chat import Completion, find_question
from kovilt.serving.failures import RequestError, as_request_error, error_response
from kovilt.serving.limits import BATCH_PATH, Limits
from kovilt.serving.service import Service
from kovilt.serving.settings import ServerSettings
from kovilt.version import __version__

T = TypeVar('T')
_REFERENCE = '#/components/schemas/{model}'
_FAILURES: dict[int | str, dict[str, Any]] = {
    400: {'description': '이미지, 질문 또는 JSON 을 읽을 수 없음'},
    408: {'description': '본문이 제때 오지 않음'},
    413: {'description': '본문이 너무 큼'},
    415: {'description': '받지 않는 content-type'},
    422: {'description': '빠졌거나 잘못된 값'},
    429: {'description': '대기열이 가득 참, Retry-After 뒤에 다시'},
    500: {'description': '서비스의 결함'},
    503: {'description': '제때 답하지 못함, Retry-After 뒤에 다시'},
}
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {'model': schema.ErrorResponse, **shown} for status, shown in _FAILURES.items()
}
UNAUTHORIZED: dict[int | str, dict[str, Any]] = {
    401: {'model': schema.ErrorResponse, 'description': '토큰이 없거나 틀림'}
}


def create_app(settings: ServerSettings) -> FastAPI:
    """Load the model and return the application that serves it; its `state.service` is a `Service`.

    Raises:
        KoviltError: the model cannot be loaded.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        _watch_signals(service)
        yield
        await service.stop()

    app = FastAPIOffline(
        redoc_url=None,
        title='kovilt',
        version=__version__,
        description='이미지에 대한 한국어 질문에 답합니다. Answers Korean questions about images.',
        lifespan=lifespan,
        swagger_ui_parameters={'validatorUrl': None},  # nothing is sent to swagger.io
    )
    app.state.service = service
    app.add_middleware(Limits, settings=settings, metrics=service.metrics)
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer_failure)
    guard = [Depends(_token_check(settings.token))] if settings.token else []
    guarded = UNAUTHORIZED if guard else {}
    app.include_router(_state_routes(service))
    app.include_router(_model_routes(service), dependencies=guard, responses=guarded)
    app.include_router(_question_routes(service), dependencies=guard, responses=guarded | FAILURES)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to complete the document
    return app


def _watch_signals(service: Service) -> None:
    """SIGHUP loads the model anew; SIGTERM first says that the service is no longer ready, then ends it as before."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def reload() -> None:
        tasks.add(task := loop.create_task(service.reload()))
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # `serve` holds it back while the model is loaded
    previous = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: Any) -> None:
        service.is_draining = True
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGTERM, drain)


def _token_check(token: str) -> Any:
    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if given is None or not secrets.compare_digest(given.credentials.encode(), token.encode()):
            raise RequestError(
                401, 'a token is needed: send Authorization: Bearer TOKEN', {'WWW-Authenticate': 'Bearer'}
            )

    return check


async def _answer_failure(request: Request, error: Exception) -> Response:
    found = as_request_error(error) or RequestError(422, 'a value of the path or the query cannot be read')
    return error_response(found)


def _state_routes(service: Service) -> APIRouter:
    routes = APIRouter(tags=['state'])
    unavailable: dict[int | str, dict[str, Any]] = {503: {'model': schema.Status}}

    @routes.get('/health', response_model=schema.Status, responses=unavailable)
    async def health() -> Response:
        """살아 있는지. 503 이면 프로세스를 다시 시작해야 합니다."""
        return _status('ok' if service.is_healthy else '', 'stopped')

    @routes.get('/ready', response_model=schema.Status, responses=unavailable)
    async def ready() -> Response:
        """요청을 받을 수 있는지. 종료가 시작되면 503 입니다."""
        return _status('ready' if service.is_healthy and not service.is_draining else '', 'not ready')

    return routes


def _status(good: str, bad: str) -> Response:
    return JSONResponse({'status': good or bad}, 200 if good else 503)


def _model_routes(service: Service) -> APIRouter:
    routes, name, started = APIRouter(tags=['model']), service.settings.model_name, int(time.time())

    @routes.get('/', response_class=HTMLResponse)
    def card() -> str:
        """모델 카드."""
        file = Path(service.engine.inferencer.source) / 'README.md'
        text = read_text(file, 'config') if file.is_file() else ''
        return (
            f'<!doctype html><html lang="ko"><meta charset="utf-8"><title>{html.escape(name)}</title>'
            f'<h1>{html.escape(name)}</h1><p><a href="docs">API</a></p>'
            f'{service.engine.inferencer._repr_html_()}<pre>{html.escape(text)}</pre></html>'
        )

    @routes.get('/metrics', response_class=Response, responses={200: {'content': {'text/plain': {}}}})
    def metrics() -> Response:
        """Prometheus 형식의 측정값."""
        return Response(service.metrics.text(), headers={'content-type': CONTENT_TYPE_LATEST})

    @routes.get('/v1/models')
    async def models() -> schema.ModelList:
        """모델 이름, OpenAI 형식."""
        return schema.ModelList(data=[schema.ModelInfo(id=name, created=started)])

    @routes.get('/v1/models/{model:path}', responses={404: {'model': schema.ErrorResponse}})
    async def model(model: str) -> schema.ModelInfo:
        """한 모델, OpenAI 형식."""
        _check_model(model, name)
        return schema.ModelInfo(id=name, created=started)

    return routes


def _check_model(asked: str | None, name: str) -> None:
    if asked not in (None, name):
        raise RequestError(404, f'model {asked[:80]!r} does not exist; this server has {name!r}')


def _question_routes(service: Service) -> APIRouter:
    routes, name = APIRouter(tags=['questions']), service.settings.model_name

    @routes.post(
        '/v1/vqa',
        response_model_exclude_unset=True,  # an explanation that was not asked for
        openapi_extra=_body({'application/json': 'VQARequest', 'multipart/form-data': 'VQAUpload'}),
    )
    async def vqa(request: Request) -> schema.VQAResponse:
        """한 이미지에 대한 질문들에 답합니다. JSON 으로 보내거나 파일로 올립니다."""
        with service.slot():
            image, asked = await read_vqa_body(request, service)
            work = service.answer(image, asked.questions, asked.topk, choices=asked.choices, explain=asked.explain)
            answers: list[Any] = await _while_connected(request, work)
        _note(request, questions=len(answers))
        return schema.VQAResponse(model=name, answers=answers)

    @routes.post(
        BATCH_PATH,
        response_class=Response,
        responses={200: {'content': {MEDIA_TYPES[0]: {'schema': {'$ref': _REFERENCE.format(model='BatchResult')}}}}},
        openapi_extra=_body(dict.fromkeys(MEDIA_TYPES, 'BatchLine')),
    )
    async def batch(request: Request) -> Response:
        """줄마다 한 요청(JSONL)을 받아 같은 순서로 줄마다 답합니다."""
        if media_type(request) not in MEDIA_TYPES:
            raise RequestError(415, f'content-type {media_type(request)[:80]!r}: send {MEDIA_TYPES[0]}')
        return BatchStream(service)

    @routes.post(
        '/v1/chat/completions',
        response_model=schema.ChatResponse,
        responses={200: {'content': {'text/event-stream': {}}}, 404: {'model': schema.ErrorResponse}},
        openapi_extra=_body({'application/json': 'ChatRequest'}),
    )
    async def chat(request: Request) -> Response:
        """OpenAI 의 chat completions 형식. 마지막 사용자 메시지의 질문에 답합니다."""
        with service.slot():
            asked = await read_json_body(request, service, schema.ChatRequest)
            _check_model(asked.model, name)
            url, question = find_question(asked.messages)
            image = await service.in_thread(lambda: decode_image(url, service.settings.max_image_bytes))
            work = service.answer(image, [question], max(1, asked.top_logprobs or 0))
            (answer,) = await _while_connected(request, work)
        _note(request, questions=1)
        completion = Completion(answer, name, asked)
        if asked.stream:
            return Response(completion.stream(), media_type='text/event-stream')
        return JSONResponse(completion.whole())

    return routes


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is given up when the client goes. The body has been read: only its end can come."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def _note(request: Request, **values: Any) -> None:
    """Add values to the request's line in the log."""
    request.scope.setdefault('log', {}).update(values)


def _body(kinds: dict[str, str]) -> dict[str, Any]:
    """The body of a request in OpenAPI: content type -> name of its schema. The routes read it themselves."""
    content = {kind: {'schema': {'$ref': _REFERENCE.format(model=name)}} for kind, name in kinds.items()}
    return {'requestBody': {'required': True, 'content': content}}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, completed by the schemas of what the routes read and stream themselves."""
    if not app.openapi_schema:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        bodies = (schema.VQARequest, schema.Questions, schema.BatchLine, schema.ChatRequest)
        _, made = models_json_schema(
            [*((body, 'validation') for body in bodies), (schema.BatchResult, 'serialization')],
            ref_template=_REFERENCE,
        )
        schemas: dict[str, Any] = document['components']['schemas']
        schemas.update(made['$defs'])
        upload: dict[str, Any] = schemas.pop('Questions')
        image = {'type': 'string', 'format': 'binary', 'description': '이미지 파일'}
        upload |= {'title': 'VQAUpload', 'properties': {'image': image, **upload['properties']}}
        upload['required'] = ['image', *upload['required']]
        schemas['VQAUpload'] = upload
        app.openapi_schema = document
    return app.openapi_schema

"""How a request fails: its status, and one line as JSON in the format of OpenAI's errors. Never a traceback."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from kovilt.errors import RunFault, user_error
from kovilt.serving.schema import ErrorDetail

_KINDS = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}
_MAX_MESSAGE = 400  # characters; a message may quote a key of the body
RETRY = {'Retry-After': '1'}  # seconds


class RequestError(HTTPException):
    """A request that ends with an HTTP status and a message."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, dict(headers or {}))


def too_large(limit: int, what: str = 'the body') -> RequestError:
    return RequestError(413, f'{what} is larger than {limit / 1e6:.1f} MB; send a smaller image (--max-image-mb)')


def as_request_error(error: Exception) -> RequestError | None:
    """The failure of a request that an exception means; None for a fault of the service itself."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, str(error.detail), error.headers)
    if isinstance(error, ValidationError):
        return RequestError(422, describe_problem(error))
    if isinstance(error, TimeoutError):
        return RequestError(503, 'not answered in time; the service is busy, try again later', RETRY)
    if found := user_error(error):
        return RequestError(503, str(found), RETRY) if isinstance(found, RunFault) else RequestError(400, str(found))
    return None


def describe_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a body, in one line: questions.0: Input should be a valid string.

    It is the first of the deepest: where several types are allowed, a body comes furthest with the one that was meant.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = max(found, key=lambda one: len(one['loc']))
    place = '.'.join(map(str, first['loc']))
    return f'{place}: {first["msg"]}' if place else first['msg']


def error_detail(status: int, message: str) -> ErrorDetail:
    kind = _KINDS.get(status, 'invalid_request_error' if status < 500 else 'server_error')
    line = ' '.join(message.split())
    shown = line if len(line) <= _MAX_MESSAGE else f'{line[:_MAX_MESSAGE]}...'
    return ErrorDetail(message=shown, type=kind, code=str(status))


def error_response(error: RequestError) -> JSONResponse:
    detail = error_detail(error.status_code, str(error.detail))
    return JSONResponse({'error': detail.model_dump()}, error.status_code, error.headers)

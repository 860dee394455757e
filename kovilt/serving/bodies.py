"""Reading the bodies of requests. Nothing of them touches the disk, and no address in them is fetched."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kovilt.json_text import parse_json
from kovilt.serving.failures import RequestError, too_large
from kovilt.serving.schema import Questions, VQARequest
from kovilt.serving.service import Service
from kovilt.serving.settings import MAX_CHOICES, MAX_QUESTIONS

Body = TypeVar('Body', bound=BaseModel)
_MAX_FIELD = 64 << 10  # bytes; a question has at most 10,000 characters


def parse_body(body: bytes, kind: type[Body], line: int = 1) -> Body:
    """The value of a JSON text, which begins at a line of the body.

    Raises:
        KoviltError: no JSON that kovilt reads, such as one that is nested too deep. RequestError: not UTF-8.
        pydantic.ValidationError: JSON of another kind.
    """
    try:
        text = body.decode('utf-8-sig')
    except UnicodeDecodeError:
        raise RequestError(400, f'the body, line {line}: not UTF-8 text; send JSON in UTF-8') from None
    return kind.model_validate(parse_json(text, 'the body', line=line, remedy='send valid JSON'))


async def read_json_body(request: Request, service: Service, kind: type[Body]) -> Body:
    """The body of a request that has to be JSON; exceptions as of `parse_body`, and RequestError for another type."""
    if not _is_json(request):
        raise RequestError(415, f'content-type {media_type(request)[:80]!r}: send application/json')
    body = await request.body()
    return await service.in_thread(lambda: parse_body(body, kind))


async def read_vqa_body(request: Request, service: Service) -> tuple[bytes, Questions]:
    """The image file and the questions of a request, as JSON or as an upload; exceptions as of `read_json_body`."""
    if media_type(request) == 'multipart/form-data':
        return await _read_upload(request, service.settings.max_image_bytes)
    if not _is_json(request):
        raise RequestError(
            415, f'content-type {media_type(request)[:80]!r}: send application/json or multipart/form-data'
        )
    asked = await read_json_body(request, service, VQARequest)
    return await service.in_thread(lambda: decode_image(asked.image, service.settings.max_image_bytes)), asked


def decode_image(text: str, max_bytes: int) -> bytes:
    """The image file in base64 or in a data URL.

    Raises:
        RequestError: another address, no base64, or a file of more than `max_bytes`.
    """
    start, comma, rest = text.partition(',') if text[:5].lower() == 'data:' else ('', '', text)
    if start and not (comma and start.lower().endswith(';base64')):
        raise RequestError(400, 'image: a data URL without ;base64; send data:image/jpeg;base64,...')
    if '://' in rest[:20]:
        raise RequestError(400, 'image: no address is fetched; send the file in base64 or as a data URL')
    try:
        content = base64.b64decode(''.join(rest.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, 'image: not base64; send the file in base64 or as a data URL') from None
    return _checked(content, max_bytes)


def _checked(content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise too_large(max_bytes, 'the image')
    return content


def media_type(request: Request) -> str:
    """The content type of the body, without parameters."""
    return request.headers.get('content-type', '').partition(';')[0].strip().lower()


def _is_json(request: Request) -> bool:
    kind = media_type(request)
    return kind == 'application/json' or kind.startswith('application/') and kind.endswith('+json')


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # bytes beyond which a file is written to the disk; the body has a limit far below


async def _read_upload(request: Request, max_bytes: int) -> tuple[bytes, Questions]:
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=MAX_QUESTIONS + MAX_CHOICES + 10,
        max_part_size=_MAX_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(400, f'the body: {error.message} Send one file and few short fields') from None
    lists = {name: form.getlist(name) for name in ('questions', 'choices')}
    fields: dict[str, Any] = {name: values for name, values in lists.items() if values or name == 'questions'}
    fields |= {name: value for name, value in form.multi_items() if name != 'image' and name not in lists}
    flag = str(fields.get('explain')).lower()
    if flag in ('true', 'false'):
        fields['explain'] = flag == 'true'
    asked, image = Questions.model_validate(fields), form.get('image')
    if not isinstance(image, UploadFile):
        raise RequestError(422, 'image: Field required; send it as a file')
    return _checked(await image.read(), max_bytes), asked

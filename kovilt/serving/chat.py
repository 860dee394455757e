"""OpenAI's chat format: which image and question a conversation means, and an answer as a completion."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator
from typing import Any

from kovilt.json_text import dump_json
from kovilt.serving.failures import RequestError
from kovilt.serving.schema import ChatMessage, ChatRequest, ImagePart, TextPart


def find_question(messages: list[ChatMessage]) -> tuple[str, str]:
    """The URL of the image and the question of a conversation.

    The last user message asks; the image is its own or, if it has none, the last one before.

    Raises:
        RequestError: no question, no image, or several images in one message.
    """
    last = next((number for number in reversed(range(len(messages))) if messages[number].role == 'user'), None)
    if last is None:
        raise RequestError(400, 'messages: no user message in it; add one with an image and a question')
    parts = messages[last].content or ''
    texts = [parts] if isinstance(parts, str) else [part.text for part in parts if isinstance(part, TextPart)]
    for message in reversed(messages[: last + 1]):
        content = message.content if isinstance(message.content, list) else []
        images = [part for part in content if isinstance(part, ImagePart)]
        if len(images) > 1:
            raise RequestError(400, f'messages: {len(images)} images in one message; send one')
        if images:
            return images[0].image_url.url, ' '.join(texts)
    raise RequestError(400, 'messages: no image in them; add an image_url part with a data URL to the user message')


class Completion:
    """An answer in OpenAI's format. Of an abstention the log probabilities are those of what would have been said.

    Args:
        answer: of `Service.answer`, with as many answers in `topk` as logprobs are wanted.
    """

    def __init__(self, answer: dict[str, Any], model: str, request: ChatRequest) -> None:
        self._text: str = answer['answer']
        self._head = {'id': f'chatcmpl-{uuid.uuid4().hex}', 'created': int(time.time()), 'model': model}
        tokens = answer['num_tokens']
        self._usage = {'prompt_tokens': tokens, 'completion_tokens': 1, 'total_tokens': tokens + 1}
        listed = [_log_probability(one) for one in answer['topk']]
        first = {**_log_probability(answer), 'top_logprobs': listed[: request.top_logprobs or 0]}
        self._logprobs = {'content': [first], 'refusal': None} if request.logprobs else None
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)

    def whole(self) -> dict[str, Any]:
        choice = {
            'index': 0,
            'message': {'role': 'assistant', 'content': self._text, 'refusal': None},
            'logprobs': self._logprobs,
            'finish_reason': 'stop',
        }
        return {'object': 'chat.completion', **self._head, 'choices': [choice], 'usage': self._usage}

    def stream(self) -> str:
        """All server-sent events of a stream. The answer is known as a whole, so they come at once."""
        return ''.join(f'data: {dump_json(chunk)}\n\n' for chunk in self._chunks()) + 'data: [DONE]\n\n'

    def _chunks(self) -> Iterator[dict[str, Any]]:
        head = {'object': 'chat.completion.chunk', **self._head}
        delta = {'role': 'assistant', 'content': self._text}
        yield head | {'choices': [{'index': 0, 'delta': delta, 'logprobs': self._logprobs, 'finish_reason': None}]}
        yield head | {'choices': [{'index': 0, 'delta': {}, 'logprobs': None, 'finish_reason': 'stop'}]}
        if self._with_usage:
            yield head | {'choices': [], 'usage': self._usage}


def _log_probability(answer: dict[str, Any]) -> dict[str, Any]:
    text: str = answer['answer']
    value = math.log(max(answer['score'], 1e-9))
    return {'token': text, 'logprob': value, 'bytes': list(text.encode())}

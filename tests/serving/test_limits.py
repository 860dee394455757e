"""Bodies that are too large, too slow or without an end, clients that go, and more requests than the queue takes."""

import asyncio
import base64
import json

import pytest

from tests.serving.conftest import QUESTIONS, image_file

BODY = json.dumps({'image': base64.b64encode(image_file()).decode(), 'questions': QUESTIONS}).encode()


class Connection:
    """One request as a server gives it to the application.

    Args:
        parts: of the body. After them the client goes, or, with `stays`, waits for the answer.
    """

    def __init__(self, parts, path='/v1/vqa', headers=(), stays=True, kind=b'application/json'):
        self.scope = {
            'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'method': 'POST', 'scheme': 'http',
            'path': path, 'raw_path': path.encode(), 'query_string': b'', 'root_path': '', 'client': ('127.0.0.1', 1),
            'server': ('127.0.0.1', 80), 'headers': [(b'content-type', kind), *headers],
        }  # fmt: skip
        self.parts, self.stays, self.read, self.messages = iter(parts), stays, 0, []

    async def receive(self):
        for part in self.parts:
            self.read += 1
            if part is None:  # the body ends
                return {'type': 'http.request', 'body': b'', 'more_body': False}
            return {'type': 'http.request', 'body': part, 'more_body': True}
        if self.stays:
            await asyncio.Event().wait()
        return {'type': 'http.disconnect'}

    async def send(self, message):
        self.messages.append(message)

    async def answer(self, app):
        await asyncio.wait_for(app(self.scope, self.receive, self.send), 30)
        return self

    @property
    def status(self):
        return self.messages[0]['status'] if self.messages else None

    @property
    def headers(self):
        return dict(self.messages[0]['headers'])

    @property
    def body(self):
        return b''.join(message.get('body', b'') for message in self.messages[1:])


CHUNKED = [(b'transfer-encoding', b'chunked')]


def length(number):
    return [(b'content-length', str(number).encode())]


def run(app, work):
    async def inside():
        async with app.router.lifespan_context(app):
            return await work(app)

    return asyncio.run(asyncio.wait_for(inside(), 60))


def test_a_body_is_refused_by_its_stated_size_before_it_is_read(idle_app):
    connection = Connection([], headers=[*length(20_000_000), (b'expect', b'100-continue')])
    run(idle_app, connection.answer)
    assert connection.status == 413 and connection.read == 0 and connection.headers[b'connection'] == b'close'
    assert 'larger than 1.1 MB' in json.loads(connection.body)['error']['message']


def test_a_body_without_an_end_is_read_for_a_bounded_time_alone(idle_app):
    def endless():
        while True:
            yield b' ' * 100_000

    connection = Connection(endless(), headers=CHUNKED)
    run(idle_app, connection.answer)
    assert connection.status == 413 and 11 < connection.read < 1000
    assert connection.messages[-1] == {'type': 'http.response.body', 'body': b''}


def test_a_refused_body_is_read_to_its_end_so_that_the_client_gets_the_answer(idle_app):
    parts = [b' ' * 1_000_000] * 20
    connection = Connection([*parts, None], headers=length(20_000_000))
    run(idle_app, connection.answer)
    assert connection.status == 413 and connection.read == 21 and b'larger than' in connection.body


@pytest.mark.parametrize('path', ['/v1/vqa', '/v1/chat/completions'])
def test_a_body_that_does_not_arrive_in_time_is_given_up(make_app, path):
    app = make_app(timeout=0.05)
    connection = Connection([BODY[:100]], path, headers=[*length(len(BODY)), (b'expect', b'')])
    run(app, connection.answer)
    assert connection.status == 408 and b'did not arrive in time' in connection.body


def test_a_body_that_trickles_in_has_no_more_time_than_others(make_app):
    class Trickling(Connection):
        async def receive(self):
            await asyncio.sleep(0)
            return {'type': 'http.request', 'body': b' ', 'more_body': True}

    connection = Trickling([], headers=[*CHUNKED, (b'expect', b'')])
    run(make_app(timeout=0.05), connection.answer)
    assert connection.status == 408 and b'did not arrive in time' in connection.body


def test_a_client_that_goes_while_it_sends_or_waits_leaves_nothing_behind(idle_app, caplog):
    async def work(app):
        service = app.state.service
        for parts in ([BODY[:50]], [BODY, None]):
            connection = Connection(parts, headers=length(len(BODY)), stays=False)
            await connection.answer(app)
            assert connection.messages == [] and service._queue_length == 0

    run(idle_app, work)
    assert 'Traceback' not in caplog.text


def test_more_requests_than_the_queue_takes_are_refused_and_later_ones_answered(idle_app):
    async def work(app):
        service, gone = app.state.service, asyncio.Event()

        class Waiting(Connection):
            async def receive(self):
                await gone.wait()
                return {'type': 'http.disconnect'}

        waiting = [asyncio.create_task(Waiting([], headers=CHUNKED).answer(app)) for _ in range(4)]
        while service._queue_length < 4:
            await asyncio.sleep(0)
        refused = await Connection([BODY, None], headers=length(len(BODY))).answer(app)
        gone.set()
        await asyncio.gather(*waiting)
        return refused, await Connection([BODY, None], headers=length(len(BODY))).answer(app)

    refused, answered = run(idle_app, work)
    assert refused.status == 429 and refused.headers[b'retry-after'] == b'1' and refused.read == 2
    assert answered.status == 200 and len(json.loads(answered.body)['answers']) == len(QUESTIONS)


def test_two_hundred_requests_at_a_time_are_answered_or_refused(idle_app):
    async def work(app):
        requests = [Connection([BODY, None], headers=length(len(BODY))) for _ in range(200)]
        return await asyncio.gather(*(request.answer(app) for request in requests))

    statuses = [connection.status for connection in run(idle_app, work)]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 4

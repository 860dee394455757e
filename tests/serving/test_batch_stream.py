"""JSONL in, JSONL out: in order, with an error in the place of a line that cannot be answered."""

import asyncio
import base64
import json

import pytest

from kovilt.serving import batch_stream
from tests.serving.conftest import QUESTIONS, image_file
from tests.serving.test_limits import CHUNKED, Connection, run

IMAGES = [base64.b64encode(image_file(seed)).decode() for seed in range(3)]


def stream(parts, kind=Connection, **more):
    return kind(parts, '/v1/batch', [*CHUNKED, *more.pop('headers', ())], kind=b'application/jsonl', **more)


def line(number, **more):
    return json.dumps({'id': number, 'image': IMAGES[number % 3], 'questions': QUESTIONS[:2], **more})


def send(client, body):
    response = client.post('/v1/batch', content=body, headers={'content-type': 'application/jsonl'})
    assert response.status_code == 200 and response.headers['content-type'] == 'application/jsonl', response.text
    return [json.loads(row) for row in response.text.splitlines()]


def test_lines_are_answered_in_order_as_single_requests_are(client):
    rows = send(client, '\n'.join(line(number) for number in range(70)))
    assert [(row['id'], row['line']) for row in rows] == [(number, number + 1) for number in range(70)]
    alone = [
        client.post('/v1/vqa', json={'image': image, 'questions': QUESTIONS[:2]}).json()['answers'] for image in IMAGES
    ]
    for number, row in enumerate(rows):
        assert [one['answer'] for one in row['answers']] == [one['answer'] for one in alone[number % 3]]
        assert row['answers'][0].keys() == alone[0][0].keys()


def test_a_bad_line_has_its_error_and_the_others_their_answers(client):
    bad = ['{', '[]', line(2, image='AAAA'), line(3, questions=[]), line(4, image='http://x/a.png'), '한' * 10]
    rows = send(client, '\r\n'.join([line(0), '', *bad, '   ', line(9)]) + '\n\n')
    assert [row['line'] for row in rows] == [1, *range(3, 9), 10]
    assert [row['id'] for row in rows] == [0, None, None, 2, None, 4, None, 9]
    assert ['error' in row for row in rows] == [False, *[True] * 6, False]
    assert all('\n' not in row['error']['message'] for row in rows[1:-1])
    assert 'the body, line 3, column 3: ' in rows[1]['error']['message']


def test_lines_may_ask_for_explanations(client):
    explained, plain, too_many = send(
        client, '\n'.join([line(0, explain=True), line(1), line(2, explain=True, questions=['책?'] * 9)])
    )
    assert all(one['explanation']['patch_relevance'] for one in explained['answers'])
    assert 'explanation' not in plain['answers'][0] and too_many['error']['code'] == '422'


def test_other_content_and_an_empty_stream(client):
    assert client.post('/v1/batch', content=line(0), headers={'content-type': 'application/json'}).status_code == 415
    assert send(client, b'') == []


def test_answers_come_while_the_request_is_being_sent(idle_app):
    async def work(app):
        answered = asyncio.Event()

        class Conversation(Connection):
            async def send(self, message):
                await super().send(message)
                if b'"answers"' in message.get('body', b''):
                    answered.set()

            async def receive(self):
                if self.read == 1:
                    await answered.wait()  # a client that sends its second line only after the first answer
                return await super().receive()

        lines = [f'{line(0)}\n'.encode(), f'{line(1)}\n'.encode(), None]
        return await stream(lines, Conversation).answer(app)

    rows = [json.loads(row) for row in run(idle_app, work).body.splitlines()]
    assert [row['id'] for row in rows] == [0, 1]


def test_as_many_lines_as_are_allowed_are_answered(idle_app, monkeypatch):
    monkeypatch.setattr(batch_stream, 'MAX_LINES', 2)
    rows = run(idle_app, stream([f'{line(0)}\n{line(1)}\n'.encode(), None]).answer).body.splitlines()
    assert len(rows) == 2 and all('answers' in json.loads(row) for row in rows)


def test_answers_that_the_client_does_not_take_are_bounded(idle_app, monkeypatch):
    monkeypatch.setattr(batch_stream, 'MAX_WAITING', 100)

    async def work(app):
        answered, all_sent = asyncio.Event(), asyncio.Event()

        class TakingNothing(Connection):
            """Takes the answers when all is sent; sends the second line when the first is answered."""

            async def send(self, message):
                if b'"answers"' in message.get('body', b''):
                    answered.set()
                    await all_sent.wait()
                await super().send(message)

            async def receive(self):
                if self.read == 1:
                    await answered.wait()
                message = await super().receive()
                if not message['more_body']:
                    all_sent.set()
                return message

        return await stream([*(f'{line(n)}\n'.encode() for n in range(4)), None], TakingNothing).answer(app)

    first, second, last = (json.loads(row) for row in run(idle_app, work).body.splitlines())
    assert 'answers' in first and 'answers' in second
    assert last['line'] == 3 and last['error']['code'] == '413' and 'were not taken' in last['error']['message']


def test_all_streams_together_have_a_bounded_number_of_lines_in_work(make_app, monkeypatch):
    app = make_app(max_batch=2)
    service, answered = app.state.service, []
    answer = service.answer

    async def counted(*asked, **more):
        answered.append(2 - service.lines._value)
        return await answer(*asked, **more)

    monkeypatch.setattr(service, 'answer', counted)

    async def work(app):
        streams = [stream([''.join(f'{line(n)}\n' for n in range(4)).encode(), None]) for _ in range(3)]
        return await asyncio.gather(*(one.answer(app) for one in streams))

    assert [len(one.body.splitlines()) for one in run(app, work)] == [4, 4, 4]
    assert len(answered) == 12 and max(answered) == 2 and service.lines._value == 2


@pytest.mark.parametrize(
    ('parts', 'timeout', 'code', 'said'),
    [
        ([f'{line(0)}\n'.encode(), *[b' ' * 500_000] * 9, None], 30, '413', 'the line is larger than'),
        ([f'{line(0)}\n'.encode(), b'{"image"'], 1, '408', 'did not arrive in time'),
        ([f'{line(0)}\n'.encode(), b'\n' * 50, None], 30, '413', 'more than 20 lines'),
    ],
)
def test_a_stream_that_cannot_be_read_on_ends_with_an_error(make_app, monkeypatch, parts, timeout, code, said):
    monkeypatch.setattr(batch_stream, 'MAX_LINES', 20)
    app = make_app(timeout=timeout, max_image_mb=0.1)
    connection = stream(parts, headers=[(b'expect', b'100-continue')])
    run(app, connection.answer)
    first, last = (json.loads(row) for row in connection.body.splitlines())
    assert 'answers' in first and last['error']['code'] == code and said in last['error']['message']
    assert connection.messages[-1].get('more_body', False) is False


def test_a_client_that_goes_ends_its_stream(idle_app, caplog):
    connection = stream([f'{line(0)}\n'.encode() * 3, b'{'], stays=False)
    run(idle_app, connection.answer)
    assert idle_app.state.service._queue_length == 0 and 'Traceback' not in caplog.text

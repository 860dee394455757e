"""Over HTTP the answers are those of VQAInferencer, and what is wrong with a request is told in one line of JSON."""

import base64
import io
import json
import logging
import re
import struct
import zlib

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from kovilt.apis import VQAInferencer
from kovilt.serving.settings import MAX_EXPLAINED, MAX_QUESTIONS
from tests.serving.conftest import QUESTIONS, image_file

CONTENT = image_file()
ENCODED = base64.b64encode(CONTENT).decode()


def ask(client, **body):
    return client.post('/v1/vqa', json={'image': ENCODED, 'questions': QUESTIONS, **body})


@pytest.fixture(scope='module')
def expected(folder):
    return VQAInferencer(folder, device='cpu')(Image.open(io.BytesIO(CONTENT)), QUESTIONS, topk=3)


def close(ours, theirs):
    return all(
        a['answer'] == b['answer']
        and abs(a['score'] - b['score']) < 1e-5
        and [row['answer'] for row in a['topk']] == [row['answer'] for row in b['topk']]
        and a['unknown_token_share'] == b['unknown_token_share']
        for a, b in zip(ours, theirs, strict=True)
    )


def test_json_uploads_and_data_urls_give_the_answers_of_the_inferencer(client, expected):
    upload = client.post('/v1/vqa', files={'image': CONTENT}, data={'questions': QUESTIONS, 'topk': '3'})
    for response in (
        ask(client, topk=3),
        ask(client, topk=3, image=f'data:image/png;base64,{ENCODED}'),
        ask(client, topk=3, image='\n'.join(re.findall('.{1,76}', ENCODED))),
        upload,
    ):
        assert response.status_code == 200, response.text
        body = response.json()
        assert body['model'] == 'tiny' and [one['question'] for one in body['answers']] == QUESTIONS
        assert close(body['answers'], expected)
        assert body['answers'][0].keys() == {'question', 'answer', 'score', 'topk', 'unknown_token_share', 'warnings'}


def test_each_request_gets_the_topk_that_it_asks_for_and_the_warnings_of_its_questions(client):
    (one,), (other,) = (ask(client, questions=['뷁 뷁'], topk=k).json()['answers'] for k in (1, 5))
    assert (len(one['topk']), len(other['topk'])) == (1, 5) and one['unknown_token_share'] == 1
    assert 'unknown to the model' in one['warnings'][0]
    assert ask(client).json()['answers'][0]['warnings'] == []


def test_an_answer_is_explained_on_request(client, folder):
    found = VQAInferencer(folder, device='cpu').explain(Image.open(io.BytesIO(CONTENT)), QUESTIONS[1])
    upload = client.post('/v1/vqa', files={'image': CONTENT}, data={'questions': QUESTIONS, 'explain': 'true'})
    for response in (ask(client, explain=True), upload):
        answers = response.json()['answers']
        assert [one['question'] for one in answers] == QUESTIONS and answers[1]['answer'] == found.answer
        why = answers[1]['explanation']
        assert why['tokens'] == found.tokens and why['part'] == [0, 0, 1, 1]
        assert why['token_relevance'] == pytest.approx(found.token_relevance.tolist(), rel=1e-3)
        assert [len(row) for row in why['patch_relevance']] == [found.patch_relevance.shape[1]] * len(
            found.patch_relevance
        )
        flat = [value for row in why['patch_relevance'] for value in row]
        assert flat == pytest.approx(found.patch_relevance.ravel().tolist(), rel=1e-3)
    assert 'explanation' not in ask(client, explain=False).json()['answers'][0]


def test_explanations_have_a_limit_and_need_gradients(client, app, monkeypatch):
    refused = ask(client, questions=['책?'] * (MAX_EXPLAINED + 1), explain=True)
    assert refused.status_code == 422 and f'at most {MAX_EXPLAINED}' in error_of(refused)['message']
    assert ask(client, questions=['책?'] * (MAX_EXPLAINED + 1)).status_code == 200
    for wrong in (1, 'true', None):
        assert 'explain: ' in error_of(ask(client, explain=wrong))['message']
    monkeypatch.setattr(app.state.service.engine.inferencer, 'precision', 'int8')
    refused = ask(client, explain=True)
    assert refused.status_code == 400 and 'explain computes gradients in float32' in error_of(refused)['message']


def test_the_state_the_metrics_and_the_model_card(client, folder, app):
    assert client.get('/health').json() == {'status': 'ok'} and client.get('/ready').json() == {'status': 'ready'}
    app.state.service.is_draining = True
    try:
        assert client.get('/ready').status_code == 503 and client.get('/health').status_code == 200
    finally:
        app.state.service.is_draining = False
    ask(client)
    metrics = client.get('/metrics').text
    assert re.search(r'kovilt_requests_total\{route="/v1/vqa",status="200"\} \d', metrics)
    assert 'kovilt_queue_length 0.0' in metrics and 'kovilt_batch_pairs_bucket' in metrics
    card = client.get('/').text
    assert 'Ko-ViLT (ViLTForVQA)' in card and 'VQAInferencer(&#x27;tiny&#x27;)' in card
    assert client.get('/v1/models').json()['data'][0]['id'] == 'tiny'


def test_a_packaged_model_shows_its_card(make_app):
    with TestClient(make_app(model='rooms')) as client:
        assert 'library_name: kovilt' in client.get('/').text
        assert client.get('/v1/models').json()['data'][0]['id'] == 'rooms'


def test_the_page_of_the_api_fetches_nothing_from_outside(client):
    page = client.get('/docs').text
    places = re.findall(r'(?:src|href|url)\s*[=:]\s*["\']([^"\']+)', page)
    assert len(places) >= 3 and all(place.startswith('/') for place in places)
    for place in places:
        assert client.get(place).status_code == 200
    assert '//' not in re.sub(r'//.*|/\*.*?\*/', '', page.replace('<!DOCTYPE html>', '')) or 'http' not in page


def test_the_examples_of_the_document_are_korean_and_can_be_sent_as_they_are(client):
    document = client.get('/openapi.json').json()
    schemas, posted = document['components']['schemas'], 0
    for path, methods in document['paths'].items():
        for kind, content in methods.get('post', {}).get('requestBody', {}).get('content', {}).items():
            name = content['schema']['$ref'].rpartition('/')[2]
            for example in schemas[name].get('examples', ()):
                assert re.search('[가-힣]', json.dumps(example, ensure_ascii=False))
                if 'model' in example:
                    example = example | {'model': 'tiny'}
                response = client.post(path, content=json.dumps(example), headers={'content-type': kind})
                assert response.status_code == 200 and '"error"' not in response.text, response.text
                posted += 1
    assert posted == 5


def test_with_a_token_only_probes_and_the_document_are_open(make_app):
    with TestClient(make_app(token='s3cret')) as client:
        for path in ('/health', '/ready', '/docs', '/openapi.json'):
            assert client.get(path).status_code == 200
        for path in ('/', '/metrics', '/v1/models'):
            assert client.get(path).status_code == 401
        response = ask(client)
        assert response.status_code == 401 and response.headers['www-authenticate'] == 'Bearer'
        assert error_of(response)['type'] == 'authentication_error'
        for given in ('wrong', 's3cret\u00e9'.encode().decode('latin-1'), ''):
            headers = [(b'authorization', f'Bearer {given}'.encode('latin-1'))]
            assert client.get('/v1/models', headers=headers).status_code == 401
        client.headers['authorization'] = 'Bearer s3cret'
        assert ask(client).status_code == 200
        assert client.get('/openapi.json').json()['components']['securitySchemes']


def error_of(response):
    """The error of a response, after the checks that hold for all of them."""
    body = response.json()
    assert body.keys() == {'error'} and body['error'].keys() == {'message', 'type', 'param', 'code'}
    message = body['error']['message']
    assert message and '\n' not in message and 'Traceback' not in message and len(message) < 500
    assert response.headers['x-request-id']
    return body['error']


def png(width, height, rows=b''):
    """A PNG whose header states a size; with few bytes of pixels it is a decompression bomb or cut off."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def encoded(content):
    return base64.b64encode(content).decode()


JSON = 'application/json'
VALID = json.dumps({'image': ENCODED, 'questions': QUESTIONS})


@pytest.mark.parametrize(
    ('status', 'content', 'kind', 'message'),
    [
        (400, b'', JSON, 'the body, line 1, column 1'),
        (400, b'{"image": ', JSON, 'send valid JSON'),
        (400, '{"image": "한'.encode('cp949'), JSON, 'not UTF-8'),
        (400, VALID[:-1] + ', "questions": []}', JSON, 'occurs twice'),
        (400, VALID[:-1] + ', "topk": NaN}', JSON, 'NaN is not a number'),
        (400, VALID[:-1] + f', "topk": {"9" * 5000}}}', JSON, 'digits'),
        (400, '[' * 100_000, JSON, 'nested deeper'),
        (400, '{"a":' * 50_000, JSON, 'nested deeper'),
        (422, '[]', JSON, 'valid dictionary'),
        (422, '{}', JSON, 'questions: Field required'),
        (422, '{"image": 7, "questions": ["a"]}', JSON, 'image: Input should be a valid string'),
        (422, VALID[:-1] + ', "tokp": 1}', JSON, 'tokp: Extra inputs'),
        (422, f'{VALID[:-1]}, "{"k" * 9999}": 1}}', JSON, 'kkk...'),
        (400, f'{VALID[:-1]}, "{"k" * 9999}": 1, "{"k" * 9999}": 1}}', JSON, 'kkk'),
        (422, VALID[:-1] + ', "topk": 0}', JSON, 'topk: '),
        (422, VALID[:-1] + ', "topk": "many"}', JSON, 'topk: '),
        (422, json.dumps({'image': ENCODED, 'questions': []}), JSON, 'questions: '),
        (422, json.dumps({'image': ENCODED, 'questions': ['책?'] * (MAX_QUESTIONS + 1)}), JSON, 'questions: '),
        (400, json.dumps({'image': ENCODED, 'questions': ['책?', ' ']}), JSON, 'question 1: it is empty'),
        (400, json.dumps({'image': ENCODED, 'questions': ['책' * 20_000]}), JSON, 'question 0: 20,000 characters'),
        (415, VALID, 'text/plain', "content-type 'text/plain': send"),
        (415, VALID, '', "content-type '': send"),
        (415, 'image=a&questions=b', 'application/x-www-form-urlencoded', 'send application/json or multipart'),
        (400, b'--x', 'multipart/form-data', 'boundary'),
        (400, b'garbage', 'multipart/form-data; boundary=x', 'the body: '),
        (422, b'--x\r\ncontent-disposition: form-data; name="questions"\r\n\r\na\r\n--x--\r\n',
         'multipart/form-data; boundary=x', 'image: Field required'),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused(client, status, content, kind, message):
    content = content.encode() if isinstance(content, str) else content
    response = client.post('/v1/vqa', content=content, headers={'content-type': kind})
    assert response.status_code == status, response.text
    assert message in error_of(response)['message']


@pytest.mark.parametrize(
    ('status', 'image', 'message'),
    [
        (400, 'not base64!', 'not base64'),
        (400, '한글', 'not base64'),
        (400, 'http://example.com/a.png', 'no address is fetched'),
        (400, 'file:///etc/passwd', 'no address is fetched'),
        (400, 'data:image/png,abc', 'without ;base64'),
        (400, 'data:image/png;base64', 'without ;base64'),
        (400, encoded(b'no image at all'), 'image: not a readable image'),
        (400, encoded(b'<svg onload="x">'), 'an SVG drawing'),
        (400, encoded(CONTENT[: len(CONTENT) // 2]), 'image: not a readable image'),
        (400, encoded(png(60_000, 60_000)), 'megapixels'),
        (400, encoded(png(7_000, 7_000, b'\0' * 1000)), 'image: not a readable image'),
        (400, encoded(png(1_000_000, 2)), 'more than 200 times'),
        (400, encoded(image_file(size=(4, 4))), 'at least 8 a side'),
        (413, encoded(image_file(size=(300, 300))), 'the image is larger than 0.1 MB'),
        (413, encoded(b'\0' * 20_000_000), 'the body is larger than'),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_an_image_that_cannot_be_used_is_refused(client, status, image, message):
    response = ask(client, image=image)
    assert response.status_code == status and message in error_of(response)['message']
    if '://' not in image and not image.startswith('data') and status != 413 and 'base64' not in message:
        upload = client.post('/v1/vqa', files={'image': base64.b64decode(image)}, data={'questions': QUESTIONS})
        assert upload.status_code == status and message in error_of(upload)['message']


@pytest.mark.parametrize(
    'path', ['/v1/nothing', '/../../etc/passwd', '/v1/%2e%2e/%2e%2e/etc/passwd', '/static-offline-docs/../core.py',
             '/static-offline-docs/%2e%2e/core.py', '/.env', '/v1/vqa/', '/%00', '/' + 'a' * 5000]
)  # fmt: skip
def test_paths_that_do_not_exist_are_not_found(client, path):
    response = client.get(path, follow_redirects=False)
    assert response.status_code in (404, 307, 405), response.text
    if response.status_code == 404:
        error_of(response)


def test_a_wrong_method_names_the_right_one(client):
    response = client.get('/v1/vqa')
    assert response.status_code == 405 and response.headers['allow'] == 'POST' and error_of(response)


def test_a_fault_of_the_service_is_told_without_its_traceback(client, app, monkeypatch, caplog):
    monkeypatch.setattr(app.state.service.engine, 'answer', lambda jobs: 1 / 0)
    response = ask(client)
    assert response.status_code == 500 and 'its log tells more about request' in error_of(response)['message']
    assert 'ZeroDivisionError' in caplog.text
    monkeypatch.undo()
    assert ask(client).status_code == 200


def test_the_log_has_a_line_for_each_request_without_images_and_questions(client, caplog):
    caplog.set_level(logging.INFO, 'kovilt.serving.access')
    ask(client)
    client.get('/%1b%0a' + 'a' * 999)
    asked, other = (json.loads(record.getMessage()) for record in caplog.records[-2:])
    assert asked['path'] == '/v1/vqa' and asked['status'] == 200 and asked['questions'] == len(QUESTIONS)
    assert asked['bytes_in'] > len(ENCODED) and len(asked['id']) == 32
    assert other['status'] == 404 and len(other['path']) == 200
    assert ENCODED[:40] not in caplog.text and QUESTIONS[0] not in caplog.text

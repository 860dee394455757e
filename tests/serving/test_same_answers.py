"""The same answers to 50 questions by Python, the command, HTTP, the chat format, the demo, graphs, transformers.

A calibrated model also abstains from the same ones, on every route; transformers knows nothing of its calibration.
"""

import base64
import json
import math
import shutil
from contextlib import ExitStack
from itertools import groupby

import numpy as np
import openai
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image, ImageOps
from transformers import AutoProcessor, ViltForQuestionAnswering

from kovilt.apis import VQAInferencer
from kovilt.datasets import normalize_korean
from kovilt.files import read_json_lines
from kovilt.serving.demo.settings import DemoSettings
from kovilt.serving.demo.tabs import Demo, read_upload
from kovilt.weights.calibration import Calibration, store_calibration

ASKED = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?', '책은 몇 개 ?', ' 빨간  의자 위에 책이 있어요 ?', '소파 ?']
FILES = [('PNG', (60, 40)), ('JPEG', (80, 100)), ('WEBP', (40, 64)), ('BMP', (33, 31)), ('PNG', (200, 45))] * 2
TOPK = 3
TEMPERATURE, ABSTENTION = 2.5, '잘 모르겠어요'


@pytest.fixture(scope='module')
def items(tmp_path_factory):
    """50 pairs of an image file and a question."""
    folder, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    paths = []
    for number, (kind, size) in enumerate(FILES):
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1  # one is to be turned by a quarter
        paths.append(folder / f'{number}.{kind.lower()}')
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1], kind, **({} if kind == 'BMP' else {'exif': exif}))
    return [(path, question) for path in paths for question in ASKED]


def from_python(exported, items, kind='checkpoint'):
    answer = VQAInferencer(exported[kind], device='cpu', trust=kind == 'pt2')
    return answer([path for path, _ in items], [question for _, question in items], topk=TOPK)


@pytest.fixture(scope='module')
def expected(exported, items):
    answers = from_python(exported, items)
    assert len(answers) == 50 and len({row['answer'] for row in answers}) > 2
    assert min(row['topk'][0]['score'] - row['topk'][1]['score'] for row in answers) > 1e-3  # no answer is a tie
    return answers


def from_command(exported, items, request):
    call, folder = request.getfixturevalue('call'), request.getfixturevalue('tmp_path')
    rows = [json.dumps({'image': str(path), 'question': question}) for path, question in items]
    (folder / 'questions.jsonl').write_text('\n'.join(rows), encoding='utf-8')
    files = ('--input', folder / 'questions.jsonl', '--output', folder / 'answers.jsonl', '--allow-outside')
    code, _, error = call('predict', exported['hf'], *files, '--topk', TOPK, '--device', 'cpu', '--workers', 1)
    assert code == 0, error
    return [row for _, row in read_json_lines(folder / 'answers.jsonl', 'answers')]


@pytest.fixture(scope='module')
def clients(exported, calibrated, make_app):
    """Of a service, by the folder of its model."""
    with ExitStack() as stack:
        yield {
            folder: stack.enter_context(TestClient(make_app(model=str(folder), name='tiny')))
            for folder in (exported['hf'], exported['onnx'], calibrated['hf'], calibrated['onnx'])
        }


def from_uploads(client, items):
    answers = []
    for path, group in groupby(items, key=lambda item: item[0]):
        data = {'questions': [question for _, question in group], 'topk': TOPK}
        response = client.post('/v1/vqa', files={'image': path.read_bytes()}, data=data)
        answers += response.json()['answers']
    return answers


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def from_lines(client, items):
    rows = [json.dumps({'image': encoded(path), 'questions': [question], 'topk': TOPK}) for path, question in items]
    response = client.post('/v1/batch', content='\n'.join(rows), headers={'content-type': 'application/jsonl'})
    return [answer for row in response.text.splitlines() for answer in json.loads(row)['answers']]


def from_chat(client, items):
    chat = openai.OpenAI(base_url='http://testserver/v1', api_key='unused', http_client=client, max_retries=0)
    answers = []
    for path, question in items:
        image = {'type': 'image_url', 'image_url': {'url': f'data:image/jpeg;base64,{encoded(path)}'}}
        message = {'role': 'user', 'content': [image, {'type': 'text', 'text': question}]}
        asked = chat.chat.completions.create(model='tiny', messages=[message], logprobs=True, top_logprobs=TOPK)
        (choice,) = asked.choices
        (token,) = choice.logprobs.content
        listed = [{'answer': one.token, 'score': math.exp(one.logprob)} for one in token.top_logprobs]
        answers.append({'answer': choice.message.content, 'score': math.exp(token.logprob), 'topk': listed})
    return answers


def from_demo(exported, items):
    """By the function behind its tab, from files as a browser uploads them."""
    demo, answers = Demo(DemoSettings(model=str(exported['hf']), device='cpu')), []
    for path, question in items:
        _, pixels = read_upload({'path': str(path), 'orig_name': path.name}, path.parent)
        found = demo.ask(pixels, question)
        listed = [{'answer': text, 'score': score} for text, score in found.answers.items()]
        abstained = {'abstained': found.abstention is not None} if demo.model.threshold else {}
        answers.append({'answer': found.given, 'score': listed[0]['score'], 'topk': listed[:TOPK]} | abstained)
    return answers


@torch.no_grad()
def from_transformers(exported, items, temperature=1.0):
    processor = AutoProcessor.from_pretrained(exported['hf'])
    model = ViltForQuestionAnswering.from_pretrained(exported['hf']).eval()
    answers = []
    for path, question in items:
        image = ImageOps.exif_transpose(Image.open(path))
        inputs = processor(image, normalize_korean(question), truncation=True, return_tensors='pt')
        best = (model(**inputs).logits / temperature).softmax(-1)[0].topk(TOPK)
        labels = [model.config.id2label[label] for label in best.indices.tolist()]
        listed = [
            {'answer': answer, 'score': score} for answer, score in zip(labels, best.values.tolist(), strict=True)
        ]
        answers.append(listed[0] | {'topk': listed})
    return answers


ROUTES = {
    'the command': lambda exported, items, request: from_command(exported, items, request),
    'Python, model folder': lambda exported, items, _: from_python(exported, items, 'hf'),
    'Python, ONNX': lambda exported, items, _: from_python(exported, items, 'onnx'),
    'Python, .pt2': lambda exported, items, _: from_python(exported, items, 'pt2'),
    'transformers': lambda exported, items, _: from_transformers(exported, items),
    'HTTP': lambda exported, items, request: from_uploads(client_of(exported['hf'], request), items),
    'HTTP, ONNX': lambda exported, items, request: from_uploads(client_of(exported['onnx'], request), items),
    'HTTP, lines': lambda exported, items, request: from_lines(client_of(exported['hf'], request), items),
    'the demo': lambda exported, items, _: from_demo(exported, items),
    'chat': lambda exported, items, request: from_chat(client_of(exported['hf'], request), items),
}


def client_of(folder, request):
    return request.getfixturevalue('clients')[folder]


def check_answers(found, expected):
    assert [row['answer'] for row in found] == [row['answer'] for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [row['answer'] for row in ours['topk']] == [row['answer'] for row in theirs['topk']]
        scores = [[row['score'] for row in answer['topk']] for answer in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4) and ours['score'] == scores[0][0]


@pytest.mark.parametrize('route', ROUTES)
def test_50_questions_have_the_same_answers(route, exported, items, expected, request):
    found = ROUTES[route](exported, items, request)
    check_answers(found, expected)
    assert not any('abstained' in row for row in found)


@pytest.fixture(scope='module')
def abstentions(exported, items):
    """What a calibrated model answers to some of the items, by the scores of transformers; and the threshold."""
    answers = from_transformers(exported, items[:20], TEMPERATURE)
    scores = sorted(row['score'] for row in answers)
    at = max(range(5, 15), key=lambda number: scores[number + 1] - scores[number])
    threshold = (scores[at] + scores[at + 1]) / 2
    assert scores[at + 1] - scores[at] > 1e-3  # no route is on the other side by its rounding
    for row in answers:
        row['abstained'] = row['score'] < threshold
        row['answer'] = ABSTENTION if row['abstained'] else row['answer']
    return answers, threshold


@pytest.fixture(scope='module')
def calibrated(exported, abstentions, tmp_path_factory):
    """Copies of the exported folders that have a calibration."""
    out, calibration = tmp_path_factory.mktemp('calibrated'), Calibration(TEMPERATURE, abstentions[1], None, ABSTENTION)
    folders = {kind: shutil.copytree(exported[kind], out / kind) for kind in ('hf', 'onnx', 'pt2')}
    for folder in folders.values():
        store_calibration(folder, calibration)
    return folders


@pytest.mark.parametrize('route', [route for route in ROUTES if route != 'transformers'])
def test_a_calibrated_model_abstains_from_the_same_questions(route, calibrated, items, abstentions, request):
    expected, _ = abstentions
    found = ROUTES[route](calibrated, items[:20], request)
    check_answers(found, expected)
    if route != 'chat':  # which has no key for it
        assert [row['abstained'] for row in found] == [row['abstained'] for row in expected]
    assert 5 < sum(row['answer'] == ABSTENTION for row in found) < 15


def test_the_service_explains_and_counts_abstentions(calibrated, items, abstentions, clients):
    client, at = clients[calibrated['hf']], [row['abstained'] for row in abstentions[0]].index(True)
    path, question = items[at]
    before = abstained_total(client)
    body = {'image': encoded(path), 'questions': [question], 'explain': True}
    (answer,) = client.post('/v1/vqa', json=body).json()['answers']
    assert answer['answer'] == ABSTENTION and answer['abstained'] and answer['explanation']['patch_relevance']
    assert abstained_total(client) == before + 1
    card = client.get('/').text
    assert f'<th>abstention</th><td style="text-align:left">{ABSTENTION}</td>' in card and '## Calibration' in card
    assert client.get('/openapi.json').json()['components']['schemas']['VQAAnswer']['properties']['abstained']


def abstained_total(client):
    (line,) = [one for one in client.get('/metrics').text.splitlines() if one.startswith('kovilt_abstained_total ')]
    return float(line.split()[1])

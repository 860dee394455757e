"""Requests with choices, to a model of multiple choice and to one that has answers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_models import ANSWERS, IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.apis import VQAInferencer
from kovilt.weights import save_model_folder
from tests.serving.conftest import QUESTIONS, image_file

CHOICES = ['빨간 책', '파란 의자', '소파']


@pytest.fixture(scope='module')
def choosing(tmp_path_factory):
    kind = 'ViLTForMultipleChoice'
    return save_model_folder(
        tiny_model(kind),
        tiny_tokenizer(),
        tmp_path_factory.mktemp('choosing') / 'tiny',
        model_cfg=tiny_config(kind),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@pytest.fixture(scope='module')
def chooser(choosing, make_app):
    with TestClient(make_app(model=str(choosing))) as client:
        yield client


def body(**others):
    return {'image': base64.b64encode(image_file()).decode(), 'questions': QUESTIONS} | others


def test_json_lines_and_forms_choose_as_the_inferencer_does(chooser, choosing):
    image = np.asarray(Image.open(io.BytesIO(image_file())))
    expected = VQAInferencer(choosing, device='cpu')(image, QUESTIONS, choices=CHOICES)
    form = [('questions', (None, text)) for text in QUESTIONS] + [('choices', (None, text)) for text in CHOICES]
    lines = json.dumps(body(choices=CHOICES)) + '\n'
    sent = [
        chooser.post('/v1/vqa', json=body(choices=CHOICES)).json()['answers'],
        chooser.post('/v1/vqa', files=[('image', ('a.png', image_file())), *form]).json()['answers'],
        chooser.post('/v1/batch', content=lines, headers={'content-type': 'application/jsonl'}).json()['answers'],
    ]
    for answers in sent:
        assert [(one['answer'], one['choice']) for one in answers] == [
            (one['answer'], one['choice']) for one in expected
        ]
        assert [one['score'] for one in answers] == pytest.approx([one['score'] for one in expected], abs=1e-5)


@pytest.mark.parametrize(
    ('others', 'status', 'message'),
    [
        ({}, 400, 'a model of multiple choice: give choices'),
        (dict(choices=['소파']), 422, 'choices'),
        (dict(choices=['소파', '소파']), 400, "choices: '소파' is there twice"),
        (dict(choices=CHOICES, explain=True), 400, 'explain is for models that have answers'),
    ],
)
def test_what_cannot_be_chosen_is_one_line(chooser, others, status, message):
    answer = chooser.post('/v1/vqa', json=body(**others))
    assert answer.status_code == status and message in answer.json()['error']['message']


def test_a_model_with_answers_chooses_among_some_beside_questions_without_choices(client):
    own = [ANSWERS[3], ANSWERS[0]]
    free, bound = (client.post('/v1/vqa', json=body(**others)).json()['answers'] for others in ({}, dict(choices=own)))
    assert all('choice' not in one for one in free) and all(own[one['choice']] == one['answer'] for one in bound)
    refused = client.post('/v1/vqa', json=body(choices=['초록색', '네']))
    assert refused.status_code == 400 and "'초록색' is none of the 5 answers" in refused.json()['error']['message']


def test_a_model_of_multiple_choice_abstains_and_one_with_answers_does_not_among_choices(choosing, make_app):
    own = [ANSWERS[3], ANSWERS[0]]
    for model, choices, abstains in ((str(choosing), CHOICES, True), (None, own, False)):
        settings = {'model': model} if model else {}
        with TestClient(make_app(**settings, threshold=1.0, abstention='글쎄요')) as client:
            for one in client.post('/v1/vqa', json=body(choices=choices)).json()['answers']:
                assert one['topk'][0]['answer'] in choices and one.get('abstained') == (True if abstains else None)
                assert (one['answer'], one['choice']) == (
                    ('글쎄요', None) if abstains else (one['topk'][0]['answer'], choices.index(one['answer']))
                )

"""The service passes on how far an image is from those of training, where its model has a detector."""

import base64
import json

import pytest
import torch
from fastapi.testclient import TestClient

from kovilt.weights.image_detector import ImageDetector, store_image_detector
from tests.serving.conftest import QUESTIONS, image_file, make_folder


@pytest.mark.parametrize(('threshold', 'unlike'), [(0.0, True), (1e6, False)])
@pytest.mark.parametrize('encoder', [{}, {'type': 'PrefixViLT'}])
def test_answers_tell_of_images_unlike_training(make_app, tmp_path, threshold, unlike, encoder):
    folder = make_folder(tmp_path / 'model', **encoder)
    store_image_detector(folder, ImageDetector(torch.zeros(16), torch.eye(16), threshold, 20))
    body = {'image': base64.b64encode(image_file()).decode(), 'questions': QUESTIONS}
    with TestClient(make_app(model=str(folder))) as client:
        alone = client.post('/v1/vqa', json=body).json()['answers']
        headers = {'content-type': 'application/jsonl'}
        batch = client.post('/v1/batch', content=json.dumps(body) + '\n', headers=headers).json()['answers']
    for answers in (alone, batch):
        assert [one['unlike_training'] for one in answers] == [unlike] * len(QUESTIONS)
        assert len({round(one['image_distance'], 3) for one in answers}) == 1 and answers[0]['image_distance'] > 0


def test_a_model_without_one_says_nothing_of_it(client):
    body = {'image': base64.b64encode(image_file()).decode(), 'questions': QUESTIONS}
    for one in client.post('/v1/vqa', json=body).json()['answers']:
        assert not {'image_distance', 'unlike_training'} & one.keys()

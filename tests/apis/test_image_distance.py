"""Whoever answers with a detector tells how far an image is from those that it was fitted to, and answers the same."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.apis import VQAInferencer
from kovilt.apis.image_distance import find_images, image_vectors
from kovilt.errors import KoviltError
from kovilt.weights import save_model_folder

QUESTIONS = ['의자가 있어요 ?', '소파는 무슨 색 이에요 ?']
KINDS = {'ViLT': 'ViLTForVQA', 'PrefixViLT': 'ViLTForVQA', 'choice': 'ViLTForMultipleChoice'}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Thirty images of brown noise of two sizes, and a blue one."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.normal([150, 110, 70], 12, (32, 32 + 16 * (number % 2), 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{number:02}.png')
    Image.new('RGB', (40, 32), (10, 20, 250)).save(folder.parent / 'foreign.png')
    return folder


def save(out, kind):
    encoder = {'type': 'PrefixViLT'} if kind == 'PrefixViLT' else {}
    model = tiny_model(KINDS[kind], **encoder)
    config = tiny_config(KINDS[kind], **encoder)
    return save_model_folder(
        model, tiny_tokenizer(), out, model_cfg=config, image_pipeline=IMAGE_PIPELINE, max_text_len=MAX_TEXT_LEN
    )


@pytest.mark.parametrize('kind', KINDS)
def test_an_image_unlike_the_others_is_told_and_no_answer_changes(kind, files, tmp_path, call):
    model = save(tmp_path / 'model', kind)
    images = [files / '03.png', files.parent / 'foreign.png', files / '04.png']
    given = dict(choices=['네', '아니요']) if kind == 'choice' else {}
    before = [VQAInferencer(model)(images, question, **given) for question in QUESTIONS]
    code, out, error = call('distance', model, files)
    assert code == 0 and out.startswith(f'{model}: 99% of 30 images lie within a distance of '), error
    inferencer = VQAInferencer(model, batch_size=2)
    together = inferencer([image for image in images for _ in QUESTIONS], QUESTIONS * 3, **given)
    distances = []
    for one, result in zip(np.array(before).T.ravel(), together, strict=True):
        distances.append(result.pop('image_distance'))
        assert result.pop('unlike_training') == (distances[-1] > inferencer.image_detector.threshold)
        assert {**result, 'score': pytest.approx(result['score']), 'topk': None} == {**one, 'topk': None}
    assert distances[::2] == pytest.approx(distances[1::2], rel=1e-5)  # the question decides nothing
    assert np.array(distances[::2]) == pytest.approx(
        inferencer.image_detector.distances(image_vectors(inferencer, images)).numpy(), rel=1e-4
    )
    assert distances[2] > 3 * max(distances[0], distances[4]) and distances[2] > inferencer.image_detector.threshold


@pytest.mark.parametrize('kind', ['ViLT', 'PrefixViLT'])
def test_the_command_line_and_the_bulk_say_it_too(kind, files, tmp_path, call):
    model, foreign = save(tmp_path / 'model', kind), files.parent / 'foreign.png'
    assert call('distance', model, files, '--limit', 25)[0] == 0
    code, out, _ = call('predict', model, foreign, QUESTIONS[0])
    assert code == 0 and out.splitlines()[-1].startswith('  the image is unlike those of training (distance ')
    code, out, _ = call('predict', model, files / '03.png', QUESTIONS[0])
    assert code == 0 and 'unlike' not in out
    table = tmp_path / 'questions.jsonl'
    rows = [{'image': str(image), 'question': text} for image in (foreign, files / '03.png') for text in QUESTIONS]
    table.write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    arguments = ('--input', table, '--output', tmp_path / 'out.jsonl', '--allow-outside', '--workers', 1)
    assert call('predict', model, *arguments, '--batch-size', 3)[0] == 0
    found = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text('utf-8').splitlines()]
    assert [row['unlike_training'] for row in found] == [True, True, False, False]
    alone = VQAInferencer(model)(foreign, QUESTIONS[0])[0]['image_distance']
    assert found[0]['image_distance'] == pytest.approx(alone, rel=1e-4)


def test_the_vector_of_an_image_depends_on_no_other_image(files, tmp_path):
    inferencer = VQAInferencer(save(tmp_path / 'model', 'ViLT'))
    images = [files / '00.png', files / '01.png', files.parent / 'foreign.png']
    together, alone = image_vectors(inferencer, images), [image_vectors(inferencer, [image]) for image in images]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert together.shape == (3, 16)


def test_images_are_chosen_evenly(files):
    assert [place.name for place in find_images(files, 4)] == ['00.png', '10.png', '19.png', '29.png']
    assert len(find_images(files, 1000)) == 30


@pytest.mark.parametrize(
    ('model', 'images', 'message'),
    [
        ('none', 'IMAGES', 'none: no model folder'),
        ('MODEL', 'none', 'none: no such folder'),
        ('MODEL', 'EMPTY', 'no images in it'),
        ('MODEL', 'FEW', '2 images are too few'),
    ],
)
def test_bad_input_is_one_line_and_the_folder_stays(files, tmp_path, call, monkeypatch, model, images, message):
    monkeypatch.chdir(tmp_path)
    known = {'MODEL': save(tmp_path / 'model', 'ViLT'), 'IMAGES': files, 'EMPTY': tmp_path / 'empty'}
    known['FEW'] = tmp_path / 'few'
    for name in ('empty', 'few'):
        (tmp_path / name).mkdir()
    for name in ('00.png', '01.png') if images == 'FEW' else ():
        shutil.copy(files / name, tmp_path / 'few')
    content = {file.name: file.read_bytes() for file in known['MODEL'].iterdir()}
    code, out, error = call('distance', known.get(model, model), known.get(images, images))
    assert (code, out) == (2, '') and message in error and error.count('error:') == 1, error
    assert {file.name: file.read_bytes() for file in known['MODEL'].iterdir()} == content


def test_a_graph_has_no_vectors(exported):
    inferencer = VQAInferencer(exported['pt2'], trust=True)
    with pytest.raises(KoviltError, match='a GraphVQA gives no image_features'):
        image_vectors(inferencer, [])

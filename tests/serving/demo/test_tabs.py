"""What the tabs show is what `VQAInferencer` and the pre-trained model give; no file but a checked upload is read."""

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_checkpoint

from kovilt.errors import KoviltError
from kovilt.files import read_bytes
from kovilt.serving.demo.settings import DemoSettings
from kovilt.serving.demo.tabs import Demo, read_prediction_image, read_upload


@pytest.fixture(scope='module')
def pixels(examples):
    return np.array(Image.open(examples[0].image).convert('RGB'))


def test_answers_are_those_of_the_inferencer(demo, examples, pixels):
    asked = demo.ask(pixels, examples[0].question)
    (expected,) = demo.model(examples[0].image, examples[0].question)
    assert asked.answers == {one['answer']: one['score'] for one in expected['topk']}
    assert asked.best == expected['answer'] and not asked.warnings
    assert demo.ask(pixels, 'What colour is it?').warnings[0].startswith('no Hangul in it')
    both = demo.compare(pixels, examples[0].question)
    assert both == [asked, asked] and demo.names == ['rooms', 'rooms']
    with pytest.raises(KoviltError, match='question: it is empty'):
        demo.ask(pixels, ' ')


def test_it_shows_where_the_model_looks_for_any_answer(demo, examples, pixels):
    question = examples[0].question
    own, best = demo.look(pixels, question), demo.ask(pixels, question).best
    assert own.answer == best and [word for word, _ in own.words] == question.split()
    assert 0 < sum(share for _, share in own.words) < 1 and len(own.plans) == len(own.words)
    assert own.words[own.most_relevant_word][1] == max(share for _, share in own.words)
    assert own.image.size == own.plans[0].size and own.image.width == 480
    other = demo.look(pixels, question, next(answer for answer in demo.model.answers if answer != best))
    assert other.answer != best and np.any(np.array(other.image) != np.array(own.image))


def test_a_hidden_word_is_filled_in(demo, pixels):
    caption = '소파 한 개가 놓여 있다'
    found = demo.fill(pixels, caption, 1)
    assert found.words == caption.split() and found.hidden == 1 and len(found.candidates) == 5
    scores = [score for _, score in found.candidates]
    assert scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1
    assert found.plan_image().width == 480 and found.word_plan.shape[0] == 5
    for number in (5, -1):
        with pytest.raises(KoviltError, match=f'word {number}: the model reads the words 0 to 4'):
            demo.fill(pixels, caption, number)


def test_predictions_are_filtered_and_sorted(demo):
    assert sorted(demo.answer_types) == [('색', 2), ('존재', 2)]
    assert demo.choose_predictions(None, wrong_only=False, order='surest') == ([0, 1, 3, 2], 4)
    assert demo.choose_predictions(None, wrong_only=True, order='least sure') == ([2, 1], 2)
    assert demo.choose_predictions('존재', wrong_only=False, order='file') == ([2, 3], 2)
    assert read_prediction_image(demo.predictions[0]).shape[2] == 3
    assert read_prediction_image(demo.predictions[3]) is None


def test_only_images_that_were_uploaded_are_read(tmp_path, examples):
    uploads = tmp_path / 'uploads'
    uploads.mkdir()
    content = read_bytes(examples[0].image, 'image')
    (uploads / 'a.jpg').write_bytes(content)
    (tmp_path / 'secret.jpg').write_bytes(content)
    (uploads / 'link.jpg').symlink_to(tmp_path / 'secret.jpg')
    name, pixels = read_upload({'path': str(uploads / 'a.jpg'), 'orig_name': '방.jpg'}, uploads)
    assert name == '방.jpg' and pixels.dtype == np.uint8
    for path in (tmp_path / 'secret.jpg', uploads / '..' / 'secret.jpg', uploads / 'link.jpg', 'http://x/a.jpg', ''):
        with pytest.raises(KoviltError, match='was not uploaded here'):
            read_upload({'path': str(path), 'orig_name': 'a.jpg', 'url': 'data:image/png;base64,AAAA'}, uploads)


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'', '0 bytes'), (b'<svg>', 'an SVG drawing'), (b'\x89PNG\r\n\x1a\n' + b'0' * 40, 'not a readable image')],
)
def test_a_broken_upload_is_named_by_its_own_name(tmp_path, content, message):
    (tmp_path / 'x').write_bytes(content)
    with pytest.raises(KoviltError, match=f'^방.png: .*{message}'):
        read_upload({'path': str(tmp_path / 'x'), 'orig_name': '방.png'}, tmp_path)


def test_the_predictions_of_a_work_folder_are_found(tmp_path, predictions):
    tiny_checkpoint(tmp_path)
    settings = DemoSettings(model=str(tmp_path), device='cpu')
    assert not Demo(settings).predictions
    (tmp_path / 'predictions.jsonl').write_bytes(predictions.read_bytes())
    assert len(Demo(settings).predictions) == 4


def test_models_and_values_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(KoviltError, match='max_image_mb is 0'):
        DemoSettings(max_image_mb=0)
    with pytest.raises(KoviltError, match='rooms: holds a ViLTForVQA, a ViLTForPreTraining or METER'):
        Demo(DemoSettings(pretrained='rooms', device='cpu'))
    with pytest.raises(KoviltError, match='no such file'):
        Demo(DemoSettings(predictions=str(tmp_path / 'absent.jsonl'), device='cpu'))
    tiny_checkpoint(tmp_path, 'ViLTForMultipleChoice')
    with pytest.raises(KoviltError, match=f'{tmp_path}: a model of multiple choice'):
        Demo(DemoSettings(compare=str(tmp_path), device='cpu'))

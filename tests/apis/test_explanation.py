"""An explanation fits the original image and the words of the question, and is written as PNG, HTML and arrays."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    ANSWERS,
    IMAGE_PIPELINE,
    MAX_TEXT_LEN,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)

from benchmarks.screenshots import find_browser, measure
from kovilt.apis import VQAInferencer
from kovilt.apis.explanation import FILES
from kovilt.datasets import CropSquare
from kovilt.datasets.transforms.resize import ResizeViLT
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.visualization import fonts
from kovilt.weights import save_model_folder
from kovilt.weights.graph import GraphVQA

QUESTION = '소파는 무슨 색 이에요 ?'


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    return VQAInferencer(tiny_checkpoint(tmp_path_factory.mktemp('model')), device='cpu')


@pytest.fixture(scope='module')
def pixels():
    return np.random.default_rng(0).integers(0, 256, (200, 330, 3), dtype=np.uint8)


def test_it_explains_the_answer_that_is_given(inferencer, pixels):
    (result,) = inferencer(pixels, QUESTION)
    found = inferencer.explain(pixels, f' {QUESTION}')
    assert (found.answer, found.best_answer, found.question) == (result['answer'], result['answer'], QUESTION)
    assert found.score == pytest.approx(result['score'], abs=1e-5)
    assert found.patch_relevance.shape == found.attention.shape == (4, 6)
    assert found.tokens[:3] == ['[CLS]', '소파', '##는'] and found.tokens[-1] == '[SEP]'
    assert found.words == QUESTION.split() and len(found.token_relevance) == len(found.tokens)
    assert found.word_relevance[0] == pytest.approx(found.token_relevance[1:3].sum())
    assert found.word_plan.shape == (5, 4, 6) and found.word_plan.sum() == pytest.approx(1, abs=1e-4)


def test_another_answer_can_be_named(inferencer, pixels):
    best = inferencer.explain(pixels, QUESTION).answer
    other = next(answer for answer in ANSWERS if answer != best)
    found = inferencer.explain(pixels, QUESTION, f'{other} ')
    assert found.answer == other and found.best_answer == best and found.score < 0.5
    assert not np.allclose(found.patch_relevance, inferencer.explain(pixels, QUESTION).patch_relevance)
    assert best in found._repr_html_()
    with pytest.raises(
        KoviltError, match=re.escape("answer '빨강색': none of the 5 answers of the model (did you mean")
    ):
        inferencer.explain(pixels, QUESTION, '빨강색')
    for wrong in (3, ''):
        with pytest.raises(KoviltError, match='none of the 5 answers of the model'):
            inferencer.explain(pixels, QUESTION, wrong)


def test_questions_and_images_that_came_before_change_nothing(inferencer, pixels):
    first = inferencer.explain(pixels, QUESTION)
    inferencer([pixels, pixels[:64]], ['의자가 있어요 ?', '책은 몇 개 ?'])
    with torch.inference_mode():
        again = inferencer.explain(pixels, QUESTION)
    assert np.array_equal(first.patch_relevance, again.patch_relevance)
    assert np.array_equal(first.transport_plan, again.transport_plan)
    assert all(parameter.grad is None for parameter in inferencer.model.parameters())


def test_a_prefix_model_is_explained_beside_its_cache(tmp_path, pixels):
    folder = save_model_folder(
        tiny_model(type='PrefixViLT'),
        tiny_tokenizer(),
        tmp_path / 'prefix',
        model_cfg=tiny_config(type='PrefixViLT'),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )
    prefix = VQAInferencer(folder, device='cpu')
    (result,) = prefix(pixels, QUESTION)
    found = prefix.explain(pixels, QUESTION)
    assert found.answer == result['answer'] and found.score == pytest.approx(result['score'], abs=1e-5)
    assert prefix(pixels, QUESTION) == [result]


def test_patches_lie_where_the_image_was(inferencer, tmp_path, monkeypatch, pixels):
    """In the upright image, whatever its EXIF orientation; of a crop in the square in the middle."""
    turned = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(tmp_path / 'turned.png', exif=exif)
    found = inferencer.explain(tmp_path / 'turned.png', QUESTION)
    assert found.image.size == (200, 330) and found.patch_relevance.shape == (6, 4)
    assert found.part == (0, 0, 1, 1)
    assert found.patch_box(0, 0) == (0, 0, 50, 55) and found.patch_box(5, 3) == (150, 275, 200, 330)
    images = inferencer.transforms._images
    crop = [CropSquare(side=32) if isinstance(step, ResizeViLT) else step for step in images]
    monkeypatch.setattr(inferencer.transforms, '_images', crop)
    found = inferencer.explain(pixels, QUESTION)
    assert found.patch_relevance.shape == (4, 4)
    assert found.patch_box(0, 0)[:2] == (pytest.approx(65, abs=7), 0)
    assert found.patch_box(3, 3)[2:] == (pytest.approx(265, abs=7), 200)


@pytest.mark.parametrize('size', [(8, 8), (8, 1500), (1500, 8)])
def test_images_of_extreme_shape_are_drawn(inferencer, tmp_path, size):
    found = inferencer.explain(Image.new('L', size, 90), QUESTION)
    assert all((found.save(tmp_path) / name).stat().st_size > 200 for name in FILES)


@pytest.mark.parametrize('with_font', [True, False])
def test_it_is_written_for_people_and_programs(inferencer, pixels, tmp_path, monkeypatch, with_font):
    if not with_font:
        monkeypatch.setattr(fonts, '_find_font', lambda: None)
    found = inferencer.explain(pixels, '의자는 <b> 색 ?')
    folder = found.save(tmp_path / 'new' / 'folder')
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    with Image.open(folder / 'explanation.png') as sheet:
        assert sheet.width > 4 * 260 and sheet.height > 150
    with np.load(folder / 'explanation.npz') as arrays:
        assert np.array_equal(arrays['patch_relevance'], found.patch_relevance)
        assert np.array_equal(arrays['transport_plan'], found.transport_plan)
        assert arrays['tokens'].tolist() == found.tokens and arrays['words'].tolist() == found.words
        assert str(arrays['answer']) == found.answer and float(arrays['score']) == found.score
    page = (folder / 'explanation.html').read_text('utf-8')
    fragment = found._repr_html_()
    assert fragment.strip() in page and '<html' not in fragment
    assert '&lt;b&gt;' in page and '<b> 색' not in page and found.source in page
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)  # nothing comes from elsewhere
    assert len(re.findall('<img ', page)) == 2 + len(found.words)
    total = found.patch_relevance.sum() + found.token_relevance.sum()
    assert f'{100 * found.word_relevance[0] / total:.1f} %' in page


@pytest.mark.skipif(find_browser() is None, reason='Chromium is not installed (apt install chromium)')
def test_the_page_is_readable_at_both_widths(inferencer, pixels, tmp_path):
    page = (inferencer.explain(pixels, QUESTION).save(tmp_path) / 'explanation.html').read_text('utf-8')
    found, console = measure(page, (400, 1200))
    assert not console
    for width in ('400', '1200'):
        assert found[width]['scroll_width'] == found[width]['client_width'] == int(width)
        assert found[width]['images'] == 7 and not found[width]['missing_images']
        assert not found[width]['images_without_alt'] and found[width]['smallest_font'] >= 12


def test_a_folder_that_cannot_be_written_is_named(inferencer, pixels, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(KoviltError, match=r'file: cannot be written \(.*; choose another place'):
        inferencer.explain(pixels, QUESTION).save(tmp_path / 'file')


def test_what_cannot_be_explained_is_refused_in_one_line(inferencer, pixels, monkeypatch):
    for image, question, message in (
        ('none.jpg', QUESTION, 'none.jpg: no such file'),
        (pixels[:4], QUESTION, 'give an image of at least 8 a side'),
        (pixels, ' ', 'question: it is empty'),
        (pixels, 7, 'question: 7 is a int; give text'),
    ):
        with pytest.raises(KoviltError, match=message):
            inferencer.explain(image, question)
    monkeypatch.setattr(inferencer, 'precision', 'int8')
    with pytest.raises(KoviltError, match='precision int8: explain computes gradients in float32; leave it out'):
        inferencer.explain(pixels, QUESTION)
    monkeypatch.setattr(inferencer, 'model', GraphVQA(lambda inputs: inputs, [(4, 6)], ANSWERS))
    with pytest.raises(KoviltError, match='a graph has no gradients'):
        inferencer.explain(pixels, QUESTION)


def test_a_cut_question_warns_and_shows_the_words_that_are_read(inferencer, pixels):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        found = inferencer.explain(pixels, '의자 ' * 20 + '?')
    assert [str(one.message) for one in caught if one.category is KoviltWarning] == [
        'question: only its first 10 of 21 tokens are read'
    ]
    assert len(found.words) == len(found.word_relevance) == 10
    assert Path(caught[0].filename) == Path(__file__)

"""Hidden words are filled in by every model that has learned masked language modelling, and only by those."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_checkpoint, tiny_config, tiny_model, tiny_tokenizer

from kovilt.apis.masked_words import MaskFiller, join_candidates
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.weights import save_model_folder

CAPTION = '소파는 무슨 색 이에요 ?'


@pytest.fixture(scope='module')
def pixels():
    return np.random.default_rng(0).integers(0, 256, (200, 330, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def fill(tmp_path_factory):
    return MaskFiller(tiny_checkpoint(tmp_path_factory.mktemp('model'), 'ViLTForPreTraining'), device='cpu')


def test_the_candidates_do_not_depend_on_the_hidden_word(fill, pixels):
    found = fill(pixels, CAPTION, 0, topk=3)
    assert found.words == CAPTION.split() and len(found.candidates) <= 3
    assert fill(pixels, CAPTION.replace('소파는', '소파가'), 0, topk=3).candidates == found.candidates
    assert fill(pixels, CAPTION.replace('색', '의자'), 0, topk=3).candidates != found.candidates


def test_a_plan_is_that_of_the_whole_caption(fill, pixels):
    first, second = fill(pixels, CAPTION, 0), fill(pixels, CAPTION, 3)
    assert first.word_plan.shape[0] == 5 and first.word_plan.sum() == pytest.approx(1, abs=1e-4)
    assert np.array_equal(first.word_plan, second.word_plan)
    assert first.plan_image(100).width == 100 and first.plan_image(100) != second.plan_image(100)


def test_what_the_model_does_not_read_is_told(fill, pixels):
    with pytest.raises(KoviltError, match='caption: it is empty'):
        fill(pixels, '', 0)
    with pytest.raises(KoviltError, match='word 5: the model reads the words 0 to 4'):
        fill(pixels, CAPTION, 5)
    with pytest.warns(KoviltWarning, match='caption: only its first'), pytest.raises(KoviltError, match='word 25'):
        fill(pixels, ' '.join(['색'] * 40), 25)


def test_a_model_without_the_head_or_the_plan_is_told_apart(tmp_path, pixels):
    def save(name, **changed):
        config = tiny_config('ViLTForPreTraining') | changed
        model = tiny_model('ViLTForPreTraining')
        for head in changed:
            setattr(model, head, None)
        return save_model_folder(
            model,
            tiny_tokenizer(),
            tmp_path / name,
            model_cfg=config,
            image_pipeline=IMAGE_PIPELINE,
            max_text_len=MAX_TEXT_LEN,
        )

    found = MaskFiller(save('no_plan', wpa_head=None), device='cpu')(pixels, CAPTION, 2)
    assert found.word_plan is None and found.plan_image() is None and len(found.candidates) == 5
    with pytest.raises(KoviltError, match='pre-trained without mlm_head'):
        MaskFiller(save('no_mlm', mlm_head=None), device='cpu')
    with pytest.raises(KoviltError, match='a ViLTForPreTraining or METERForPreTraining is needed'):
        MaskFiller('rooms')


def test_candidates_of_a_word_are_the_most_probable_products():
    rng = np.random.default_rng(0)
    scores = [sorted(rng.random(4), reverse=True) for _ in range(3)]
    tokens = [[f'{place}{rank}' if not place else f'##{place}{rank}' for rank in range(4)] for place in range(3)]
    products = {
        f'0{a}1{b}2{c}': scores[0][a] * scores[1][b] * scores[2][c]
        for a in range(4)
        for b in range(4)
        for c in range(4)
    }
    best = sorted(products.items(), key=lambda one: -one[1])[:4]
    found = join_candidates(tokens, scores, 4)
    assert [word for word, _ in found] == [word for word, _ in best]
    torch.testing.assert_close([score for _, score in found], [score for _, score in best])
    assert join_candidates([['가', '##가', '나']], [[0.5, 0.2, 0.1]], 3) == [('가', 0.7), ('나', 0.1)]


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    docs = Path(__file__).resolve().parents[2] / 'docs'
    english, korean = (
        re.findall(r'^```python\n(.*?)^```$', (docs / language / 'demo.md').read_text('utf-8'), re.M | re.S)
        for language in ('en', 'ko')
    )
    assert english == korean and len(english) == 1
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (320, 240), 'tan').save('room.jpg')
    exec(english[0], {})
    assert capsys.readouterr().out.startswith('한 [(')

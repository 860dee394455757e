import numpy as np
import pytest
from PIL import Image

from kovilt.visualization import fonts
from kovilt.visualization.heatmap import draw_alignment, overlay


def test_colour_lies_where_the_mass_is():
    image = Image.new('RGB', (80, 40), 'grey')
    mass = np.zeros((2, 4))
    mass[1, 3] = 1.0
    seen = np.asarray(overlay(image, mass), int)
    away = np.abs(seen - seen[0, 0]).sum(-1)
    row, column = np.unravel_index(away.argmax(), away.shape)
    assert row >= 20 and column >= 60
    assert away[5, 5] == 0


def test_without_mass_the_image_stays_uniform():
    assert len(np.unique(np.asarray(overlay(Image.new('RGB', (8, 8), 'grey'), np.zeros((2, 2)))))) == 1


@pytest.mark.parametrize('with_font', [True, False])
def test_a_panel_for_each_word_and_the_words_beside(tmp_path, monkeypatch, with_font):
    if not with_font:
        monkeypatch.setattr(fonts, '_find_font', lambda: None)
    words = ['고양이가', '소파에', '있다']
    boxes = [[(0, 0, 20, 20)], [], [(5, 5, 30, 30), (40, 0, 60, 9)]]
    out = draw_alignment(
        Image.new('RGB', (64, 32)), words, np.ones((3, 1, 2)), tmp_path / 'a' / 'heat.png', boxes=boxes
    )
    assert Image.open(out).width > 3 * 260
    assert out.with_suffix('.txt').read_text(encoding='utf-8') == '1. 고양이가\n2. 소파에\n3. 있다\n'


def test_a_plan_of_other_words_is_refused(tmp_path):
    with pytest.raises(ValueError, match='2 words'):
        draw_alignment(Image.new('RGB', (8, 8)), ['가', '나'], np.ones((3, 1, 2)), tmp_path / 'heat.png')


def test_only_mass_above_a_uniform_share_is_coloured(tmp_path):
    image = Image.new('RGB', (260, 130), 'grey')
    mass = np.full((2, 4), 0.1)
    mass[0, 0] = 1.0
    plan = np.stack([np.full((2, 4), 7.0), mass, mass * 100])
    sheet = np.asarray(Image.open(draw_alignment(image, ['가', '나', '다'], plan, tmp_path / 'heat.png')), int)
    panels = [sheet[12 + 32 : 12 + 32 + 130, 12 + i * 272 : 272 + i * 272] for i in range(3)]
    assert len(np.unique(panels[0].reshape(-1, 3), axis=0)) == 1
    assert (panels[1] == panels[2]).all() and len(np.unique(panels[1].reshape(-1, 3), axis=0)) > 10

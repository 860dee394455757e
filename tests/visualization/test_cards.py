import numpy as np
import pytest
from PIL import Image, ImageColor

from kovilt.visualization import fonts
from kovilt.visualization.cards import (
    MARK_COLOURS,
    RIGHT,
    WRONG,
    CardImage,
    CardLine,
    CardToken,
    SampleCard,
    draw_cards,
)

TOKENS = [
    CardToken('소파', True, 'masked'),
    CardToken('는', False, 'replaced'),
    CardToken('빨간색', True, 'unchanged'),
    CardToken('Ω', True, 'unknown'),
]
CARD = SampleCard(
    '1',
    [
        CardImage(Image.new('RGB', (60, 40), 'navy'), '60 x 40 pixels'),
        CardImage(Image.new('RGB', (48, 32), 'navy'), '2 x 3 patches', grid=(2, 3)),
        CardImage(Image.new('RGB', (48, 32), 'tan'), 'given that of 2', matches=False),
    ],
    [CardLine('text', '소파는 빨간색이다'), CardLine('masked', TOKENS), CardLine('label', 'OOV', warning=True)],
)


def colours(path) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)}


@pytest.mark.skipif(fonts.korean_font() is None, reason='no font with Hangul')
def test_every_mark_has_its_colour(tmp_path):
    shown = colours(draw_cards([CARD], tmp_path / 'new' / 'sheet.png'))
    assert {ImageColor.getrgb(colour) for colour in (*MARK_COLOURS.values(), WRONG)} <= shown
    assert ImageColor.getrgb(RIGHT) not in shown


def test_the_grid_lies_over_the_image_after_the_transforms(tmp_path):
    dark = SampleCard('1', [CardImage(Image.new('RGB', (48, 32)), '', grid=(2, 3))], [])
    pixels = np.asarray(Image.open(draw_cards([dark], tmp_path / 'sheet.png')))
    y, x = np.nonzero((pixels == 0).all(2))
    white = (pixels[y.min() : y.max() + 1, x.min() : x.max() + 1] == 255).all(2)  # lines within the image
    assert [int((white.mean(axis) == 1).sum()) for axis in (0, 1)] == [2, 1]  # of three columns and two rows


def test_a_machine_without_a_korean_font_still_gets_its_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, '_find_font', lambda: None)
    monkeypatch.delenv('KOVILT_FONT', raising=False)
    assert draw_cards([CARD] * 3, tmp_path / 'sheet.png').is_file()


def test_an_image_that_cannot_be_read_leaves_its_place_empty(tmp_path):
    assert draw_cards([SampleCard('1', [CardImage(None, 'absent')], [])], tmp_path / 'sheet.png').is_file()


def test_a_line_as_text_has_its_marks_in_brackets():
    assert CARD.lines[0].text == '소파는 빨간색이다'
    assert CARD.lines[1].text == '[소파][는] [빨간색] [Ω]'
    assert CardLine('masked', [CardToken('[MASK]', True, 'masked'), CardToken('는', False)]).text == '[MASK]는'

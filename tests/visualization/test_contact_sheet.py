import numpy as np
import pytest
from PIL import Image, ImageColor

from kovilt.visualization import fonts
from kovilt.visualization.cards import RIGHT, WRONG, wrap
from kovilt.visualization.contact_sheet import AnsweredQuestion, draw_contact_sheet

ITEMS = [
    AnsweredQuestion(Image.new('RGB', (60, 40), 'navy'), '고양이는 어디에 있나요?', '소파 위', '소파 위', 0.91),
    AnsweredQuestion(Image.new('L', (30, 90), 128), '책이 몇 권 있어요?', '두 권', '세 권', 0.4),
]


def colours(path):
    return {tuple(pixel) for pixel in np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)}


def test_right_and_wrong_have_their_colours_and_the_text_stands_beside(tmp_path):
    out = draw_contact_sheet(ITEMS, tmp_path / 'new' / 'sheet.png', columns=2)
    assert {ImageColor.getrgb(RIGHT), ImageColor.getrgb(WRONG)} <= colours(out)
    assert out.with_suffix('.txt').read_text(encoding='utf-8').splitlines() == [
        '1. 고양이는 어디에 있나요?  답: 소파 위 (91%)  정답: 소파 위  O',
        '2. 책이 몇 권 있어요?  답: 두 권 (40%)  정답: 세 권  X',
    ]


def test_a_machine_without_a_korean_font_still_gets_its_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, '_find_font', lambda: None)
    assert draw_contact_sheet(ITEMS, tmp_path / 'sheet.png').is_file()


@pytest.mark.parametrize('sentence', ['소파 옆에 있는 램프는 무슨 색인가요?', '가' * 500, '짧다'])
def test_wrapped_lines_fit(sentence):
    font = fonts.load_font(16)
    lines = wrap(sentence, font, 150, lines=2)
    assert 1 <= len(lines) <= 2
    assert all(font.getlength(line) <= 150 for line in lines)
    assert sentence.startswith(lines[0].rstrip(' …'))

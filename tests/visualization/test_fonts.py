import matplotlib
import pytest

from kovilt.errors import KoviltError
from kovilt.visualization import fonts

NO_HANGUL = f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf'


def test_a_font_found_has_hangul():
    found = fonts.korean_font()
    assert found is None or fonts.has_hangul(found)


def test_a_font_without_hangul_is_recognized():
    assert not fonts.has_hangul(NO_HANGUL)


def test_a_named_font_without_hangul_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv('KOVILT_FONT', NO_HANGUL)
    with pytest.raises(KoviltError, match='DejaVuSans.ttf is not a font with Hangul'):
        fonts.korean_font()
    monkeypatch.setenv('KOVILT_FONT', str(tmp_path / 'absent.ttf'))
    with pytest.raises(KoviltError, match='absent.ttf'):
        fonts.korean_font()


def test_drawing_goes_on_without_a_korean_font(monkeypatch):
    monkeypatch.setattr(fonts, '_find_font', lambda: None)
    assert fonts.korean_font() is None
    assert fonts.load_font(16).getlength('12') > 0

"""The figures of docs/en/how_it_works.md are drawn from the packaged encoder, and show what their captions say."""

import pytest
from PIL import Image

from benchmarks import model_figures
from benchmarks.fixtures import ROOT
from kovilt.errors import KoviltError
from kovilt.visualization import korean_font


def test_without_a_font_with_hangul_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr('kovilt.visualization.korean_font', lambda: None)
    with pytest.raises(KoviltError, match='fonts-nanum'):
        model_figures.load_example()


@pytest.fixture(scope='module')
def example():
    if korean_font() is None:
        pytest.skip('no font with Hangul (apt install fonts-nanum)')
    return model_figures.load_example()


def test_every_figure_of_the_page_is_drawn(example, tmp_path, monkeypatch):
    monkeypatch.setattr(model_figures, 'load_example', lambda: example)
    files = model_figures.draw_figures(tmp_path)
    page = (ROOT / 'docs' / 'en' / 'how_it_works.md').read_text('utf-8')
    assert [file.name for file in files] == list(model_figures.FIGURES)
    for file in files:
        assert f'../images/{file.name}' in page
        kept = ROOT / 'docs' / 'images' / file.name
        assert kept.stat().st_size < 100_000 and Image.open(kept).size == Image.open(file).size


def test_two_captions_of_an_image_share_its_patches(example):
    images, captions, batch = model_figures.read_pairs(example, model_figures.PACKED)
    assert len(images) == len(captions) == 4 and len(batch['grids']) == 3
    assert batch['image_index'].tolist() == [0, 1, 1, 2]

"""The report in a browser: Chromium, where it is installed."""

from __future__ import annotations

import pytest
from PIL import Image

from benchmarks.screenshots import find_browser, measure, take_screenshot

pytestmark = pytest.mark.skipif(find_browser() is None, reason='Chromium is not installed (apt install chromium)')


@pytest.mark.parametrize('name', ['vqa', 'pretrain'])
def test_a_report_is_readable_at_both_widths_and_by_keyboard(runs, name):
    found, console = measure((getattr(runs, name) / 'report.html').read_text(encoding='utf-8'), (400, 1200))
    assert not console
    for width in ('400', '1200'):
        page = found[width]
        assert page['scroll_width'] == page['client_width'] == int(width)
        assert page['images'] > 5 and not page['missing_images'] and not page['images_without_alt']
        assert page['smallest_font'] >= 12
        reached = page['reached']
        assert {'A', 'DIV', 'SUMMARY'} <= {one['tag'] for one in reached}
        assert all(one['tab_index'] == 0 and one['name'] for one in reached)
        places = [(one['top'], one['left']) for one in reached]
        assert places == sorted(places)  # from the top to the bottom


def test_a_screenshot_has_the_size_that_was_asked_for(runs, tmp_path):
    page = (runs.pretrain / 'report.html').read_text(encoding='utf-8')
    image = Image.open(take_screenshot(page, tmp_path / 'new' / 'page.png', width=400, height=300, top=50))
    assert image.size == (400, 300) and len(image.getcolors(1 << 20)) > 5

"""The HTML page holds what the report says, with every text escaped and images in place."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from planted_faults import copy_in_val, image, living, no_rows, plain, row, save_cut, two_tables

from kovilt.verification import VerificationReport, sources_of_folder, verify, write_verification_page


def page_of(data, tmp_path) -> tuple[VerificationReport, str]:
    report = verify(sources_of_folder(str(data.root), None), deep=None, workers=1, progress=lambda done, total: None)
    path = write_verification_page(tmp_path / 'new' / 'report.html', report, title='<My data>')
    return report, path.read_text('utf-8')


class OpenTags(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_set_without_faults(data, tmp_path):
    living(data)
    _, page = page_of(data, tmp_path)
    assert '<p>none</p>' in page and 'images, all decoded' in page
    assert 'Most frequent answers' in page and 'Types of answers' in page and 'Length of texts in characters' in page
    assert not OpenTags(page).open and '<img' not in page


@pytest.mark.parametrize('plant', [no_rows, two_tables])
def test_a_split_without_rows(data, tmp_path, plant):
    plain(data)
    plant(data)
    report, page = page_of(data, tmp_path)
    assert report.findings.exit_code == 2 and report.totals() in page and not OpenTags(page).open


def test_findings_are_grouped_with_their_counts_and_remedies(data, tmp_path):
    plain(data)
    for at in (3, 5, 8):
        row(at, answer='')(data)
    row(2, image='images/9.png')(data)
    row(2, 'val', answer='보라색')(data)
    report, page = page_of(data, tmp_path)
    assert report.totals() in page and not OpenTags(page).open
    assert re.findall(r'<b>(\w+\.\w+)</b>\s+1', page) == ['image.missing', 'answer.empty', 'answer.only_in_val']
    assert '1, 3 times' in page and '3 times</td>' in page
    assert 'put the image there or remove its rows' in page
    assert page.count('<details open>') == 2 and page.count('<details>') == 1  # notes are folded


def test_texts_from_outside_are_escaped(data, tmp_path):
    plain(data)
    row(3, question='<script>alert(1)</script>', answer='<img src=x onerror=alert(2)>')(data)
    row(5, answer='"><b onmouseover=alert(3)>')(data)
    row(7, image='images/\u202egnp.exe')(data)
    _, page = page_of(data, tmp_path)
    assert '<title>&lt;My data&gt;</title>' in page
    tags = OpenTags(page)
    assert not tags.open and not tags.seen & {'script', 'img'}
    assert '&lt;script&gt;' in page and 'onerror=alert(2)&gt;' in page
    assert '\u202e' not in page and r'\u202egnp.exe' in page


def test_a_copy_is_shown_beside_its_original(data, tmp_path):
    plain(data)
    copy_in_val(lambda scene: scene)(data)
    _, page = page_of(data, tmp_path)
    shown = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(thumbnail))).size for thumbnail in shown]
    assert sizes == [(160, 120), (160, 120)]


@pytest.mark.parametrize('save', [save_cut, lambda path: path.write_bytes(b'')])
def test_an_image_that_cannot_be_read_is_not_shown(data, tmp_path, save):
    plain(data)
    image(save, 'cut.jpg')(data)
    report, page = page_of(data, tmp_path)
    assert report.findings.exit_code == 2 and '<img' not in page and 'cut.jpg' in page

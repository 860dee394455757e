"""The documentation: both languages say the same, and the site that `make docs` builds works without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest

from benchmarks.screenshots import find_browser

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / 'build' / 'docs'
PAGES = sorted(page.relative_to(ROOT / 'docs/en').as_posix() for page in (ROOT / 'docs/en').rglob('*.md'))
FENCE = re.compile(r'^(`{3,})(\w*)\n(.*?)^\1$', re.M | re.S)


def test_both_languages_have_the_same_pages_and_the_site_lists_each_once():
    assert PAGES == sorted(page.relative_to(ROOT / 'docs/ko').as_posix() for page in (ROOT / 'docs/ko').rglob('*.md'))
    nav = (ROOT / 'mkdocs.yml').read_text('utf-8').split('\nnav:\n')[1].split('\n\n')[0]
    assert sorted(re.findall(r'[\w/]+\.md', nav)) == PAGES


def shape(page: str) -> dict[str, object]:
    """What is the same in both languages: code, levels of headings, tables, lists of images, links and numbers."""
    text = (ROOT / 'docs' / page).read_text('utf-8')
    prose = FENCE.sub('', text)
    return {
        'code': [(language, code) for _, language, code in FENCE.findall(text)],
        'headings': re.findall(r'^#+(?= )', prose, re.M),
        'tables': re.findall(r'^ *\|[-:| ]+\|$', prose, re.M),
        'rows': len(re.findall(r'^ *\|', prose, re.M)),
        'images': re.findall(r'!\[[^]]*\]\(([^)]+)\)', prose),
        'links': sorted(set(re.findall(r'(?<!!)\[[^]]*\]\(([^)#]+)', prose))),
        'numbers': sorted(set(re.findall(r'(?<![\w.])\d+\.\d+(?!\w|\.\d| million)', prose, re.A))),
    }


@pytest.mark.parametrize('page', PAGES)
def test_both_languages_of_a_page_say_the_same(page):
    assert shape(f'ko/{page}') == shape(f'en/{page}')


@pytest.fixture(scope='module')
def address() -> Iterator[str]:
    """Where the site is served, of `make docs` after the last change of a page."""
    sources = [ROOT / 'mkdocs.yml', *(file for file in (ROOT / 'docs').rglob('*.*') if '__pycache__' not in file.parts)]
    built = SITE / 'search' / 'search_index.json'
    if not built.is_file() or built.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        pytest.skip('make docs has not been run since the last change')

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(SITE))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


@pytest.fixture(scope='module')
def browser():
    if find_browser() is None:
        pytest.skip('Chromium is not installed (apt install chromium)')
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find_browser(), args=['--no-sandbox'])


@pytest.fixture
def open_page(browser, address):
    """Opens pages in the language of a browser; every request must go to this machine, and the console stays empty."""
    contexts, faults = [], []

    def open_page(path: str, *, locale: str = 'ko-KR'):
        context = browser.new_context(locale=locale, viewport={'width': 1200, 'height': 900})
        contexts.append(context)
        page = context.new_page()
        page.on('request', lambda request: request.url.startswith((address, 'data:')) or faults.append(request.url))
        page.on('console', lambda message: message.type == 'error' and faults.append(message.location['url']))
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.goto(address + path, wait_until='load')
        return page

    yield open_page
    for context in contexts:
        context.close()
    # Beside each page of the other language the theme asks for a sitemap, which only the whole site has.
    assert [fault for fault in faults if not fault.endswith('/sitemap.xml')] == []


@pytest.mark.parametrize(
    ('home', 'query', 'found'),
    [
        ('', '체크포인트', 'interrupted/'),  # 체크포인트는, 체크포인트를
        ('', '미세조정', 'pretraining/'),
        ('', '조정', 'pretraining/'),  # a part of 미세조정
        ('', 'vqa_aihub', 'aihub/'),  # a part of kovilt_vqa_aihub
        ('', '--resume', 'interrupted/'),
        ('en/', 'checkpoint', 'en/interrupted/'),
    ],
)
def test_the_search_finds_words_parts_of_compounds_and_names_in_the_language(open_page, home, query, found):
    page = open_page(f'{home}?q={quote(query)}')
    page.wait_for_selector('.md-search-result__item')
    links = page.eval_on_selector_all('.md-search-result__link', 'links => links.map(link => link.pathname)')
    assert any(link.startswith(f'/{found}') for link in links)
    assert all(link.startswith('/en/') == (home == 'en/') for link in links)
    assert query.lstrip('-') in page.text_content('.md-search-result__item')
    assert page.query_selector('.md-search-result__terms') is None  # the theme's note on words that a page lacks


def test_readers_of_korean_begin_in_korean_and_others_in_english(open_page, address):
    assert open_page('', locale='ko-KR').url == address
    page = open_page('', locale='de-DE')
    page.wait_for_url(address + 'en/')
    switch_to_korean(page)  # who chooses Korean keeps it
    assert page.url == address
    page = open_page('en/training/', locale='de-DE')
    assert page.get_attribute('html', 'lang') == 'en'
    switch_to_korean(page)
    assert page.url == address + 'training/'


def switch_to_korean(page) -> None:
    page.eval_on_selector('.md-select__link[hreflang=ko]', 'link => link.click()')
    page.wait_for_function("document.documentElement.lang === 'ko' && document.readyState === 'complete'")


@pytest.mark.parametrize('path', ['', 'en/', 'data/', 'benchmarks/', 'en/security/', 'api/modules/', 'source/deploy/'])
def test_a_page_is_as_wide_as_the_window(open_page, path):
    page = open_page(path)
    for width in (400, 1200):
        page.set_viewport_size({'width': width, 'height': 900})
        page.wait_for_function('width => document.documentElement.scrollWidth === width', arg=width)  # it is animated
    broken = 'images => images.filter(image => !image.complete || !image.naturalWidth).map(image => image.src)'
    assert page.eval_on_selector_all('article img', broken) == []

"""The demo in a browser: Chromium, where it is installed, driven by playwright."""

import tempfile
from urllib.parse import urlsplit

import pytest

from benchmarks.demo_screenshots import HISTORY, ask, choose_example, click, open_browser, open_look_tab, running_demo
from benchmarks.screenshots import find_browser
from kovilt.serving.demo.texts import ENGLISH, KOREAN

pytestmark = pytest.mark.skipif(find_browser() is None, reason='Chromium is not installed (apt install chromium)')
pytest.importorskip('playwright', reason="the browser test needs pip install 'kovilt[tests]'")


def open_tab(page, text):
    click(page, page.get_by_role('tab', name=text, exact=True))


def wait_for_text(page, selector, text):
    page.locator(selector, has_text=text).first.wait_for()


def test_all_tabs_in_chromium(tmp_path, monkeypatch, demo, examples, predictions):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    requests, console, failed = [], [], []
    with running_demo(compare='rooms', predictions=str(predictions)) as address, open_browser('ko-KR') as page:
        page.on('request', lambda request: requests.append(request.url))
        page.on('response', lambda response: failed.append(response.url) if response.status >= 400 else None)
        page.on(
            'console',
            lambda message: console.append(f'{message.text} {message.location}') if message.type == 'error' else None,
        )
        page.goto(address)
        check_answers(page, demo, examples)
        check_heat_maps(page)
        check_masked_words(page)
        check_comparison_and_errors(page)
        check_a_broken_file(page)
        page.locator('#language').click()
        page.get_by_role('tab', name=ENGLISH.look_tab, exact=True).wait_for()
        page.locator('html[lang=en]').wait_for()
        assert urlsplit(page.url).path == '/en/'
        assert list((tmp_path / 'temporary').rglob('*.jpg'))
    assert not list((tmp_path / 'temporary').iterdir())
    hosts = {urlsplit(url).hostname for url in requests if url.startswith(('http', 'ws'))}
    assert len(requests) > 20 and hosts == {'127.0.0.1'}
    assert not failed and not console


def check_answers(page, demo, examples):
    page.get_by_role('tab', name=KOREAN.look_tab, exact=True).wait_for()
    page.locator('html[lang=ko]').wait_for()
    assert urlsplit(page.url).path == '/ko/'
    page.locator('#image input[type=file]').set_input_files(examples[0].image)
    page.locator('#image img').wait_for()
    pixels = demo.model.transforms.read_source(examples[0].image)[0]
    for question in ('소파는 무슨 색이에요?', '의자가 있어요?'):
        assert ask(page, question) == demo.ask(pixels, question).best
    rows = page.locator(HISTORY).all_inner_texts()
    assert len(rows) == 2 and '의자가 있어요?' in rows[0] and '소파는 무슨 색이에요?' in rows[1]


def check_heat_maps(page):
    choose_example(page, 1)
    open_look_tab(page)
    question, shown = page.locator('#question textarea').input_value(), page.locator('#plan label').inner_text()
    word = next(word for word in question.split() if KOREAN.plan.format(word) not in shown)
    click(page, page.locator('#look-words').get_by_text(word).first)
    wait_for_text(page, '#plan label', KOREAN.plan.format(word))
    other = page.locator('#look-answers .confidence-set').nth(1)
    answer = other.locator('dt').first.inner_text().strip()
    click(page, other)
    wait_for_text(page, '#relevance label', KOREAN.relevance.format(answer))


def check_masked_words(page):
    open_tab(page, KOREAN.words_tab)
    caption = page.locator('#caption textarea').input_value()
    assert len(caption.split()) > 2
    click(page, page.locator('#caption-words').get_by_text(caption.split()[0]).first)
    page.locator('#word-plan img').wait_for()
    wait_for_text(page, '#candidates', '%')


def check_comparison_and_errors(page):
    open_tab(page, KOREAN.compare_tab)
    click(page, page.locator('#compare'))
    for number in range(2):
        page.locator(f'#model-{number} .confidence-set').first.wait_for()
    open_tab(page, KOREAN.errors_tab)
    click(page, page.locator('#errors-table .virtual-row [role=gridcell]', has_text='의자는 무슨 색이에요?'))
    page.locator('#error-image img').wait_for()
    click(page, page.locator('#take-over'))
    page.wait_for_function('document.querySelector("#question textarea").value === "의자는 무슨 색이에요?"')


def check_a_broken_file(page):
    click(page, page.locator('#image button[aria-label="Remove Image"]'))
    page.locator('#image input[type=file]').set_input_files(
        {'name': '깨진.png', 'mimeType': 'image/png', 'buffer': b'\x89PNG no image'}
    )
    wait_for_text(page, '[data-testid=toast-body]', '깨진.png: not a readable image')
    page.locator('#image input[type=file]').wait_for(state='attached')  # the place is free again

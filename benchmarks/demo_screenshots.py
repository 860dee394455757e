"""Takes the screenshots of docs/en/demo.md: the page of `kovilt demo` in Chromium, driven by playwright.

The machine needs a font with Hangul: apt install chromium fonts-nanum; pip install 'kovilt[demo,tests]'.

python -m benchmarks.demo_screenshots docs/images
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from benchmarks.screenshots import find_browser
from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError, run_cli
from kovilt.terminal import show

WIDTH, HEIGHT = 1360, 900  # pixels of the window
HISTORY = '#history .virtual-row'  # the rows of the table of questions
_EVENT_SECONDS = 30
_awaits_results: MutableMapping[Any, bool] = WeakKeyDictionary()  # of each page


@contextmanager
def running_demo(**settings: Any) -> Iterator[str]:
    """The address of a demo that runs in a thread of this process; arguments are those of `DemoSettings`."""
    from kovilt.serving.demo.server import open_demo
    from kovilt.serving.demo.settings import DemoSettings

    with open_demo(DemoSettings(port=0, device='cpu', **settings)) as demo:
        thread = threading.Thread(target=demo.run)
        thread.start()
        try:
            yield demo.address
        finally:
            demo.should_exit = True
            thread.join(30)


@contextmanager
def open_browser(locale: str) -> Iterator[Any]:
    """A page of playwright in a Chromium whose user prefers a language, such as ko-KR.

    Raises:
        KoviltError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    if find_browser() is None:
        raise KoviltError('no Chromium found; install it: apt install chromium')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser())
        context = browser.new_context(locale=locale, viewport={'width': WIDTH, 'height': HEIGHT})
        page = context.new_page()
        _watch_events(page)
        try:
            yield page
        finally:
            browser.close()


def _watch_events(page: Any) -> None:
    """Note when Gradio sends an event to the server, and when the stream ends that brings the results."""
    _awaits_results[page] = False

    def begin(request: Any) -> None:
        if '/queue/join' in request.url:
            _awaits_results[page] = True

    def end(request: Any) -> None:
        if '/queue/data' in request.url:
            _awaits_results[page] = False

    page.on('request', begin)
    page.on('requestfinished', end)
    page.on('requestfailed', end)  # Gradio aborts the stream when its last message has come


def click(page: Any, clicked: Any) -> None:
    """Click a locator when the results of all events before have come and their stream has ended.

    Gradio loses an event that begins just before: it counts on the stream that is still open, and then that closes.
    """
    for _ in range(50 * _EVENT_SECONDS):
        if not _awaits_results[page]:
            break
        page.wait_for_timeout(20)  # milliseconds, in which playwright tells of requests
    clicked.click()


def choose_example(page: Any, number: int) -> None:
    """Click an example and wait until its question stands in the page."""
    before = page.locator('#question textarea').input_value()
    click(page, page.locator('#examples tbody tr').nth(number))
    page.wait_for_function('before => document.querySelector("#question textarea").value !== before', arg=before)


def ask(page: Any, question: str | None = None) -> str:
    """Ask a question, None = the one that stands there, and return the best answer."""
    asked = page.locator(HISTORY).count()
    if question is not None:
        page.locator('#question textarea').fill(question)
    click(page, page.locator('#ask'))
    page.locator(HISTORY).nth(asked).wait_for()
    return page.locator('#answers h2').inner_text().strip()


def open_look_tab(page: Any) -> None:
    """Open the tab that shows where the model looks, and wait for both heat maps."""
    click(page, page.get_by_role('tab').nth(1))
    for name in ('relevance', 'plan'):
        page.locator(f'#{name} img').wait_for()


def take_screenshot(page: Any, out: Path) -> None:
    page.wait_for_timeout(1000)  # until results are no longer dimmed, as they are when they have just come
    page.screenshot(path=out)


def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument('out', type=Path, help='folder of demo_ask.png and demo_look.png')
    args = parser.parse_args()
    with running_demo() as address, open_browser('ko-KR') as page:
        page.goto(address)
        choose_example(page, 0)
        ask(page)
        ask(page, '고양이는 무슨 색이에요?')
        ask(page, '고양이는 어느 쪽에 있어요?')
        take_screenshot(page, args.out / 'demo_ask.png')
        choose_example(page, 1)
        open_look_tab(page)
        take_screenshot(page, args.out / 'demo_look.png')
    show(f'{args.out}: demo_ask.png, demo_look.png')


if __name__ == '__main__':
    raise SystemExit(run_cli(main))

"""Takes a screenshot of a page of kovilt with Chromium, and measures the page in it (tests/reporting/test_browser.py).

The machine needs a font with Hangul: apt install chromium fonts-nanum.

python -m benchmarks.screenshots work_dirs/vqa/report.html docs/images/report.png --width 1200 --height 1600
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli
from kovilt.files import atomic_path
from kovilt.terminal import show

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# A frame is as wide as asked for, while the window of Chromium has a least width.
_FRAME = (
    '<iframe data-width="{width}" srcdoc="{page}" style="border: 0; width: {width}px; height: {height}px"></iframe>'
)
_MEASURE = """
<script>
window.onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, root = page.documentElement;
    const reached = [...page.querySelectorAll('a[href], summary, button, input, [tabindex]')]
      .filter(one => one.checkVisibility({contentVisibilityAuto: true}));
    found[frame.dataset.width] = {
      scroll_width: root.scrollWidth,
      client_width: root.clientWidth,
      images: page.images.length,
      missing_images: [...page.images].filter(image => !image.complete || !image.naturalWidth).length,
      images_without_alt: [...page.images].filter(image => !image.hasAttribute('alt')).length,
      reached: reached.map(one => {
        const {top, left} = one.getBoundingClientRect();
        const heading = page.getElementById(one.getAttribute('aria-labelledby'));
        const name = (one.getAttribute('aria-label') || heading?.textContent || one.textContent).trim();
        return {tag: one.tagName, tab_index: one.tabIndex, top: Math.round(top), left: Math.round(left), name};
      }),
      smallest_font: Math.min(...[...page.querySelectorAll('p, td, th, li, dd, dt, figcaption, footer, summary, a')]
        .map(one => parseFloat(page.defaultView.getComputedStyle(one).fontSize))),
    };
  }
  document.getElementById('found').textContent = JSON.stringify(found);
};
</script>
<pre id="found"></pre>
"""


def find_browser() -> str | None:
    """The path of Chromium or Chrome; None if there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def run_browser(document: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open an HTML document in a Chromium without a window; its console goes to stderr.

    Raises:
        KoviltError: there is no Chromium, or it fails.
    """
    browser = find_browser()
    if browser is None:
        raise KoviltError('no Chromium found; install it: apt install chromium')
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, 'page.html')
        page.write_text(document, encoding='utf-8')
        command = [browser, '--headless', '--disable-gpu', '--hide-scrollbars', '--enable-logging=stderr', '--v=0']
        command += ['--no-sandbox'] if os.geteuid() == 0 else []  # Chromium refuses to start as root otherwise
        command += [f'--user-data-dir={folder}/profile', '--virtual-time-budget=20000', *arguments, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise KoviltError(f'{browser} ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}')
    return done


def measure(page: str, widths: tuple[int, ...]) -> tuple[dict[str, Any], list[str]]:
    """What a page is like at some widths in pixels, by width, and the lines of the console.

    The page is not changed: it stands in frames of a document that measures them.
    """
    frames = ''.join(_FRAME.format(width=width, height=900, page=html.escape(page)) for width in widths)
    done = run_browser(f'<!doctype html><meta charset="utf-8">{frames}{_MEASURE}', '--dump-dom')
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    if not found or not found[1]:
        raise KoviltError(f'the page could not be measured: {done.stderr.strip()[-300:]}')
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if 'CONSOLE' in line]


def take_screenshot(page: str, out: str | Path, *, width: int, height: int, top: int = 0) -> Path:
    """Write a PNG file of a part of the page: `width` x `height` pixels, from `top` pixels below its beginning."""
    frame = _FRAME.format(width=width, height=top + height, page=html.escape(page))
    document = f'<!doctype html><meta charset="utf-8"><style>:root {{ margin: {-8 - top}px -8px }}</style>{frame}'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'screenshot.png')
        run_browser(document, f'--screenshot={file}', f'--window-size={max(width, 800)},{height}')
        image = Image.open(file).convert('RGB').crop((0, 0, width, height))
        with atomic_path(out) as draft:
            image.save(draft, 'PNG', optimize=True)
    return Path(out)


def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument('page', type=Path, help='the HTML file')
    parser.add_argument('out', type=Path, help='the PNG file')
    parser.add_argument('--width', type=at_least(100), default=1200, help='pixels (default: 1200)')
    parser.add_argument('--height', type=at_least(100), default=1600, help='pixels (default: 1600)')
    parser.add_argument('--top', type=at_least(0), default=0, help='pixels of the page that are left out (default: 0)')
    args = parser.parse_args()
    page = args.page.read_text(encoding='utf-8')
    show(take_screenshot(page, args.out, width=args.width, height=args.height, top=args.top))


if __name__ == '__main__':
    raise SystemExit(run_cli(main))

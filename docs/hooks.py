"""What the site needs beyond the plugins: files outside docs/ that a page links to become pages, under source/.

On GitHub such a link leads to the file. A site has no repository beside it, so it carries these files itself: Markdown
and notebooks as text, anything else as a code block, a folder as all its files. A link to nothing is a warning, which
`mkdocs build --strict` makes an error.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# A link with its anchor; or a block of code, in which nothing is a link.
LINK = re.compile(r'^(`{3,}).*?^\1`*$|(?<=\]\()(?![a-z]+:|#)(?P<link>[^)\s#]+)(?P<anchor>#[^)\s]+)?', re.M | re.S)
LANGUAGE_OF = {'.py': 'python', '.yaml': 'yaml', '.yml': 'yaml', '.sh': 'bash', '.json': 'json', '.jsonl': 'json'}
log = logging.getLogger('mkdocs.hooks')


def targets(markdown: str, path: str) -> Iterator[str]:
    """The paths, from the root of the repository, that the Markdown file at `path` links to."""
    for match in LINK.finditer(markdown):
        if link := match['link']:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def page_of(target: str) -> str:
    """Where the page of a file or folder outside docs/ stands, relative to docs/."""
    return f'source/{target}' if target.endswith('.md') else f'source/{target}.md'


def as_code(path: Path) -> str:
    return f'````{LANGUAGE_OF.get(path.suffix, "")}\n{path.read_text("utf-8").rstrip()}\n````\n'


def as_markdown(target: str) -> str:
    path = ROOT / target
    if path.is_dir():
        files = sorted(file for file in path.rglob('*') if file.is_file() and '__pycache__' not in file.parts)
        parts = [f'## `{file.relative_to(path).as_posix()}`\n\n{as_code(file)}' for file in files]
        return '\n'.join([f'# `{target}`\n', *parts])
    if path.suffix == '.md':
        return path.read_text('utf-8')
    if path.suffix == '.ipynb':
        cells = [(cell['cell_type'], ''.join(cell['source'])) for cell in json.loads(path.read_text('utf-8'))['cells']]
        return '\n\n'.join(text if kind == 'markdown' else f'````python\n{text}\n````' for kind, text in cells)
    return f'# `{target}`\n\n{as_code(path)}'


@event_priority(-200)  # after i18n, which knows no files without a source
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each file that a page links to, and for those that these link to."""
    i18n: Any = config.plugins['i18n']
    found: set[str] = set()
    waiting = [(file.content_string, f'docs/{file.src_uri}') for file in files.documentation_pages()]
    while waiting:
        markdown, path = waiting.pop()
        for target in targets(markdown, path):
            if target in found or target.startswith(('docs/', '..')):
                continue
            found.add(target)
            if not (ROOT / target).exists():
                log.warning('%s links to %s, which does not exist', path, target)
                continue
            content = as_markdown(target)
            if target.endswith('.md'):
                waiting.append((content, target))
            pages = {}
            for locale in i18n.build_languages:
                page = pages[locale] = File.generated(
                    config, page_of(target), content=content, inclusion=InclusionLevel.NOT_IN_NAV
                )
                if locale != i18n.default_language:
                    page.dest_uri = f'{locale}/{page.dest_uri}'
            page = pages[i18n.current_language]
            page.locale = page.locale_alternate_of = i18n.current_language  # type: ignore[attr-defined]
            page.alternates = pages  # type: ignore[attr-defined]  # for the switch between languages
            files.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ lead to the pages under source/, links from there into docs/ to the pages of the language."""
    here = page.file.src_uri
    is_source = here.startswith('source/')
    path = here.removeprefix('source/') if is_source else f'docs/{here}'
    if is_source:
        page.meta['search'] = {'exclude': True}
    language: str = config.plugins['i18n'].current_language  # type: ignore[attr-defined]

    def lead(match: re.Match[str]) -> str:
        if not match['link']:
            return match[0]
        (target,) = targets(f']({match["link"]})', path)
        if not target.startswith('docs/'):
            target, anchor = page_of(target), match['anchor'] or ''
        elif is_source:  # its anchors are those of one language
            target, anchor = re.sub(r'^(en|ko)/', f'{language}/', target.removeprefix('docs/')), ''
        else:
            return match[0]
        return posixpath.relpath(target, posixpath.dirname(here)) + anchor

    return LINK.sub(lead, markdown)

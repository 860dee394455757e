"""Names, comments, docstrings, strings and pages use the words of the field; docs/en/glossary.md has the glossary.

`RETIRED` is the table of words that are not used. They are compared as whole words, in any case: `keep_pictures` and
`LoadPicture` contain the word picture, `somebody` does not contain the word body.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('kovilt', 'tools', 'reproduction', 'benchmarks', 'configs', 'tests', 'examples')
CODE, PROSE = ('code', 'path'), ('comment', 'string')


class Retired(NamedTuple):
    """A word, as a regular expression in which a blank also stands for an underscore, and the word to use instead."""

    word: str
    instead: str
    where: tuple[str, ...] = CODE + PROSE
    unless: str = ''  # phrases in which it is the right word
    except_in: str = ''  # paths in which it is


RETIRED = [
    Retired('pictures?', 'image', unless='picture frames?'),  # an object of Rooms
    Retired('photo(graph)?s?', 'image', CODE),
    Retired('a images?', 'an image'),
    Retired('pieces?', 'token'),
    Retired(
        'bod(y|ies)',
        'encoder',
        unless=r'(request|response|message|http|html|loop|function|method|class) bod(y|ies)|</?body\b|\.body'
        '|Loop.*body',
        except_in='serv(e|ing)',  # HTTP's word
    ),
    Retired('towers?', 'encoder'),
    Retired('chances?', 'rng, random or probability'),
    Retired('lots', 'sampling keys', CODE),
    Retired('smallest lots|draws? lots', 'sampling keys', PROSE),
    Retired('ramps|round rows|rounded rows', 'segments, cu_seqlens, bucket'),
    Retired('tours?|tenants?|houses?', 'package'),
    Retired('(this|each|utils) room', 'package', PROSE),
    Retired('walk(s|ed|ing)?', 'read, iterate over', unless=r'\b(os|ast|self|path|pkgutil)\.walk'),
    Retired('look(s|ed|ing)? at|looks? once', 'encode, read, check'),
    Retired('speaks? (of|about)', 'is about'),
    Retired('redraw(s|n|ing)?', 'resample'),
    Retired('blam(e|es|ed|ing)', 'config_errors, at fault'),
    Retired('draw partners', 'sample_negatives'),
    Retired('corrupt', 'mask_tokens', CODE),
    Retired('recomputed', 'maybe_checkpoint', CODE),
    Retired('deviations', 'mean_center', CODE),
    Retired('start as mask', 'init_cls_from_mask'),
    Retired('keep images|kept images', 'cache_images', CODE),
    Retired('human answers', 'ground_truth_answers', CODE),
    Retired('truths?', 'ground truth', CODE, unless='ground truths?'),
    Retired('몸체', '인코더'),
    Retired('그림(?!자)', '이미지'),
    # A data set may call its own split 'dev', as the paper does (DEV).
    Retired('devs?', 'val', unless=r"(?-i:DEV)|'dev(\.csv)?'|\|dev\||/dev/|st dev|dev only where a data set"),
]


def whole_words(pattern: str) -> re.Pattern[str]:
    """Matches whole words, in any case; a blank also matches a line break."""
    return re.compile(rf'(?<![a-z0-9])(?:{pattern})(?![a-z0-9])'.replace(' ', r'\s+'), re.IGNORECASE)


RULES = [(rule, whole_words(rule.word), re.compile(rule.unless or '(?!)', re.IGNORECASE)) for rule in RETIRED]
ANY_RULE = whole_words('|'.join(rule.word for rule in RETIRED))  # most texts contain no retired word
STRING_TOKENS = {tokenize.STRING, getattr(tokenize, 'FSTRING_MIDDLE', tokenize.STRING)}  # f-strings since Python 3.12


class Hit(NamedTuple):
    """A retired word in a file."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: {self.word!r} is retired; say {self.instead}'


def read_texts(source: str) -> Iterator[tuple[str, int, str]]:
    """(kind, first line, text) of each comment and string, and last of the code without them."""
    code = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT and token.type not in STRING_TOKENS:
            continue
        yield ('comment' if token.type == tokenize.COMMENT else 'string'), token.start[0], token.string
        (first, left), (last, right) = token.start, token.end
        for row in range(first, last + 1):
            start, stop = left if row == first else 0, right if row == last else len(code[row - 1].rstrip('\n'))
            code[row - 1] = code[row - 1][:start] + ' ' * (stop - start) + code[row - 1][stop:]
    yield 'code', 1, ''.join(code)


def split_names(text: str) -> str:
    """The text with names split into their words: `load_picture` and `LoadPicture` become `load picture`."""
    text = text.replace('WordPiece', 'wordpiece').replace('SentencePiece', 'sentencepiece')
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])|_', ' ', text)


def find_retired(path: str, content: str) -> Iterator[Hit]:
    """The retired words of a file of Python code or of a page in Markdown."""
    texts = [('comment', 1, content)] if path.endswith('.md') else read_texts(content)
    for kind, first_line, text in [('path', 1, path), *texts]:
        words = split_names(text)
        if not ANY_RULE.search(words):
            continue
        for rule, pattern, unless in RULES:
            if kind not in rule.where or (rule.except_in and re.search(rule.except_in, path)):
                continue
            right_uses = [found.span() for found in unless.finditer(words)]
            for found in pattern.finditer(words):
                if not any(start <= found.start() and found.end() <= end for start, end in right_uses):
                    line = first_line + words.count('\n', 0, found.start())
                    yield Hit(path, line, ' '.join(found[0].split()), rule.instead)


def test_no_retired_word_is_used():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob('*.py')]
    files += [*(ROOT / 'docs').rglob('*.md'), *ROOT.glob('README*.md'), ROOT / 'CONTRIBUTING.md']
    assert len(files) > 200
    hits = [
        hit
        for file in sorted(files)
        if file != Path(__file__)
        for hit in find_retired(file.relative_to(ROOT).as_posix(), file.read_text(encoding='utf-8'))
    ]
    assert not hits, '\n' + '\n'.join(map(str, hits))


@pytest.mark.parametrize(
    ('source', 'line', 'word'),
    [
        ('x = 1\ndef load_pictures(path): ...\n', 2, 'pictures'),
        ('class LoadPicture:\n    pass\n', 1, 'Picture'),
        ('x = 1\n\n# the body is frozen\n', 3, 'body'),
        ('"""Doc.\n\nThe heads of both\nTowers.\n"""\n', 4, 'Towers'),
        ("def f():\n    raise ValueError(f'{x} pieces of the text')\n", 2, 'pieces'),
        ('def test_a_image_is_read(): ...\n', 1, 'a image'),
        ('"""An image is\nlooked\nat once."""\n', 2, 'looked at'),
        ('import torch\n\nchance = torch.Generator()\n', 3, 'chance'),
        ('for x in walk(rows): ...\n', 1, 'walk'),
        ('num_dev_images = 3\n', 1, 'dev'),
        ('x.corrupt(tokens)\n', 1, 'corrupt'),
        ('# 첫 단계는 그림을 읽는다\n', 1, '그림'),
        ("print('dev accuracy')\n", 1, 'dev'),
    ],
)
def test_a_planted_word_is_found_with_its_line(source, line, word):
    (hit,) = find_retired('kovilt/example.py', source)
    assert (hit.line, hit.word) == (line, word)
    assert str(hit).startswith(f'kovilt/example.py:{line}: {word!r} is retired; say ')


def test_a_page_is_read():
    assert [str(hit) for hit in find_retired('docs/a.md', '# A\n\nOne picture')] == [
        "docs/a.md:3: 'picture' is retired; say image"
    ]


def test_the_path_of_a_file_is_read():
    assert [hit.word for hit in find_retired('kovilt/formats/image_tower.py', '')] == ['tower']


@pytest.mark.parametrize(
    'source',
    [
        '# somebody or everybody sends the request body; embodied, <body>, antibody\n',
        'for folder, folders, files in os.walk(root): ...\n',
        'nodes = [node for node in ast.walk(tree) if node.body]\n',
        '"""WordPiece tokens of a household; a tournament, a walkway, plots, chandelier, picture frame."""\n',
        'ground_truth, GroundTruth = "the ground truth", /dev/null\n'.replace('/dev/null', '"/dev/null"'),
        'camera = "a corrupt file is recomputed"\n',
        'an_image, has_images = data, images\n',
    ],
)
def test_words_that_only_look_alike_are_left_alone(source):
    assert not list(find_retired('kovilt/example.py', source))

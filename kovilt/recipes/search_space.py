"""What a sweep varies, as its command line names it: `key=v1,v2` and `key=low..high[:log]`."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kovilt.errors import KoviltError

_CLOSING = {'(': ')', '[': ']', '{': '}'}
_LONGEST_NAME = 60  # characters; a Hangul one takes three of the 255 bytes of a file name


@dataclass(frozen=True)
class ValueList:
    """A key of a config and the values to try, as `--cfg-options` takes them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ValueRange:
    """A key of a config and the range to search, of integers if both ends are, else of real numbers."""

    key: str
    low: float
    high: float
    log: bool


Dimension = ValueList | ValueRange
Setting = Mapping[str, str]  # key of the config -> value


def parse_dimensions(texts: Iterable[str]) -> list[Dimension]:
    """What to vary, in the order given.

    Raises:
        KoviltError: a text is neither of the two forms, a range is empty, a key stands there twice.
    """
    dimensions = [_parse(text) for text in texts]
    for dimension, more in itertools.pairwise(sorted(dimensions, key=lambda dimension: dimension.key)):
        if dimension.key == more.key:
            raise KoviltError(f'{more.key}: named twice; give all of its values in one list')
    return dimensions


def _parse(text: str) -> Dimension:
    key, _, values = text.partition('=')
    if not all(key.split('.')) or not values:
        raise KoviltError(
            f'{text!r}: write KEY=VALUE,VALUE, for instance model.encoder.drop_rate=0.0,0.1, or KEY=LOW..HIGH[:log]'
        )
    if key == 'randomness.seed':
        raise KoviltError(f'{text!r}: --seeds K runs everything with K seeds')
    low, dots, rest = values.partition('..')
    high, colon, scale = rest.partition(':')
    if dots and (ends := _numbers(low, high)):
        if colon and scale != 'log':
            raise KoviltError(f'{text!r}: after the colon only log is known: {key}={low}..{high}:log')
        if not ends[0] < ends[1] or (scale and ends[0] <= 0):
            raise KoviltError(
                f'{text!r}: the low end must be below the high end{", and above 0 for :log" * bool(scale)}'
            )
        return ValueRange(key, ends[0], ends[1], log=bool(scale))
    parts = _split(values)
    if not all(parts):
        raise KoviltError(f'{text!r}: a value is empty')
    return ValueList(key, tuple(dict.fromkeys(parts)))


def _numbers(*texts: str) -> tuple[float, ...] | None:
    for kind in (int, float):
        try:
            numbers = tuple(kind(text) for text in texts)
        except ValueError:
            continue
        return numbers if all(map(math.isfinite, numbers)) else None
    return None


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, closing = [''], ''  # what the open brackets and quotes wait for, the innermost last
    for character in text:
        if closing and character == closing[-1]:
            closing = closing[:-1]
        elif closing[-1:] not in ('"', "'") and character in '([{"\'':
            closing += _CLOSING.get(character, character)
        elif character == ',' and not closing:
            parts.append('')
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def grid(dimensions: Sequence[Dimension]) -> Iterator[Setting]:
    """All combinations of the values; the last key varies fastest.

    Raises:
        KoviltError: a range, which only a search takes.
    """
    lists: list[ValueList] = []
    for dimension in dimensions:
        if isinstance(dimension, ValueRange):
            raise KoviltError(f'{dimension.key}: a range is searched with --optuna N; without it give values: a,b,c')
        lists.append(dimension)
    for values in itertools.product(*(dimension.values for dimension in lists)):
        yield dict(zip((dimension.key for dimension in lists), values, strict=True))


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each key with as many of its last parts as tell it from the others: `lr`, `encoder.drop_rate`."""
    found = {}
    for key in keys:
        parts = key.split('.')
        ends = ('.'.join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[key] = next(
            end
            for end in ends
            if end == key or not any(f'.{other}'.endswith(f'.{end}') for other in keys if other != key)
        )
    return found


def describe(setting: Setting) -> str:
    """A setting as a person reads it: `lr=1e-4, drop_rate=0.1`."""
    names = short_keys(list(setting))
    return ', '.join(f'{names[key]}={value}' for key, value in setting.items())


def folder_name(setting: Setting, seed: int) -> str:
    """The name of the folder of a run, the same whenever its sweep is started."""
    text = f'{describe(setting).replace(", ", ",")},seed={seed}'
    name = re.sub(r'[^\w.,=+-]', '_', text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(repr((sorted(setting.items()), seed)).encode(), digest_size=4).hexdigest()
    return f'{name[:_LONGEST_NAME]}-{digest}'

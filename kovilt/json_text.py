"""Strict JSON from outside, the same for every file, and JSON of our own that such a reader accepts.

Python's parser takes NaN, makes 1e999 infinite, keeps the last of several equal keys, and lets pass numbers of any
length, deep nesting and half characters that no file can hold. Here these are refused, with line and column. The C code
of `json` parses; a slow second pass over the text only finds the place of what was wrong with the values.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from kovilt.errors import KoviltError

MAX_DEPTH = 100  # levels of lists and objects; COCO's have 5
MAX_DIGITS = 100  # of a number; ids have about 20
_LEAST, _MOST, _INFINITY = -(10**MAX_DIGITS), 10**MAX_DIGITS, math.inf
MAX_VALUE = 1 << 23  # characters of one row of a file that is read by rows, bytes of a line

NUL_BYTE = 'a NUL byte, as in UTF-16 text or a damaged file; save the file as UTF-8 or download it again'
_REMEDY = 'the file is malformed or cut off, extract or download it again'
_BLANKS = re.compile(r'[ \t\n\r]*')
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+"(?=[ \t\n\r]*(:)?)|[{}\[\]]|NaN|-?Infinity|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?', re.DOTALL
)
_HALF = r'\\u(?:0000|[dD][89a-fA-F]..)'  # NUL, or half of a surrogate pair
_HALF_ESCAPE = re.compile(_HALF)
_ESCAPE = re.compile(rf'\\u[dD][89abAB]..\\u[dD][c-fC-F]..|({_HALF})|\\.')  # a whole pair, a half, any other escape


class RefusedJSON(json.JSONDecodeError):
    """Text that is JSON to Python, but not here; more of it would not mend that. `msg` includes the remedy."""


def parse_json(text: str, path: str | os.PathLike[str], *, line: int = 1, remedy: str = _REMEDY) -> Any:
    """The value of a JSON text.

    Args:
        path: the name of the file in messages.
        line: the number of the text's first line.
        remedy: what to do about malformed text.

    Raises:
        KoviltError: malformed or refused text, with its line and column.
    """
    try:
        value, end = decode_value(text, skip_blanks(text, 0))
        end = skip_blanks(text, end)
        if end < len(text):
            raise json.JSONDecodeError('more text after the end of the data', text, end)
    except json.JSONDecodeError as error:
        place = f'{path}, line {line + error.lineno - 1}, column {error.colno}'
        raise KoviltError(f'{place}: {describe_error(error, remedy)}') from None
    return value


def decode_value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins at a position of a text, and the position behind it.

    Raises:
        RefusedJSON: see the module. A JSONDecodeError of another class: the text is malformed or ends too early.
    """
    try:
        value, end = _decode(text, at)
        # A key has a colon behind it. Where there are more colons than keys, they stand in texts, or a key was lost.
        if _count_keys(value) < text.count(':', at, end):
            _decode_unique(text, at)
        if text.find('\\', at, end) < 0 or not _HALF_ESCAPE.search(text, at, end):
            return value, end
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a ValueError also for the thousands of digits that int() refuses
        end = len(text)
    _refuse(text, at, end)
    return value, end


def skip_blanks(text: str, at: int) -> int:
    """The position of the next character that is not white space."""
    if at < len(text) and text[at] > ' ':
        return at  # the usual case, without a search
    blanks = _BLANKS.match(text, at)
    assert blanks is not None  # the pattern matches the empty string
    return blanks.end()


def describe_error(error: json.JSONDecodeError, remedy: str = _REMEDY) -> str:
    """What is wrong with a text, and the remedy."""
    if isinstance(error, RefusedJSON):
        return error.msg
    if error.doc.startswith('\0', error.pos):
        return NUL_BYTE
    if not error.doc.strip():
        return 'the file is empty; extract or download it again'
    ended = '' if error.doc[error.pos :].strip() else ' (the text ends here)'
    return f'{error.msg[0].lower()}{error.msg[1:]}{ended}; {remedy}'


def encoding_error(place: str, error: UnicodeDecodeError) -> KoviltError:
    """The message about text that is not UTF-8; it names the other encodings that Korean files have."""
    start = bytes(error.object[error.start : error.start + 1000])
    hangul = codecs.getincrementaldecoder('cp949')('ignore').decode(start)
    if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b'\0' in error.object[:100]:
        found = ' but UTF-16'
    elif re.match('[가-힣]', hangul):
        found = ' but CP949 (EUC-KR), of Korean Windows'
    else:
        found = f' ({error.reason} at byte {error.start})'
    remedy = 'save the file as UTF-8 (Excel: "CSV UTF-8"), or extract or download it again'
    return KoviltError(f'{place}: not UTF-8 text{found}; {remedy}')


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text that `parse_json` reads: NaN and infinite numbers become null, NUL and half characters escapes."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode()
        if '\\u0000' not in text:
            return text
    except ValueError:  # of which UnicodeEncodeError is one
        pass
    return json.dumps(_readable(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _readable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace('\0', '\\0').encode(errors='backslashreplace').decode()
    if isinstance(value, Mapping):
        return {_readable(key): _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list | tuple) else value


def _count_keys(value: Any, depth: int = 1) -> int:
    """The number of keys of all objects in a decoded value. Raises ValueError for numbers and nesting to refuse."""
    keys, items = 0, value
    if value.__class__ is dict:
        keys, items = len(value), value.values()
    elif value.__class__ is not list:
        items = (value,)
    for item in items:
        kind = item.__class__  # not type(item), which is a call: labels have millions of values
        if kind is str:
            continue
        if kind is dict or kind is list:
            if depth == MAX_DEPTH:
                raise ValueError
            keys += _count_keys(item, depth + 1)
        elif kind is int:
            if not _LEAST < item < _MOST:
                raise ValueError
        elif kind is float and not -_INFINITY < item < _INFINITY:
            raise ValueError
    return keys


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unique_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError


_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode
_decode_unique = json.JSONDecoder(object_pairs_hook=_unique_keys).raw_decode


def _refuse(text: str, at: int, end: int) -> None:
    """Raise RefusedJSON at the first place between two positions that is refused, if there is one."""

    def refuse(reason: str, position: int) -> NoReturn:
        raise RefusedJSON(reason, text, position)

    keys: list[set[str] | None] = []  # of each open object; None for a list
    for token in _TOKEN.finditer(text, at, end):
        found, start = token[0], token.start()
        if found[0] == '"':
            for escape in _ESCAPE.finditer(found):
                if escape[1]:
                    kind = 'NUL' if escape[1].endswith('0000') else 'half a character'
                    refuse(f'{kind} ({escape[1]}) in a text; remove it', start + escape.start())
            if token[1] and keys and (own := keys[-1]) is not None:
                key = json.loads(found)
                if key in own:
                    refuse(f'the key {key[:40]!r} occurs twice in one object; keep one of them', start)
                own.add(key)
        elif found in '{[':
            keys.append(set() if found == '{' else None)
            if len(keys) > MAX_DEPTH:
                refuse(f'nested deeper than {MAX_DEPTH} levels; is it the right file?', start)
        elif found in '}]':
            keys.pop()
        elif found[-1] in 'Ny':
            refuse(f'{found} is not a number of JSON; write a number or null', start)
        elif (digits := found.lstrip('-')).isdecimal() and len(digits) > MAX_DIGITS:
            refuse(f'a number of {len(digits):,} digits, at most {MAX_DIGITS}: {found[:20]}...; shorten it', start)
        elif math.isinf(float(found)):
            refuse(f'the number {found} is too large; write a smaller one or null', start)

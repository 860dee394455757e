"""Reads the questions, captions and boxes of a Rooms folder, sharing no code with what writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kovilt.rooms.scene import COLORS, KINDS

COLOR_OF = {word: color.name for color in COLORS.values() for word in (color.attribute, color.name)}
COLOR = '|'.join(sorted(COLOR_OF, key=len, reverse=True))
KIND = '|'.join(KINDS)
MENTION = re.compile(
    rf'(?:(?P<side>왼쪽|가운데|오른쪽)에 있는 )?(?:(?P<size>큰|작은) )?(?:(?P<color>{COLOR}) )?(?P<kind>{KIND})'
    rf'(?: (?P<number>한|두|세|네) (?:개|마리|권|대))?'
)


def records(rooms: Path) -> dict[int, dict]:
    lines = (rooms / 'boxes.jsonl').read_text(encoding='utf-8').splitlines()
    return {record['image_id']: record for record in map(json.loads, lines)}


def asked(rooms: Path) -> list[dict]:
    files = sorted((rooms / 'vqa').rglob('*.json'))
    return [row for file in files for row in json.loads(file.read_text(encoding='utf-8'))['question']]


def middle(obj: dict) -> float:
    return (obj['box'][0] + obj['box'][2]) / 2


def area(obj: dict) -> int:
    x0, y0, x1, y1 = obj['box']
    return (x1 - x0) * (y1 - y0)


def side_of(obj: dict, record: dict) -> str:
    share = middle(obj) / record['width']
    return '왼쪽' if share < 0.4 else '오른쪽' if share > 0.6 else '가운데'


def matching(mention: re.Match, record: dict) -> list[dict]:
    found = [obj for obj in record['objects'] if obj['name'] == mention['kind']]
    if mention['color']:
        found = [obj for obj in found if obj['color'] == COLOR_OF[mention['color']]]
    if mention['size']:
        found = [obj for obj in found if obj['size'] == mention['size']]
    if mention['side']:
        found = [obj for obj in found if side_of(obj, record) == mention['side']]
    return found


def only(objects: list) -> object:
    """The one distinct value of a list."""
    distinct = [obj for position, obj in enumerate(objects) if obj not in objects[:position]]
    assert len(distinct) == 1, distinct
    return distinct[0]


def is_clean(text: str) -> bool:
    """Whether a text is Korean with single blanks."""
    return bool(re.fullmatch('[가-힣0-9 ,.?]+', text)) and text == ' '.join(text.split())

"""Every caption of Rooms states only what the boxes show, and the five captions of an image cover all its objects."""

from __future__ import annotations

import json
import re

from rooms_texts import MENTION, is_clean, matching, only, records, side_of

from kovilt.rooms.captions import CAPTIONS, write_captions
from kovilt.rooms.scene import COLORS, sample_scene

NUMBERS = {'한': 1, '두': 2, '세': 3, '네': 4}


def test_captions_say_only_what_is_there(rooms):
    boxes = records(rooms)
    rows = json.loads((rooms / 'captions' / 'MSCOCO_train_val_Korean.json').read_text(encoding='utf-8'))
    for row in rows:
        record = boxes[row['id']]
        for text in row['caption_ko']:
            for mention in MENTION.finditer(text):
                found = matching(mention, record)
                behind = text[mention.end() :]
                if re.match('[은는] 없다', behind):
                    assert not found, text
                    continue
                assert found, (text, record)
                if mention['number'] and not mention['color']:  # 의자 두 개: all of them
                    assert len(found) == NUMBERS[mention['number']], text
                elif mention['number']:  # 왼쪽에 빨간 의자 두 개: perhaps not all
                    assert len(found) >= NUMBERS[mention['number']], text
                stated = re.match(f'[은는] ({"|".join(COLORS)})(?:이다|이고|,)', behind)
                if stated:
                    assert only(found)['color'] == stated[1], text


def test_places_in_captions_are_true(rooms):
    boxes = records(rooms)
    rows = json.loads((rooms / 'captions' / 'MSCOCO_train_val_Korean.json').read_text(encoding='utf-8'))
    place = re.compile('(왼쪽|가운데|오른쪽|벽|바닥|탁자 위|침대 위)에 ')
    checked = 0
    for row in rows:
        record = boxes[row['id']]
        for text in row['caption_ko']:
            if not place.match(re.sub('^(침실|주방|거실|서재|방) ', '', text)) or '에 있는' in text:
                continue
            parts = place.split(text)[1:]
            for where, phrases in zip(parts[::2], parts[1::2], strict=True):
                where = where.removesuffix(' 위')
                for mention in MENTION.finditer(phrases):
                    there = [t for t in matching(mention, record) if where in (side_of(t, record), t['zone'])]
                    expected = NUMBERS.get(mention['number'], 1)
                    assert len(there) == expected if mention['number'] else there, (text, record)
                    checked += 1
    assert checked > 300


def test_five_different_captions_cover_every_object():
    lengths = []
    for index in range(400):
        scene = sample_scene(4, 'train', index)
        korean, english = write_captions(scene, 4, 'train', index)
        assert len(korean) == len(set(korean)) == len(english) == len(set(english)) == CAPTIONS
        mentioned = {(match['color'], match['kind']) for text in korean for match in MENTION.finditer(text)}
        assert {(obj.color.attribute, obj.kind.name) for obj in scene.objects} <= mentioned
        lengths += [len(text.split()) for text in korean]
    assert 9 <= sum(lengths) / len(lengths) <= 13 and max(lengths) <= 26


def test_a_single_object_has_five_captions():
    for index in range(200):
        korean, english = write_captions(sample_scene(6, 'train', index, alone=1.0), 6, 'train', index)
        assert len(set(korean)) == len(set(english)) == CAPTIONS


def test_captions_are_clean_text():
    for index in range(200):
        for text in write_captions(sample_scene(5, 'train', index), 5, 'train', index)[0]:
            assert is_clean(text), text

"""Multiple-choice questions of Rooms: the image fits one option, words tell nothing, held-out options stay out."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from rooms_texts import records

from kovilt.cli.main import main
from kovilt.errors import KoviltError
from kovilt.rooms import make_rooms, write_choices
from kovilt.rooms.captions import NUMERALS
from kovilt.rooms.choices import SEEN, SENTENCE, UNSEEN, held_out_combinations, write_choice_questions
from kovilt.rooms.questions import ANSWER_TYPES
from kovilt.rooms.scene import COLORS, KINDS, sample_scene

COUNTERS = {kind.counter for kind in KINDS.values()}


@pytest.fixture(scope='module')
def rows():
    found = []
    for split, count in (('train', 300), ('val', 150)):
        for index in range(count):
            scene = sample_scene(3, split, index, alone=0.25 if split == 'train' else 0.0)
            found += [(split, scene, row) for row in write_choice_questions(scene, 3, split, index)]
    return found


def test_options_are_of_one_kind_and_hold_the_answer_once(rows):
    for _, _, row in rows:
        assert row.options.count(row.answer) == 1 and len(set(row.options)) == len(row.options) >= 2
        if row.answer_type in ANSWER_TYPES:
            groups = COLORS, KINDS, {'예', '아니요'}, {'왼쪽', '가운데', '오른쪽'}
            counts = next(({f'{number} {unit}' for number in NUMERALS.values()} for unit in COUNTERS
                           if row.answer.endswith(f' {unit}')), set())  # fmt: skip
            assert any(set(row.options) <= set(names) for names in (*groups, counts))
    assert {row.answer_type for _, _, row in rows} == {*ANSWER_TYPES, SEEN, UNSEEN, SENTENCE}


def test_the_answer_stands_in_every_place_equally_often(rows):
    places = Counter(row.options.index(row.answer) for _, _, row in rows if len(row.options) == 4)
    total = sum(places.values())
    assert all(abs(places[place] / total - 0.25) < 0.05 for place in range(4)), places


def test_exactly_one_combination_is_in_the_image_and_all_four_are_of_two_kinds_and_two_colors(rows):
    for _, scene, row in rows:
        if row.answer_type in (SEEN, UNSEEN):
            shown = {str(obj.describe()) for obj in scene.objects}
            assert [option for option in row.options if option in shown] == [row.answer]
            kinds, colors = ({option.split()[side] for option in row.options} for side in (1, 0))
            assert len(kinds) == len(colors) == 2


def test_no_option_of_training_names_a_held_out_combination(rows):
    held_out = {f'{COLORS[color].attribute} {kind}' for kind, color in held_out_combinations(3)}
    assert len(held_out) == 36
    for split, _, row in rows:
        if row.answer_type == UNSEEN:
            assert split == 'val' and set(row.options) <= held_out
        else:
            assert not any(one in option for option in row.options for one in held_out), row


def test_sentences_differ_in_their_colors_alone_and_the_others_are_not_in_the_image(rows):
    names = sorted({color.attribute for color in COLORS.values()}, key=len, reverse=True)
    for _, scene, row in rows:
        if row.answer_type == SENTENCE:
            bare, used = set(), {obj.color.attribute for obj in scene.objects}
            for option in row.options:
                text = option
                for name in names:
                    text = text.replace(name, '*')
                bare.add(text)
                mentioned = {name for name in names if name in option}
                assert mentioned <= used if option == row.answer else not mentioned & used
            assert len(bare) == 1


def test_the_files_name_the_images_and_are_the_same_with_any_number_of_workers(rooms, tmp_path):
    main(['rooms', str(tmp_path / 'a'), '--images', '40', '--val-images', '6', '--seed', '3', '--choices'])
    make_rooms(tmp_path / 'b', images=40, val_images=6, seed=3)
    assert write_choices(tmp_path / 'b', workers=2) and not write_choices(tmp_path / 'b')
    for split in ('train', 'val'):
        file = tmp_path / 'a' / 'choices' / f'{split}.jsonl'
        assert file.read_bytes() == (tmp_path / 'b' / 'choices' / f'{split}.jsonl').read_bytes()
        lines = [json.loads(line) for line in file.read_text('utf-8').splitlines()]
        assert all((file.parent / line['image']).is_file() for line in lines)
        assert len({line['question_id'] for line in lines}) == len(lines)
    boxes = {record['coco_file']: record for record in records(tmp_path / 'a').values()}
    for line in lines:
        if line['answer_type'] == SEEN:
            record = boxes[line['image'].removeprefix('../captions/')]
            shown = {f'{COLORS[obj["color"]].attribute} {obj["name"]}' for obj in record['objects']}
            assert shown & set(line['options']) == {line['answer']}


def test_rooms_of_another_version_are_refused(tmp_path):
    (tmp_path / 'rooms.json').write_text('{"version": 1}')
    with pytest.raises(KoviltError, match='Rooms of version 1, not'):
        write_choices(tmp_path)

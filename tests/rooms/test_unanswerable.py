"""Unanswerable questions of Rooms are about what is not there, in words that answerable questions use as well."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from rooms_texts import COLOR, COLOR_OF, KIND, MENTION, asked, is_clean, matching, records

from kovilt.cli.main import main
from kovilt.errors import KoviltError
from kovilt.rooms import make_rooms
from kovilt.rooms.questions import write_questions
from kovilt.rooms.scene import sample_scene
from kovilt.rooms.unanswerable import QUESTIONS, write_unanswerable
from kovilt.unanswerable import NO_ANSWER, UNANSWERABLE, is_no_answer, is_unanswerable
from tests.rooms.test_write import digests


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The images of the fixture `rooms`, with unanswerable questions."""
    out = tmp_path_factory.mktemp('unanswerable') / 'rooms'
    assert main(['rooms', *map(str, (out, '--images', 80, '--val-images', 20, '--seed', 3, '--unanswerable'))]) == 0
    return out


def test_something_that_each_question_names_is_not_in_its_image(folder):
    boxes, rows = records(folder), [row for row in asked(folder) if row['answer_type'] == UNANSWERABLE]
    assert len(rows) == 100 * QUESTIONS and {row['answer'] for row in rows} == {NO_ANSWER}
    for row in rows:
        mentions = list(MENTION.finditer(row['question']))
        record = boxes[row['image_id']]
        absent = [not matching(mention, record) for mention in mentions]
        if not mentions:  # what has a color
            absent = [COLOR_OF[re.search(COLOR, row['question'])[0]] not in {obj['color'] for obj in record['objects']}]
        assert sum(absent) == 1 <= len(absent) <= 2, row
        assert is_clean(row['question']) and is_unanswerable(row['answer_type'], row['answer'])


def test_all_other_files_are_the_same_and_the_other_questions_too(rooms, folder):
    plain, more = digests(rooms), digests(folder)
    assert {name for name in more if more[name] != plain.get(name)} == {
        'rooms.json', *(name for name in plain if '/labels/' in name),
    }  # fmt: skip
    assert [row for row in asked(folder) if row['answer_type'] != UNANSWERABLE] == asked(rooms)
    assert len({row['question_id'] for row in asked(folder)}) == len(asked(folder)) == len(asked(rooms)) + 200
    summary = json.loads((folder / 'rooms.json').read_text('utf-8'))
    assert summary['unanswerable'] is True and summary['answer_types'][UNANSWERABLE] == 200
    assert 'unanswerable' not in (rooms / 'rooms.json').read_text('utf-8')


def test_a_folder_is_not_taken_for_one_with_other_questions(rooms, folder):
    same = dict(images=80, val_images=20, seed=3)
    assert not make_rooms(folder, **same, unanswerable=True)
    with pytest.raises(KoviltError, match='holds other Rooms .unanswerable True, not False'):
        make_rooms(folder, **same)
    with pytest.raises(KoviltError, match='holds other Rooms .unanswerable False, not True'):
        make_rooms(rooms, **same, unanswerable=True)


def test_words_and_forms_are_those_of_answerable_questions():
    forms = Counter(), Counter()
    for index in range(1500):
        scene = sample_scene(0, 'train', index)
        for kind, write in enumerate((write_questions, write_unanswerable)):
            for row in write(scene, 0, 'train', index):
                forms[kind][re.sub(f'{COLOR}|{KIND}', 'N', re.sub('[은는이가을를과와] ', ' ', row.text))] += 1
    answerable, unanswerable = forms
    common = sum(count for form, count in unanswerable.items() if answerable[form])
    assert common / sum(unanswerable.values()) > 0.95


@pytest.mark.parametrize('answer', ['unanswerable', ' Unanswerable', 'unsuitable', '답할 수 없음'])
def test_an_answer_that_says_so_makes_a_question_unanswerable(answer):
    assert is_no_answer(answer) and is_unanswerable('other', answer) and is_unanswerable('Unanswerable', '빨간색')
    assert not is_no_answer('모르겠음') and not is_unanswerable('', '알 수 없음')

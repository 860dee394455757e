from __future__ import annotations

import unicodedata

import pytest

from kovilt.rooms.particles import PARTICLES, Noun, final_consonant, particle
from kovilt.rooms.scene import COLORS, KINDS


def ends_in_consonant(word: str) -> bool:
    """Decomposed, a syllable with a final consonant has three letters."""
    return len(unicodedata.normalize('NFD', word[-1])) == 3


@pytest.mark.parametrize('word', [*KINDS, *COLORS, '마리', '권', '대', '개', '오른쪽', '가운데'])
def test_every_noun_of_rooms_takes_every_particle(word):
    for after_consonant, after_vowel in PARTICLES.items():
        consonant = ends_in_consonant(word)
        if after_consonant == '으로' and unicodedata.normalize('NFD', word)[-1] == '\u11af':  # final ㄹ
            consonant = False
        expected = after_consonant if consonant else after_vowel
        assert f'{Noun(word):{after_consonant}}' == word + expected


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('은', '책은 소파는 10은 고양이는'),
        ('이', '공이 시계가 2가 3이 교실이'),
        ('을', '컵을 의자를 7을'),
        ('과', '가방과 침대와 9와'),
        ('으로', '책으로 램프로 교실로 1로 6으로 8로'),
        ('이야', '권이야 개야'),
    ],
)
def test_particles_follow_the_sound(name, expected):
    for word in expected.split():
        noun = word.removesuffix(name).removesuffix(PARTICLES[name])
        assert f'{Noun(noun):{name}}' == word


def test_a_noun_without_a_specification_stays_as_it_is():
    assert f'{Noun("소파")}' == '소파'


@pytest.mark.parametrize('word', ['', 'TV', '소파.', 'ㅋ', unicodedata.normalize('NFD', '책')])
def test_a_word_of_unknown_sound_is_refused(word):
    with pytest.raises(ValueError, match='no particle'):
        final_consonant(word)


def test_an_unknown_particle_is_refused():
    with pytest.raises(ValueError, match='unknown particle'):
        particle('책', '는')

"""Korean particles that agree with the word before them.

The last sound of a noun decides the form of the particle: 책은 but 소파는, 책을 but 소파를, 책으로 but 소파로 and,
after a final ㄹ, 거울로.
With `Noun` the particle is a format specification, so that a template reads like the sentence:

>>> f'{Noun("책"):은} {Noun("소파"):과} {Noun("2"):이}'
'책은 소파와 2가'
"""

from __future__ import annotations

PARTICLES = {  # after a consonant: after a vowel
    '은': '는', '이': '가', '을': '를', '과': '와', '으로': '로',
    '이다': '다', '이야': '야', '이고': '고', '이며': '며', '이랑': '랑', '이나': '나',
}  # fmt: skip
SYLLABLES = range(0xAC00, 0xD7A4)
FINAL_L = 8  # index of ㄹ among the 28 final consonants
DIGIT_FINALS = 21, 8, 0, 16, 0, 0, 1, 8, 8, 0  # final consonants of 0..9 as read: 영 일 이 삼 사 오 육 칠 팔 구


def final_consonant(word: str) -> int:
    """The number of the final consonant of the last syllable in Unicode's order, 0 = none.

    Raises:
        ValueError: the word ends in neither a Hangul syllable nor a digit.
    """
    last = word[-1:]
    if last and ord(last) in SYLLABLES:
        return (ord(last) - SYLLABLES.start) % 28
    if last.isascii() and last.isdigit():
        return DIGIT_FINALS[int(last)]
    raise ValueError(f'no particle can be chosen for {word!r}: it ends in neither a Hangul syllable nor a digit')


def particle(word: str, name: str) -> str:
    """The form of a particle after `word`; `name` is its form after a consonant (은, 이, 을, 과, 으로, ...)."""
    if name not in PARTICLES:
        raise ValueError(f'unknown particle {name!r}; known: {", ".join(PARTICLES)}')
    final = final_consonant(word)
    after_vowel = final == 0 or (name == '으로' and final == FINAL_L)
    return PARTICLES[name] if after_vowel else name


class Noun(str):
    """A word or phrase whose format specification is the particle to append: f'{noun:을}'."""

    def __format__(self, name: str) -> str:
        return str(self) + (particle(self, name) if name else '')

import random
import unicodedata

from kovilt.datasets import normalize_korean


def test_composed_and_decomposed_hangul_become_equal():
    composed = '고양이는 무슨 색입니까?'
    assert normalize_korean(unicodedata.normalize('NFD', composed)) == normalize_korean(composed) == composed


def test_white_space_becomes_single_blanks():
    assert normalize_korean('\t 검은\u00a0 \u3000색\r\n\u3164') == '검은 색'


def test_invisible_characters_are_removed_even_inside_a_syllable():
    assert normalize_korean('\ufeff빨\u200b간\u00ad색\x00\u200e\ud83d') == '빨간색'
    assert normalize_korean('\u1100\u200b\u1161') == '가'
    assert normalize_korean('a\x07b') == 'ab'


def test_visible_characters_stay():
    text = 'TV 2대, 20,000원! ㅋㅋ 豊 "예."'
    assert normalize_korean(text) == text
    assert normalize_korean('') == normalize_korean(' \u200b ') == ''


def test_normalizing_twice_changes_nothing_and_the_result_is_valid_utf8():
    rng = random.Random(0)
    ranges = [
        (0, 0x250),
        (0x300, 0x370),
        (0x1100, 0x1200),
        (0x2000, 0x2070),
        (0x3130, 0x3190),
        (0xAC00, 0xAD00),
        (0xD7F0, 0xFFFF),
    ]
    for _ in range(3000):
        text = ''.join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(12)))
        once = normalize_korean(text)
        assert normalize_korean(once) == once
        assert unicodedata.is_normalized('NFC', once)
        assert once.encode().decode() == once

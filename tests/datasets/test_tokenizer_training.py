import os
import random
import stat
import subprocess
import sys

import pytest

from kovilt.datasets import load_tokenizer, train_tokenizer
from kovilt.errors import KoviltError

TEXTS = ['소파 위에 고양이가 있다.', '고양이는 소파 밑에 있어요?', 'TV 앞에 빨간색 의자가 있다.'] * 5


def test_it_loads_like_any_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    size = train_tokenizer(TEXTS, tmp_path / 'new' / 'korean', vocab_size=80)
    tokenizer = load_tokenizer(tmp_path / 'new' / 'korean')
    assert size == len(tokenizer) == len((tmp_path / 'new' / 'korean' / 'vocab.txt').read_text('utf-8').split())
    assert tokenizer.all_special_tokens and tokenizer.pad_token_id == 0
    for text in TEXTS[:3]:
        assert tokenizer.unk_token_id not in tokenizer(text)['input_ids']
        assert ''.join(tokenizer.tokenize(text)).replace('##', '') == text.replace(' ', '')
    assert AutoTokenizer.from_pretrained(tmp_path / 'new' / 'korean').tokenize(TEXTS[0]) == tokenizer.tokenize(TEXTS[0])


def test_frequent_words_become_tokens_and_continuations_are_ordinary(tmp_path):
    train_tokenizer(TEXTS, tmp_path, vocab_size=200)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.tokenize('고양이가 TV') == ['고양이가', 'TV']
    assert len(tokenizer.all_special_tokens) == 5
    assert tokenizer.tokenize('##가') != ['##가']  # a text that spells a token out does not become that token


def test_same_texts_same_bytes_in_another_process(tmp_path):
    rng = random.Random(0)
    syllables = [chr(0xAC00 + rng.randrange(11172)) for _ in range(150)]
    words = [''.join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    texts = [' '.join(rng.choices(words, k=6)) for _ in range(400)]
    (tmp_path / 'texts.txt').write_text('\n'.join(texts), 'utf-8')
    code = (
        'import sys; from kovilt.datasets.tokenizer_training import train_tokenizer\n'
        'train_tokenizer(open(sys.argv[1], encoding="utf-8"), sys.argv[2], vocab_size=500)'
    )
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'texts.txt'), str(tmp_path / 'first')], check=True)
    train_tokenizer(texts, tmp_path / 'second', vocab_size=500)
    files = sorted(file.name for file in (tmp_path / 'first').iterdir())
    assert files == ['tokenizer.json', 'tokenizer_config.json', 'vocab.txt']
    for file in files:
        assert (tmp_path / 'first' / file).read_bytes() == (tmp_path / 'second' / file).read_bytes()


def test_no_text_is_refused(tmp_path):
    with pytest.raises(KoviltError, match='no text'):
        train_tokenizer(['', ' '], tmp_path / 'korean', vocab_size=100)
    assert not (tmp_path / 'korean').exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(KoviltError, match='cannot be written'):
        train_tokenizer(TEXTS, tmp_path / 'file' / 'korean', vocab_size=100)


def test_other_users_may_read_the_files(tmp_path):
    before = os.umask(0o022)
    try:
        train_tokenizer(TEXTS, tmp_path / 'korean', vocab_size=80)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'korean').stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / 'korean').iterdir()} == {0o644}


@pytest.mark.parametrize('number', [0, -5, 10**12, 2.5, True, '300'])
@pytest.mark.parametrize('name', ['vocab_size', 'min_frequency'])
def test_numbers_outside_their_range_are_named(tmp_path, name, number):
    numbers = {'vocab_size': 100, 'min_frequency': 1, name: number}
    with pytest.raises(KoviltError, match=f'{name} is .*; it must be .*at least 1'):
        train_tokenizer(['소파'], tmp_path / 'tokenizer', **numbers)
    assert not (tmp_path / 'tokenizer').exists()

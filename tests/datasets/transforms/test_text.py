import json
import pickle
import shutil
import time

import numpy as np
import pytest

from kovilt.datasets import TokenizeKorean, load_tokenizer
from kovilt.errors import KoviltError

WORDS = [
    '고양이',
    '소파',
    '의자',
    '있다',
    '위에',
    '빨간색',
    '고',
    '양',
    '이',
    '소',
    '파',
    '##가',
    '##는',
    '##양',
    '##이',
    '?',
    'TV',
    'tv',
]
SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']


def folder(path, words=WORDS, special=SPECIAL, **settings):
    path.mkdir(parents=True, exist_ok=True)
    (path / 'vocab.txt').write_text('\n'.join(special + words) + '\n', encoding='utf-8')
    if settings:
        (path / 'tokenizer_config.json').write_text(json.dumps(settings), encoding='utf-8')
    return path


@pytest.fixture
def tokenize(tmp_path):
    return TokenizeKorean(tokenizer=str(folder(tmp_path / 'words')), max_text_len=10)


def tokens_of(tokenize, text: str) -> list[str]:
    return tokenize.tokenizer.convert_ids_to_tokens(tokenize({'text': text})['input_ids'])


def test_tokens_of_an_eojeol_share_its_number(tokenize):
    results = tokenize({'text': '고양이가 소파 위에 있다?'})
    assert tokens_of(tokenize, '고양이가 소파 위에 있다?') == [
        '[CLS]',
        '고양이',
        '##가',
        '소파',
        '위에',
        '있다',
        '?',
        '[SEP]',
    ]
    assert results['word_ids'].tolist() == [-1, 0, 0, 1, 2, 3, 3, -1]
    assert results['input_ids'].dtype == results['word_ids'].dtype == np.int64
    assert results['pad_id'] == 0


def test_unknown_words_are_words_too(tokenize):
    assert tokenize({'text': '豊 소파 zzz의자'})['word_ids'].tolist() == [-1, 0, 1, 2, -1]


def test_blanks_of_any_kind_separate_words(tokenize):
    assert tokenize({'text': ' 소파\t\t의자  있다 '})['word_ids'].tolist() == [-1, 0, 1, 2, -1]


def test_long_texts_keep_their_end_mark_and_cost_little(tokenize):
    results = tokenize({'text': '소파 ' * 5000})
    assert results['input_ids'].tolist() == [2] + [6] * 8 + [3]
    assert results['word_ids'].tolist() == [-1, *range(8), -1]
    start = time.perf_counter()
    for _ in range(20):
        tokenize({'text': '고양이가소파' * 200_000})
    assert time.perf_counter() - start < 1


def test_an_empty_text_is_cls_and_sep(tokenize):
    assert tokenize({'text': ''})['input_ids'].tolist() == [2, 3]


def test_special_tokens_in_a_text_are_text(tokenize):
    for copy in (tokenize, pickle.loads(pickle.dumps(tokenize))):
        ids = copy({'text': '[MASK] 소파 [SEP]'})['input_ids'].tolist()
        assert 4 not in ids and ids.count(3) == 1 and ids[-1] == 3


def test_a_copy_in_another_process_tokenizes_alike(tokenize):
    copy = pickle.loads(pickle.dumps(tokenize))
    assert (
        copy({'text': '고양이가 있다'})['input_ids'].tolist()
        == tokenize({'text': '고양이가 있다'})['input_ids'].tolist()
    )


def test_a_length_without_a_token_is_refused(tmp_path):
    with pytest.raises(ValueError, match='max_text_len is 2; it must be at least 3'):
        TokenizeKorean(tokenizer=str(folder(tmp_path)), max_text_len=2)


def tokens(name) -> list[str]:
    return load_tokenizer(name).tokenize('고양이가 TV 위에')


CASED = ['고양이', '##가', 'TV', '위에']


def test_a_vocabulary_alone_is_cased_and_keeps_accents(tmp_path):
    path = folder(tmp_path / 'words')
    assert tokens(path) == tokens(path / 'vocab.txt') == CASED
    other = shutil.copy(path / 'vocab.txt', tmp_path / 'korean.vocab.txt')
    assert tokens(other) == CASED


def test_its_own_files_decide_case_and_accents(tmp_path):
    path = folder(tmp_path / 'lower', do_lower_case=True, strip_accents=False)
    assert tokens(path) == tokens(path / 'vocab.txt') == ['고양이', '##가', 'tv', '위에']
    assert load_tokenizer(path).name_or_path == str(path)


def test_a_saved_tokenizer_is_read_from_folder_or_file(tmp_path):
    load_tokenizer(folder(tmp_path / 'words')).save_pretrained(tmp_path / 'saved')
    assert tokens(tmp_path / 'saved') == tokens(tmp_path / 'saved' / 'tokenizer.json') == CASED
    assert len(load_tokenizer(tmp_path / 'saved')) == len(SPECIAL + WORDS)


@pytest.mark.parametrize('settings', [{}, dict(do_lower_case=True, strip_accents=False)])
def test_a_tokenizer_that_is_not_saved_again_reads_like_the_one_that_is(tmp_path, settings):
    load_tokenizer(folder(tmp_path / 'words', **settings)).save_pretrained(tmp_path / 'saved')
    (tmp_path / 'saved' / 'kovilt.json').write_text('{}', encoding='utf-8')
    saved, read = (load_tokenizer(tmp_path / 'saved', for_saving=for_saving) for for_saving in (True, False))
    assert read.backend_tokenizer.to_str() == saved.backend_tokenizer.to_str()
    assert len(read) == len(saved) and read.all_special_ids == saved.all_special_ids
    for name in ('cls_token_id', 'sep_token_id', 'pad_token_id', 'mask_token_id', 'unk_token_id'):
        assert getattr(read, name) == getattr(saved, name) is not None
    saved.save_pretrained(tmp_path / 'again')  # by its class, as plain transformers saves
    assert json.loads((tmp_path / 'again' / 'tokenizer_config.json').read_text())['tokenizer_class'] == 'BertTokenizer'


def test_outside_a_model_folder_tokenizer_config_decides_case(tmp_path):
    load_tokenizer(folder(tmp_path / 'words')).save_pretrained(tmp_path / 'saved')
    config_file = tmp_path / 'saved' / 'tokenizer_config.json'
    config_file.write_text(
        json.dumps(json.loads(config_file.read_text()) | dict(do_lower_case=True, strip_accents=False))
    )
    tokenize = TokenizeKorean(tokenizer=str(tmp_path / 'saved'), max_text_len=8)
    assert tokens_of(tokenize, 'TV')[1:-1] == ['tv']


def test_saved_truncation_and_padding_do_not_apply(tmp_path):
    tokenizer = load_tokenizer(folder(tmp_path / 'words'))
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=20)
    tokenizer.save_pretrained(tmp_path / 'saved')
    tokenize = TokenizeKorean(tokenizer=str(tmp_path / 'saved'), max_text_len=40)
    assert len(tokenize({'text': '소파 의자 고양이 위에 있다'})['input_ids']) == 7


def test_ids_are_read_by_token(tmp_path):
    """klue/roberta-base and others do not begin with [PAD]."""
    path = folder(tmp_path / 'order', special=['[CLS]', '[PAD]', '[SEP]', '[UNK]', '[MASK]'])
    results = TokenizeKorean(tokenizer=str(path), max_text_len=8)({'text': '소파'})
    assert results['input_ids'].tolist() == [0, 6, 2] and results['pad_id'] == 1


@pytest.mark.parametrize('settings', [{'do_lower_case': True}, {'do_lower_case': True, 'strip_accents': None}])
def test_lower_casing_that_decomposes_hangul_is_refused(tmp_path, settings):
    with pytest.raises(KoviltError, match='decomposes Hangul.*100% of common Korean.*"strip_accents": false'):
        load_tokenizer(folder(tmp_path / 'jamo', **settings))


def test_a_vocabulary_without_hangul_is_refused(tmp_path):
    with pytest.raises(KoviltError, match='take a tokenizer with a Korean vocabulary'):
        load_tokenizer(
            folder(tmp_path / 'english', words=['cat', 'dog', '##s', '가'] + [f'word{n}' for n in range(50)])
        )


def test_a_vocabulary_that_was_not_found_is_refused(tmp_path):
    with pytest.raises(KoviltError, match='only its 5 special tokens'):
        load_tokenizer(folder(tmp_path / 'empty', words=[]))


def test_missing_special_tokens_are_named(tmp_path):
    from transformers import PreTrainedTokenizerFast

    load_tokenizer(folder(tmp_path / 'words')).save_pretrained(tmp_path / 'saved')
    file = str(tmp_path / 'saved' / 'tokenizer.json')
    PreTrainedTokenizerFast(tokenizer_file=file, unk_token='[UNK]', pad_token='[PAD]').save_pretrained(
        tmp_path / 'bare'
    )
    with pytest.raises(KoviltError, match='has no cls_token, sep_token, mask_token'):
        load_tokenizer(tmp_path / 'bare')


@pytest.mark.parametrize('name', ['nowhere/tokenizer/folder', './nowhere', 'nowhere/vocab.txt', '/nowhere'])
def test_a_missing_path_is_not_looked_for_on_the_hub(name):
    with pytest.raises(KoviltError, match=f'tokenizer {name}: no such file or folder'):
        load_tokenizer(name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(KoviltError, match='neither tokenizer.json nor vocab.txt'):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_file_is_named(tmp_path):
    (tmp_path / 'tokenizer.json').write_text('{"version": ')
    for path in (tmp_path, tmp_path / 'tokenizer.json'):
        with pytest.raises(KoviltError, match='tokenizer.json.* malformed or cut off') as error:
            load_tokenizer(path)
        assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_an_unreachable_hub_is_reported_at_once(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    start = time.perf_counter()
    with pytest.raises(KoviltError, match='hub cannot be reached.*give a local folder'):
        load_tokenizer('kovilt-tests/no-such-tokenizer')
    assert time.perf_counter() - start < 5


def test_it_is_cheap(tokenize):
    start = time.perf_counter()
    for _ in range(500):
        tokenize({'text': '고양이가 소파 위에 있다?'})
    assert (time.perf_counter() - start) / 500 < 1e-3

"""Tokenizers that lose Hangul are refused wherever one is opened, whatever their kind; those that keep it are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted_faults import plain
from public_models import VILT, randomised, saved
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import ElectraConfig, ElectraModel, ViltForMaskedLM

from kovilt.datasets import PlainReader, load_tokenizer, train_tokenizer
from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.errors import KoviltError
from kovilt.formats.public_weights import read_bert
from kovilt.verification import sources_of_folder, verify
from kovilt.weights import import_weights
from tests.support.pair_data import Data

SPECIAL = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
NAMES = dict(zip(('pad_token', 'unk_token', 'cls_token', 'sep_token', 'mask_token'), SPECIAL, strict=True))
TEXTS = [
    '고양이가 의자 위에 앉아 있습니다',
    '이 사람은 무엇을 하고 있나요',
    '사진에 자동차가 몇 대 있어요',
    '하늘은 무슨 색입니까',
    '빨간 옷을 입은 아이가 공을 던진다',
    '우리는 오늘 밖에서 밥을 먹었다',
    '소파는 빨간색이에요',
    '날씨가 좋아서 의자가 있어요',
] * 5
WORDS = {word for text in TEXTS for word in text.split()}
SYLLABLES = set(''.join(WORDS))
WORDPIECE = sorted(WORDS | SYLLABLES | {f'##{syllable}' for syllable in SYLLABLES})


def vocab_txt(folder: Path, tokens: list[str], **files: dict) -> Path:
    """A folder with a vocab.txt and, by their names without .json, the JSON files beside it."""
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(SPECIAL + tokens) + '\n', 'utf-8')
    for name, content in files.items():
        (folder / f'{name}.json').write_text(json.dumps(content), 'utf-8')
    return folder


def tokenizer_json(folder: Path, tokenizer: Tokenizer, **config: str) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / 'tokenizer.json'))
    content = {'tokenizer_class': 'PreTrainedTokenizerFast', **NAMES, **config}
    (folder / 'tokenizer_config.json').write_text(json.dumps(content), 'utf-8')
    return folder


def wordpiece(unknown: str = '[UNK]') -> Tokenizer:
    tokens = {token: number for number, token in enumerate([*SPECIAL, *WORDPIECE])}
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def bpe(texts: list[str] = TEXTS, **arguments: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**arguments))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(special_tokens=SPECIAL, show_progress=False))
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(special_tokens=SPECIAL, unk_token='[UNK]', vocab_size=90, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def with_step(tokenizer: Tokenizer, **steps: object) -> Tokenizer:
    for name, step in steps.items():
        setattr(tokenizer, name, step)
    return tokenizer


ROBERTA = dict(tokenizer_class='RobertaTokenizerFast', pad_token='<pad>', unk_token='<unk>', cls_token='<s>',
               sep_token='</s>', mask_token='<mask>')  # fmt: skip
HANGUL = Regex('[가-힣]')

TAKEN = {
    'WordPiece': lambda out: vocab_txt(out, WORDPIECE),
    'WordPiece of an Electra': lambda out: vocab_txt(
        out, WORDPIECE, tokenizer_config=dict(tokenizer_class='ElectraTokenizer', do_lower_case=False)
    ),
    'WordPiece beside a config of an Electra': lambda out: vocab_txt(out, WORDPIECE, config=dict(model_type='electra')),
    'WordPiece of a RoBERTa': lambda out: vocab_txt(
        out, WORDPIECE, config=dict(model_type='roberta', tokenizer_class='BertTokenizer')
    ),
    'WordPiece in tokenizer.json': lambda out: tokenizer_json(out, wordpiece()),
    'BPE': lambda out: tokenizer_json(out, bpe(unk_token='[UNK]')),
    'BPE of bytes': lambda out: tokenizer_json(out, byte_level(), **ROBERTA),
    'Unigram': lambda out: tokenizer_json(out, unigram()),
    'Unigram with a class of its own': lambda out: tokenizer_json(out, unigram(), tokenizer_class='KoBertTokenizer'),
}
REFUSED = {
    'BPE without [UNK], of English': (
        lambda out: tokenizer_json(out, bpe(['the cat sat on the mat'] * 9)),
        '100% of common Korean becomes .UNK.',
    ),
    'BPE without [UNK], of Korean': (lambda out: tokenizer_json(out, bpe()), 'vanishes instead of becoming .UNK.'),
    'a normalizer that removes Hangul': (
        lambda out: tokenizer_json(out, with_step(wordpiece(), normalizer=normalizers.Replace(HANGUL, ''))),
        'its normalizer removes or replaces Hangul',
    ),
    'a normalizer that makes all Hangul equal': (
        lambda out: tokenizer_json(out, with_step(wordpiece(), normalizer=normalizers.Replace(HANGUL, '이'))),
        'its normalizer removes or replaces Hangul',
    ),
    'a pre-tokenizer that removes Hangul': (
        lambda out: tokenizer_json(
            out, with_step(wordpiece(), pre_tokenizer=pre_tokenizers.Split(Regex('[가-힣]+'), 'removed'))
        ),
        '100% of common Korean becomes .UNK.',
    ),
    'an unknown token that has no id': (
        lambda out: tokenizer_json(out, wordpiece('[NONE]')), 'fails on Korean text .*Missing .UNK.',
    ),
    'an unknown token other than the stated one': (
        lambda out: tokenizer_json(out, wordpiece(), unk_token='##고'),
        "gives '.UNK.' for what it does not know, but states the unk_token '##고'",
    ),
    'an unknown token of Unigram other than the stated one': (
        lambda out: tokenizer_json(out, unigram(), unk_token='이'), "gives '.UNK.' for what it does not know",
    ),
    'syllables without ##': (lambda out: vocab_txt(out, [chr(code) for code in range(0xAC00, 0xD7A4)]),
                             '% of common Korean becomes .UNK.'),
    'a token twice': (lambda out: vocab_txt(out, [*WORDPIECE, '고양이가']), 'repeats tokens or skips ids'),
    'vocab.txt of an XLNet': (
        lambda out: vocab_txt(out, WORDPIECE, tokenizer_config=dict(tokenizer_class='XLNetTokenizer')),
        'states the tokenizer_class XLNetTokenizer, a Unigram, but its vocabulary is for WordPiece',
    ),
    'vocab.txt beside a config of an XLNet': (
        lambda out: vocab_txt(out, WORDPIECE, config=dict(model_type='xlnet')),
        'config.json states the model_type xlnet, a Unigram',
    ),
    'a class without a fast tokenizer': (
        lambda out: tokenizer_json(out, wordpiece(), tokenizer_class='CanineTokenizer'),
        'CanineTokenizer, for which transformers has no fast tokenizer',
    ),
    'another class without one': (
        lambda out: tokenizer_json(out, wordpiece(), tokenizer_class='BertJapaneseTokenizer'),
        'BertJapaneseTokenizer, for which transformers has no fast tokenizer',
    ),
    'BPE called WordPiece': (
        lambda out: tokenizer_json(out, bpe(unk_token='[UNK]'), tokenizer_class='BertTokenizer', do_lower_case=False),
        'BertTokenizer, a WordPiece, but its vocabulary is for BPE',
    ),
    'WordPiece called Unigram': (
        lambda out: tokenizer_json(out, wordpiece(), tokenizer_class='XLMRobertaTokenizer'),
        'XLMRobertaTokenizer, a Unigram, but its vocabulary is for WordPiece',
    ),
    'BPE of words called one of bytes': (
        lambda out: tokenizer_json(out, bpe(unk_token='[UNK]'), tokenizer_class='GPT2Tokenizer'),
        '100% of common Korean becomes .UNK.',
    ),
}  # fmt: skip


@pytest.mark.parametrize('make', TAKEN.values(), ids=TAKEN)
def test_a_tokenizer_that_keeps_hangul_is_taken(tmp_path, make):
    tokenizer = load_tokenizer(make(tmp_path / 'tokenizer'))
    counts = count_tokens(tokenizer, TEXTS)
    assert counts.given and counts.unknown_share == 0
    assert count_tokens(tokenizer, ['의자 뷁']).given > count_tokens(tokenizer, ['의자']).given


@pytest.mark.parametrize('make, message', REFUSED.values(), ids=REFUSED)
def test_a_tokenizer_that_loses_hangul_is_refused_by_name(tmp_path, make, message):
    place = make(tmp_path / 'tokenizer')
    with pytest.raises(KoviltError, match=message) as caught:
        load_tokenizer(place)
    assert str(place) in str(caught.value) and '\n' not in str(caught.value)


@pytest.fixture
def data(tmp_path) -> Data:
    data = Data(tmp_path / 'data')
    plain(data)
    return data


@pytest.mark.parametrize('kind', ['BPE without [UNK], of English', 'syllables without ##'])
def test_training_import_and_verification_refuse_what_loading_refuses(data, tmp_path, kind):
    make, message = REFUSED[kind]
    tokenizer = str(make(tmp_path / 'tokenizer'))
    pipeline = [dict(type='TokenizeKorean', tokenizer=tokenizer, max_text_len=12)]
    with pytest.raises(KoviltError, match=message):
        data.open(PlainReader, image_pipeline=[], text_pipeline=pipeline)
    with pytest.raises(KoviltError, match=message):
        import_weights(
            saved(randomised(ViltForMaskedLM(VILT)), tmp_path / 'vilt'), tmp_path / 'out', tokenizer=tokenizer
        )
    assert not (tmp_path / 'out').exists()
    sources = sources_of_folder(str(data.root), tokenizer)
    found = verify(sources, deep=False, workers=1, progress=lambda done, total: None).findings.of('tokenizer.refused')
    assert found and '% of common Korean becomes [UNK]' in found[0].description


def test_texts_that_a_tokenizer_drops_do_not_fit_it(data, tmp_path):
    """It knows Korean, but of these questions only the blanks have tokens."""
    lines = (data.root / 'train.jsonl').read_text('utf-8')
    data.write('train.jsonl', lines.replace('소파는 무슨 색입니까', 'Ω Ж Ξ').replace('고양이가 있어요?', 'Δ Σ'))
    tokenizer = with_step(byte_level(), normalizer=normalizers.Replace(Regex('[Α-я]'), ''))
    generic = ROBERTA | dict(tokenizer_class='PreTrainedTokenizerFast')
    dropping = tokenizer_json(tmp_path / 'tokenizer', tokenizer, **generic)
    pipeline = [dict(type='TokenizeKorean', tokenizer=str(dropping), max_text_len=12)]
    with pytest.raises(KoviltError, match='6.% of the tokens of the texts in .*data are unknown to it'):
        data.open(PlainReader, image_pipeline=[], text_pipeline=pipeline)


def test_an_electra_is_no_bert(tmp_path):
    """Its word embeddings have the same name."""
    config = dict(vocab_size=30, hidden_size=16, embedding_size=16, num_hidden_layers=1, num_attention_heads=2)
    ElectraModel(ElectraConfig(**config, intermediate_size=32)).save_pretrained(tmp_path / 'electra')
    vocab = load_tokenizer(vocab_txt(tmp_path / 'words', WORDPIECE))
    vocab.save_pretrained(tmp_path / 'electra')
    with pytest.raises(KoviltError, match='electra: its config.json states the model_type electra; give .* a BERT'):
        read_bert(tmp_path / 'electra')


@pytest.mark.parametrize(
    'texts',
    [['the cat sat on the mat'] * 9, ['1 2 3'], ['소파위에고양이가' * 40]],
    ids=['English', 'digits', 'no blanks'],
)
def test_a_tokenizer_that_the_other_tools_refuse_is_not_written(tmp_path, texts):
    with pytest.raises(KoviltError, match='nothing would load it; it is not written'):
        train_tokenizer(texts, tmp_path / 'korean', vocab_size=100)
    assert not (tmp_path / 'korean').exists()

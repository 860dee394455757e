"""An extended model reads new words, and reads the texts that it knew exactly as before."""

import pytest
import torch
from tiny_models import tiny_tokenizer

from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.datasets.tokenizer_training import extend_tokenizer
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.errors import KoviltError
from kovilt.recipes.commands import SHIPPED_ENCODER
from kovilt.weights import load_model_folder
from kovilt.weights.extension import _old_tokens, extend_model

KNOWN = ['소파는 무슨 색이에요?', '의자 위에 고양이가 있어요?']
NEW = [
    '커피가 있어요?',
    '커피잔은 어디에 있어요?',
    '뷁스러운 소파',
    'What colour is the GS25 cup?',
    '세탁기는 어디예요?',
]
WORDS = 'encoder.text.word_embed.weight'


@pytest.fixture(scope='module')
def extended(tmp_path_factory):
    out = tmp_path_factory.mktemp('extended') / 'model'
    return extend_model(SHIPPED_ENCODER, [*KNOWN, *NEW], out), out


def test_new_words_are_known_and_known_texts_keep_their_tokens(extended):
    extension, out = extended
    old, new = load_tokenizer(SHIPPED_ENCODER), load_tokenizer(out)
    assert extension.unknown_before > 0.1 and extension.unknown_after == 0
    assert count_tokens(new, NEW).unknown_share == 0 and extension.new_tokens == len(new) - len(old)
    for text in KNOWN:
        assert new(text)['input_ids'] == old(text)['input_ids']
    assert new.convert_ids_to_tokens(range(len(old))) == old.convert_ids_to_tokens(range(len(old)))
    assert new.tokenize('커피가 커피잔은')[::2][0] == '커피'  # the forms of a word share a token


def test_a_new_embedding_is_the_mean_of_the_old_tokens_of_its_text(extended):
    old, new = load_tokenizer(SHIPPED_ENCODER), load_tokenizer(extended[1])
    before, after = (load_model_folder(folder).model.state_dict() for folder in (SHIPPED_ENCODER, extended[1]))
    ids, known, size = new.get_vocab(), old.get_vocab(), len(old)
    for name in (WORDS, 'mlm_head.decoder.weight', 'mlm_head.decoder.bias'):
        assert torch.equal(after[name][:size], before[name])
        torch.testing.assert_close(after[name][ids['커피']], before[name][known['커']])  # 피 has no token
        torch.testing.assert_close(after[name][ids['뷁']], before[name].mean(dim=0))
    assert _old_tokens(known, '색이에요') == [known['색이에요']]
    assert _old_tokens(known, '뷁색이에요') == [known[token] for token in ('##색', '##이', '##에요')]
    assert _old_tokens(known, '##보다') == [known['##보다']] and _old_tokens(known, '뷁') == []
    rest = before.keys() - {WORDS, 'mlm_head.decoder.weight', 'mlm_head.decoder.bias'}
    assert all(torch.equal(after[name], before[name]) for name in rest)


def test_an_extended_tokenizer_is_the_same_on_every_call():
    tokens = [extend_tokenizer(load_tokenizer(SHIPPED_ENCODER), NEW[::step]).get_vocab() for step in (1, -1)]
    assert tokens[0] == tokens[1]


def test_only_pre_trained_models_and_wordpiece_tokenizers_are_extended(tmp_path):
    tokenizer = tiny_tokenizer()
    same = extend_tokenizer(tokenizer, ['소파'])
    assert same.get_vocab() == tokenizer.get_vocab()
    with pytest.raises(KoviltError, match='no such folder'):
        extend_model(tmp_path / 'none', NEW, tmp_path / 'out')

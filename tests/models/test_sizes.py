"""From a config and the data to a model: open sizes are filled, both are compared, the answers reach the model."""

from __future__ import annotations

import pytest

from kovilt.errors import KoviltError
from kovilt.models.sizes import build_model, check_sizes, complete_model_config
from tests.support.tiny_models import ANSWERS, tiny_config, tiny_tokenizer


def test_open_sizes_are_the_datas_and_the_config_stays_as_it_was():
    config = dict(encoder=dict(vocab_size=None), vqa_head=dict(num_answers=None, loss=None))
    completed = complete_model_config(config, data_sizes=dict(vocab_size=50, num_answers=7))
    assert completed == dict(encoder=dict(vocab_size=50), vqa_head=dict(num_answers=7, loss=None))
    assert config['encoder']['vocab_size'] is None
    with pytest.raises(KoviltError, match='model.vqa_head.num_answers is None, "from the data", but neither'):
        complete_model_config(config, data_sizes=dict(vocab_size=50))


@pytest.mark.parametrize(
    'model, data, message',
    [
        (dict(encoder=dict(vocab_size=40)), dict(vocab_size=41), 'vocab_size is 40, but the tokenizer has 41 tokens'),
        (
            dict(encoder=dict(max_text_len=12)),
            dict(max_text_len=13),
            'max_text_len is 12, but texts .* max_text_len=13',
        ),
        (dict(encoder=dict(patch_size=32)), dict(patch_size=16), 'patch_size is 32, but .* patches of 16'),
        (dict(vqa_head=dict(num_answers=5)), dict(num_answers=6), 'num_answers is 5, but the training data has 6'),
    ],
)
def test_sizes_that_disagree_are_named(model, data, message):
    with pytest.raises(KoviltError, match=message):
        check_sizes(model, data)
    check_sizes(model, {})


def test_content_words_become_token_ids():
    tokenizer = tiny_tokenizer()

    def content_words(words: list, known=tokenizer) -> list[int]:
        config = dict(mlm_head=dict(content_words=words), encoder=dict(hidden_size=8))
        return complete_model_config(config, data_sizes={}, tokenizer=known)['mlm_head']['content_words']

    ids = content_words(['소파', '의자'])
    assert ids == sorted(tokenizer.convert_tokens_to_ids(['소파', '의자']))
    assert content_words(ids) == ids  # numbers stay what they are
    assert content_words(['냉장고', '책']) == tokenizer.convert_tokens_to_ids(['책'])  # out of vocabulary: left out
    assert content_words(['소파'], None) == []


def test_answers_reach_the_models_that_answer():
    assert build_model(tiny_config(), answers=tuple(ANSWERS)).answers == ANSWERS
    assert build_model(tiny_config()).answers == []
    assert not hasattr(build_model(tiny_config('ViLTForPreTraining'), answers=ANSWERS), 'answers')
    with pytest.raises(ValueError, match='4 answers, but 5 in the answer head'):
        build_model(tiny_config(), answers=ANSWERS[:4])
    with pytest.raises(ValueError, match='5 answers, but only 4 different ones'):
        build_model(tiny_config(), answers=[*ANSWERS[:4], ANSWERS[0]])

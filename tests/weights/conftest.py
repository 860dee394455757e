"""Public models as folders, and the import of one."""

import pytest
from public_models import OTHER_TOKENS, SIZES, VILT, SavedModel, randomised, saved, tokenizer_of
from tiny_models import tiny_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

from kovilt.weights import import_weights, load_model_folder


@pytest.fixture(scope='module')
def vqa(tmp_path_factory):
    model = randomised(ViltForQuestionAnswering(VILT))
    return SavedModel(model, saved(model, tmp_path_factory.mktemp('there') / 'vilt-vqa'))


@pytest.fixture(scope='module')
def mlm(tmp_path_factory):
    model = randomised(ViltForMaskedLM(VILT), seed=1)
    return SavedModel(model, saved(model, tmp_path_factory.mktemp('there') / 'vilt-mlm'))


@pytest.fixture(scope='module')
def vit(tmp_path_factory):
    """Six layers, so that what a ViT lacks is less than 5 % of so narrow an encoder."""
    model = randomised(ViTForImageClassification(ViTConfig(**SIZES | dict(num_hidden_layers=6))), seed=6)
    folder = tmp_path_factory.mktemp('there') / 'vit'
    model.save_pretrained(folder)
    return SavedModel(model, folder)


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    config = BertConfig(
        vocab_size=len(OTHER_TOKENS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.02,
    )
    model = randomised(BertForMaskedLM(config), seed=8)
    folder = tmp_path_factory.mktemp('there') / 'bert'
    model.save_pretrained(folder)
    tokenizer_of(OTHER_TOKENS, folder)
    return SavedModel(model, folder)


@pytest.fixture
def korean(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / 'korean')
    return str(tmp_path / 'korean')


@pytest.fixture
def imported(tmp_path):
    """Import into a folder of this test; returns the model and the report."""

    def run(source, **arguments):
        report = import_weights(source, tmp_path / 'model', overwrite=True, **arguments)
        return load_model_folder(tmp_path / 'model').model, report

    return run

"""The command line imports, reports and refuses as `import_weights` does."""

import pytest
import torch
from tiny_models import MAX_TEXT_LEN, WORDS, tiny_tokenizer
from transformers import ViltConfig, ViltModel

from kovilt.weights import load_model_folder


@pytest.fixture(scope='module')
def vilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp('there') / 'vilt'
    model = ViltModel(
        ViltConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
            vocab_size=len(WORDS) + 5,
            max_position_embeddings=MAX_TEXT_LEN,
        )
    )
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_it_writes_a_folder_and_reports_what_became_of_every_tensor(vilt, tmp_path, call):
    code, out, error = call('import', vilt, tmp_path / 'model', '--image-size', 64)
    assert code == 0, error
    lines = [line.split()[0] for line in out.splitlines()]
    assert lines == ['imported', 'kept', 'resized', 'new', 'coverage', 'written']
    assert '100.0 % of' in out and 'encoder.image.pos_embed: 17 to 65 positions' in out
    model = load_model_folder(tmp_path / 'model').model
    assert model.encoder.image_size == 64 and torch.isfinite(model.encoder.image.pos_embed).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('none', 'OUT'), 'error: none: no such checkpoint file'),
        (('VILT', 'OUT', '--answers', 'a.json'), 'error: VILT: it has no answer head; leave out --answers'),
        (('VILT', 'VILT'), 'error: VILT: exists already'),
        (('VILT', 'OUT', '--image-size', '50'), 'error: VILT: '),
        (('VILT', 'OUT', '--tokenizer', './none'), 'error: tokenizer ./none: no such file or folder'),
    ],
)
def test_bad_input_is_one_line_and_code_2(vilt, tmp_path, call, arguments, message):
    places = {'VILT': str(vilt), 'OUT': str(tmp_path / 'model')}
    code, out, error = call('import', *(places.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, '') and error.count('\n') == 1
    assert error.startswith(message.replace('VILT', str(vilt)))
    assert not (tmp_path / 'model').exists()

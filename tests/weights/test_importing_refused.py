"""Files, weights, tokenizers and answers that do not fit are refused by name, before anything is written."""

import pickle

import pytest
import torch
from public_models import OTHER_TOKENS, SPECIAL_TOKENS, edited, original, tokenizer_of
from safetensors.torch import load_file, save_file
from tiny_models import WORDS, tiny_model
from transformers import (
    BertConfig,
    BertModel,
)

from kovilt.errors import KoviltError
from kovilt.weights import import_weights


class Dangerous:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), 'w')


def test_a_pickle_that_would_run_code_is_refused_and_not_run(mlm, tmp_path):
    state, dangerous = original(mlm.model.state_dict()), Dangerous(tmp_path / 'ran')
    beside = {'state_dict': state, 'hyper_parameters': {'config': dangerous}}
    torch.save(beside, tmp_path / 'a.ckpt')
    torch.save(beside, tmp_path / 'b.ckpt', _use_new_zipfile_serialization=False)
    torch.save(state | {'x': dangerous}, tmp_path / 'c.bin')
    (tmp_path / 'd.ckpt').write_bytes(pickle.dumps(dangerous))
    for name, message in (('a.ckpt', 'open'), ('b.ckpt', 'open'), ('c.bin', 'open'), ('d.ckpt', 'not a checkpoint')):
        with pytest.raises(KoviltError, match=message) as caught:
            import_weights(tmp_path / name, tmp_path / 'model')
        assert '\n' not in str(caught.value)
    assert not (tmp_path / 'ran').exists() and not (tmp_path / 'model').exists()


QUERY = 'vilt.encoder.layer.1.attention.attention.query.weight'


def without(*names):
    return lambda tensors: [tensors.pop(name) for name in names]


def having(**changes):
    return lambda tensors: tensors.update({key.replace('__', '.'): change(tensors) for key, change in changes.items()})


def set_number(value):
    def edit(tensors):
        tensors['vilt.layernorm.weight'][3] = value

    return edit


@pytest.mark.parametrize(
    ('edit', 'config', 'message'),
    [
        (without(QUERY), {}, '1 of query, key and value is missing for encoder.blocks.1.attn.qkv.weight'),
        (having(vilt__extra__weight=lambda t: torch.ones(3)), {}, 'vilt.extra.weight is no parameter of a ViLT'),
        (having(**{QUERY.replace('.', '__'): lambda t: torch.ones(15, 16)}), {}, 'of different sizes'),
        (having(vilt__layernorm__bias=lambda t: torch.ones(15)), {}, r'encoder.norm.bias is \(15,\) there and \(16,'),
        (having(vilt__embeddings__position_embeddings=lambda t: torch.ones(1, 18, 16)), {}, '18 positions; kovilt has'),
        (having(vilt__embeddings__position_embeddings=lambda t: torch.ones(18)), {}, 'size of the model is unknown'),
        (without('classifier.0.bias'), {}, 'vqa_head.fc1.bias is missing there'),
        (without('classifier.3.weight'), {}, 'vqa_head.fc1.weight has no place here'),
        (without('vilt.embeddings.position_embeddings'), {}, 'image.pos_embed is missing, so the size of the model'),
        (
            having(mlm_score__bias=lambda t: torch.ones(25), mlm_score__decoder__bias=lambda t: torch.zeros(25)),
            {},
            'mlm_score.bias and mlm_score.decoder.bias differ',
        ),
        (having(vilt__layernorm__bias=lambda t: torch.ones(16).to(torch.int8)), {}, 'quantised weights are not read'),
        (having(module__vilt__layernorm__bias=lambda t: torch.ones(16)), {}, 'two tensors are called vilt.layernorm.b'),
        (set_number(float('nan')), {}, 'vilt.layernorm.weight holds NaN, infinity or numbers beyond 65,504'),
        (set_number(-3e38), {}, 'vilt.layernorm.weight holds NaN, infinity or numbers beyond 65,504'),
        (without(), dict(hidden_size=32), 'its settings state hidden_size 32, its tensors have 16'),
        (without(), dict(num_hidden_layers=1), 'its settings state num_layers 1, its tensors have 2'),
        (without(), dict(vocab_size=26), 'its settings state vocab_size 26, its tensors have 25'),
        (without(), dict(num_attention_heads=3), '3 heads do not divide hidden_size 16'),
        (without(), dict(num_attention_heads=0), 'num_heads is 0; it must be'),
        (without(), dict(num_attention_heads=-6), 'num_heads is -6; it must be'),
        (without(), dict(num_attention_heads='4'), "num_heads is '4'.*; it must be"),
        (without(), dict(layer_norm_eps='x'), "norm_eps is 'x'.*; it must be"),
        (without(), dict(layer_norm_eps=0), 'norm_eps is 0; it must be above 0'),
        (without(), dict(hidden_dropout_prob=1.5), 'drop_rate is 1.5; it must be'),
        (without(), dict(hidden_act='gelu_new'), "activation is 'gelu_new'"),
        (without(), dict(id2label={'0': '네', '1': '아니요'}), 'id2label has 2 answers, the answer head 5'),
        (without(), dict(id2label={str(i): f'LABEL_{i}' for i in range(5)}), 'does not state its 5 answers'),
        (without(), dict(id2label={str(i): '네' for i in range(5)}), "'네' stands for two classes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(vqa, tmp_path, edit, config, message):
    folder = edited(vqa, tmp_path / 'there', edit, **config)
    with pytest.raises(KoviltError, match=message) as caught:
        import_weights(folder, tmp_path / 'model')
    assert '\n' not in str(caught.value) and not (tmp_path / 'model').exists()


def test_files_that_are_no_weights_are_refused(vqa, mlm, bert, tmp_path, korean):
    def refused(source, message, **arguments):
        with pytest.raises(KoviltError, match=message):
            import_weights(source, tmp_path / 'model', **arguments)

    whole, file = (vqa.folder / 'model.safetensors').read_bytes(), tmp_path / 'broken.safetensors'
    for damaged in (whole[: len(whole) // 2], whole[:8], bytes([whole[0] ^ 1]) + whole[1:], b'', whole + b'0'):
        file.write_bytes(damaged)
        refused(file, 'not a safetensors file, or cut off')
    (tmp_path / 'cut.ckpt').write_bytes(b'PK\x03\x04 cut off')
    refused(tmp_path / 'cut.ckpt', 'not a checkpoint')
    refused(tmp_path / 'none.bin', 'no such checkpoint file')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', 'neither model.safetensors nor pytorch_model.bin')
    save_file({'resnet.weight': torch.ones(1)}, file)
    refused(file, 'neither a ViLT, a ViT nor a BERT; it holds resnet.weight')
    refused(bert.folder, 'a BERT has no part for images; give it by --bert')
    refused(vqa.folder, 'no BERT, but a HuggingFace ViLT', bert=vqa.folder)
    save_file(tiny_model().state_dict(), file)
    refused(file, 'weights of kovilt; kovilt export')
    import_weights(vqa.folder, tmp_path / 'ours')
    refused(tmp_path / 'ours', 'a model folder of kovilt already')
    refused(vqa.folder / 'model.safetensors', 'carries no tokenizer; name the Korean one by --tokenizer', num_heads=2)
    refused(mlm.folder, 'no answer head; leave out --answers', answers='x.json')


def test_tokenizers_that_do_not_fit_are_refused(vqa, bert, tmp_path):
    def refused(message, **arguments):
        with pytest.raises(KoviltError, match=message):
            import_weights(vqa.folder, tmp_path / 'model', **arguments)

    larger = tokenizer_of([*SPECIAL_TOKENS, *WORDS, '화분'], tmp_path / 'larger')
    refused('26 tokens, but the word embeddings have 25 rows', source_tokenizer=larger)
    english = tokenizer_of([*SPECIAL_TOKENS, *'abcdefghijklmnopqrst'], tmp_path / 'english')
    refused('100% of common Korean becomes .UNK.', tokenizer=english)
    wide = BertModel(
        BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    wide.save_pretrained(tmp_path / 'wide')
    refused('no tokenizer in it', bert=tmp_path / 'wide')
    tokenizer_of(OTHER_TOKENS, tmp_path / 'wide')
    refused('word embeddings have 32 dimensions, but .* has 16', bert=tmp_path / 'wide')


def test_too_little_of_an_encoder_needs_force(vqa, imported, tmp_path):
    block = [key for key in load_file(vqa.folder / 'model.safetensors') if 'encoder.layer.1.' in key]
    folder = edited(vqa, tmp_path / 'half', without(*block))
    with pytest.raises(KoviltError, match='gives .*% of the encoder, less than 95%; missing: encoder.blocks.1.norm1'):
        imported(folder)
    ours, report = imported(folder, force=True)
    assert (
        0.5 < report.encoder_coverage < 0.95
        and len(ours.encoder.blocks) == 2
        and 'encoder.blocks.1' in report.details['new']
    )
    small = edited(vqa, tmp_path / 'small', without('vilt.pooler.dense.bias'))  # under 5 %: new, and reported
    assert imported(small)[1].details['new'] == '1 tensors, 16 parameters: encoder.pooler.bias'


@pytest.mark.parametrize('number', [0, -6, 10**12, 1.5, True, float('nan'), '6'])
@pytest.mark.parametrize('name', ['num_heads', 'image_size', 'max_text_len'])
def test_numbers_of_the_caller_are_checked(vqa, tmp_path, name, number):
    with pytest.raises(KoviltError, match=f'import_weights.{name} is .*; it must be .*at least 1') as caught:
        import_weights(vqa.folder, tmp_path / 'model', **{name: number})
    assert '\n' not in str(caught.value) and not (tmp_path / 'model').exists()

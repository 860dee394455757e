"""A model folder holds the model exactly, loads in transformers, and a damaged one is refused by the file's name."""

import ast
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import (
    ANSWERS,
    IMAGE_PIPELINE,
    MAX_TEXT_LEN,
    answer_scores,
    tiny_config,
    tiny_model,
    tiny_pairs,
    tiny_tokenizer,
    word_scores,
)
from transformers import (
    AutoConfig,
    AutoModel,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
    ViltModel,
)

from kovilt.apis.export import export_trained
from kovilt.datasets.transforms.text import tokenizer_sizes
from kovilt.errors import KoviltError
from kovilt.formats.huggingface import from_huggingface, to_huggingface
from kovilt.model_names import ASSETS
from kovilt.weights import load_model_folder, save_model_folder
from kovilt.weights.calibration import Calibration, store_calibration
from kovilt.weights.folder import folder_as_checkpoint
from kovilt.weights.folder_info import size_and_digest


def save(out, kind='ViLTForVQA', **others):
    arguments = dict(model_cfg=tiny_config(kind), image_pipeline=IMAGE_PIPELINE, max_text_len=MAX_TEXT_LEN) | others
    return save_model_folder(arguments.pop('model', None) or tiny_model(kind), tiny_tokenizer(), out, **arguments)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp('models') / 'vqa', answer_counts=[5, 4, 3, 2, 1], training=dict(epoch=3))


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / 'model')


def test_half_precision_takes_half_the_space_and_is_read_back_as_float32(saved, tmp_path):
    half = save(tmp_path / 'half', dtype=torch.float16)
    sizes = [(folder / 'model.safetensors').stat().st_size for folder in (saved, half)]
    assert sizes[1] < 0.7 * sizes[0]
    model = load_model_folder(half).model
    for name, parameter in tiny_model().named_parameters():
        read = model.get_parameter(name)
        assert read.dtype == torch.float32
        torch.testing.assert_close(read, parameter, rtol=1e-3, atol=1e-6)
    model.encoder.norm.weight.data[0] = 1e6
    with pytest.raises(KoviltError, match='NaN or infinity'):
        save(tmp_path / 'large', model=model, dtype=torch.float16)


@torch.no_grad()
def test_transformers_gives_the_same_scores(saved):
    theirs = ViltForQuestionAnswering.from_pretrained(saved).eval()
    assert [theirs.config.id2label[i] for i in range(len(ANSWERS))] == ANSWERS
    ours = load_model_folder(saved).model
    batch, inputs = tiny_pairs()
    scores = answer_scores(ours, batch)
    assert scores.std() > 0.1
    torch.testing.assert_close(theirs(**inputs).logits, scores, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_transformers_scores_the_same_options(tmp_path):
    """A choice head is the head of its ViltForImageAndTextRetrieval."""
    folder = save(tmp_path / 'choice', 'ViLTForMultipleChoice')
    ours, theirs = load_model_folder(folder).model, ViltForImageAndTextRetrieval.from_pretrained(folder).eval()
    batch, inputs = tiny_pairs()
    scores = ours.scores(ours.data_preprocessor(batch))
    assert (scores[0] - scores[1]).abs() > 0.01
    torch.testing.assert_close(theirs(**inputs).logits[:, 0], scores, atol=1e-4, rtol=1e-4)
    assert 'choices=[' in (folder / 'README.md').read_text(encoding='utf-8')


@torch.no_grad()
@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_transformers_predicts_the_same_tokens(tmp_path, activation):
    kind = 'ViLTForPreTraining'
    model, model_cfg = tiny_model(kind, activation=activation), tiny_config(kind, activation=activation)
    folder = save(tmp_path / 'pretrained', kind, model=model, model_cfg=model_cfg)
    theirs = ViltForMaskedLM.from_pretrained(folder).eval()
    ours = load_model_folder(folder).model
    batch, inputs = tiny_pairs()
    scores, mask = word_scores(ours, batch), batch['text_mask']
    torch.testing.assert_close(theirs(**inputs).logits[mask], scores[mask], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('kind', ['ViLTForVQA', 'ViLTForPreTraining'])
def test_transformers_refuses_what_it_would_compute_differently(tmp_path, kind):
    model, model_cfg = tiny_model(kind, type='PrefixViLT'), tiny_config(kind, type='PrefixViLT')
    folder = save(tmp_path / 'prefix', kind, model=model, model_cfg=model_cfg)
    for auto in (AutoConfig, AutoModel):
        with pytest.raises(ValueError, match='kovilt_prefix_vilt'):
            auto.from_pretrained(folder)
    for named in (ViltModel, ViltForQuestionAnswering, ViltForMaskedLM):
        with pytest.raises(OSError, match='no file named model.safetensors'):
            named.from_pretrained(folder)
    assert 'transformers refuses the folder' in (folder / 'README.md').read_text(encoding='utf-8')
    ours, theirs = model.state_dict(), load_model_folder(folder).model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize('kind', ['ViLTForVQA', 'ViLTForPreTraining'])
def test_round_trip_keeps_every_bit(tmp_path, kind):
    model = tiny_model(kind)
    again = load_model_folder(save(tmp_path / 'model', kind, model=model)).model
    assert not again.training
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / 'model/kovilt_heads.safetensors').is_file() == (kind == 'ViLTForPreTraining')


def test_the_key_map_is_one_to_one():
    state = tiny_model('ViLTForPreTraining').state_dict() | tiny_model().state_dict()
    theirs = to_huggingface(state)
    assert sum(t.numel() for t in theirs.values()) == sum(t.numel() for t in state.values())
    back = from_huggingface(theirs, source='x')
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    with pytest.raises(KoviltError, match='vqa_head.extra.weight'):
        to_huggingface({'vqa_head.extra.weight': torch.zeros(1)})
    with pytest.raises(KoviltError, match='x: bert.pooler.weight is no parameter'):
        from_huggingface({'bert.pooler.weight': torch.zeros(1)}, source='x')
    del theirs['vilt.encoder.layer.1.attention.attention.key.bias']
    with pytest.raises(KoviltError, match='encoder.blocks.1.attn.qkv.bias'):
        from_huggingface(theirs, source='x')


def test_a_folder_records_how_the_model_is_used_and_trained(saved):
    loaded = load_model_folder(saved, kind='ViLTForVQA')
    assert loaded.model.answers == ANSWERS and loaded.info['answer_counts'] == [5, 4, 3, 2, 1]
    assert loaded.image_pipeline == IMAGE_PIPELINE
    assert loaded.text_pipeline == [dict(type='TokenizeKorean', tokenizer=str(saved), max_text_len=MAX_TEXT_LEN)]
    card = (saved / 'README.md').read_text(encoding='utf-8')
    assert '| epoch | 3 |' in card and 'ResizeViLT(short=32, long=53, divisor=8)' in card and '| answers | 5 |' in card
    processor = json.loads((saved / 'preprocessor_config.json').read_text())
    assert processor['size'] == {'shortest_edge': 32} and processor['size_divisor'] == 8
    assert str(saved.parent) not in (saved / 'kovilt.json').read_text()


def exif_turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
IMAGES = {
    'a photo': lambda file: Image.fromarray(PIXELS[..., :3]).save(file, 'JPEG', quality=95),
    'a photo stored turned': lambda file: Image.fromarray(PIXELS[..., :3]).save(file, 'JPEG', exif=exif_turned(8)),
    'a mirrored photo': lambda file: Image.fromarray(PIXELS[..., :3]).save(file, 'JPEG', exif=exif_turned(5)),
    'a grey photo': lambda file: Image.fromarray(PIXELS[..., 0]).save(file, 'JPEG'),
    'inks': lambda file: Image.fromarray(PIXELS[..., :3]).convert('CMYK').save(file, 'JPEG'),
    'transparent': lambda file: Image.fromarray(PIXELS).save(file, 'PNG'),
    'grey and transparent': lambda file: Image.fromarray(PIXELS).convert('LA').save(file, 'PNG'),
    'a palette': lambda file: Image.fromarray(PIXELS).quantize(32).save(file, 'PNG'),
    'black and white': lambda file: Image.fromarray(PIXELS[..., 0]).convert('1').save(file, 'PNG'),
}


@pytest.mark.parametrize('kind', IMAGES)
def test_the_programs_of_the_card_answer_a_question(saved, tmp_path, monkeypatch, capsys, kind):
    """Its two programs run as they stand, and kovilt and transformers, which prepares images itself, agree."""
    shutil.copytree(saved, tmp_path / 'vqa')
    IMAGES[kind](tmp_path / 'image.jpg')
    monkeypatch.chdir(tmp_path)
    ours, theirs = re.findall('```python\n(.*?)```', (saved / 'README.md').read_text(encoding='utf-8'), re.DOTALL)
    exec(ours, {})
    (result,) = ast.literal_eval(capsys.readouterr().out)
    scope = {}
    exec(theirs, scope)
    assert capsys.readouterr().out.strip() == result['answer']
    scores = scope['model'](**scope['inputs']).logits.softmax(-1)[0].tolist()
    assert {row['answer']: row['score'] for row in result['topk']} == pytest.approx(
        dict(zip(ANSWERS, scores, strict=True)), abs=1e-4
    )


def test_a_model_without_images_has_no_image_processor(tmp_path):
    folder = save(tmp_path / 'no_images', image_pipeline=[dict(type='NoImage')])
    assert not (folder / 'preprocessor_config.json').exists()
    assert load_model_folder(folder).image_pipeline == [dict(type='NoImage')]


def rewrite(folder, name, change):
    """Changes a file of the folder and its digest with it."""
    change(folder / name)
    info = json.loads((folder / 'kovilt.json').read_text(encoding='utf-8'))
    info['files'][name] = size_and_digest(folder / name)
    (folder / 'kovilt.json').write_text(json.dumps(info), encoding='utf-8')


def edit_json(**changes):
    def change(file):
        file.write_text(json.dumps(json.loads(file.read_text(encoding='utf-8')) | changes), encoding='utf-8')

    return change


def edit_weights(edit):
    def change(file):
        tensors = load_file(file)
        edit(tensors)
        save_file(tensors, file)

    return change


def fill_nan(tensors):
    tensors['vilt.layernorm.weight'][3] = float('nan')


def test_a_damaged_file_is_refused_by_name(folder):
    def refused(match):
        with pytest.raises(KoviltError, match=match) as caught:
            load_model_folder(folder)
        assert '\n' not in str(caught.value)

    weights = folder / 'model.safetensors'
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    refused('model.safetensors: .* bytes instead of')
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused('model.safetensors: its sha256')
    weights.unlink()
    refused('model.safetensors: missing')
    weights.write_bytes(whole)
    rewrite(folder, 'model.safetensors', edit_weights(fill_nan))
    refused('encoder.norm.weight holds NaN')
    rewrite(folder, 'model.safetensors', edit_weights(lambda t: t.pop('vilt.layernorm.weight')))
    refused('encoder.norm.weight is missing, but the model of kovilt.json has')
    weights.write_bytes(whole)
    rewrite(folder, 'model.safetensors', edit_weights(lambda t: t.update({'classifier.3.bias': torch.zeros(9)})))
    refused('vqa_head.fc2.bias is \\(9,\\)')
    rewrite(folder, 'model.safetensors', lambda file: file.write_bytes(b'x' * 100))
    refused('not a safetensors file')


def test_answers_that_do_not_fit_are_refused(folder):
    rewrite(folder, 'config.json', edit_json(id2label={'0': '네', '1': '아니요'}))
    with pytest.raises(KoviltError, match='id2label has 2 answers, the answer head 5'):
        load_model_folder(folder)
    rewrite(folder, 'config.json', edit_json(id2label={'0': '네', '2': '아니요'}))
    with pytest.raises(KoviltError, match="none of number '1'"):
        load_model_folder(folder)


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(KoviltError, match='no such folder'):
        load_model_folder(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(KoviltError, match='it has no kovilt.json'):
        load_model_folder(tmp_path / 'empty')
    with pytest.raises(KoviltError, match='a ViLTForPreTraining is needed'):
        load_model_folder(folder, kind='ViLTForPreTraining')
    edit_json(format=99)(folder / 'kovilt.json')
    with pytest.raises(KoviltError, match='format 99'):
        load_model_folder(folder)
    (folder / 'kovilt.json').write_text('{"format": ')
    with pytest.raises(KoviltError, match='kovilt.json, line 1, column 12: expecting value'):
        load_model_folder(folder)


def test_an_unknown_part_of_the_model_is_refused_by_name(folder):
    edit_json(model=tiny_config() | dict(vqa_head=dict(type='NoSuchHead', num_answers=5)))(folder / 'kovilt.json')
    with pytest.raises(KoviltError, match='NoSuchHead'):
        load_model_folder(folder)


def test_a_folder_is_overwritten_only_on_request(folder, tmp_path):
    with pytest.raises(KoviltError, match='exists already'):
        save(folder)
    (tmp_path / 'holiday').mkdir()
    (tmp_path / 'holiday/cat.jpg').touch()
    with pytest.raises(KoviltError, match='is no model folder'):
        save(tmp_path / 'holiday', overwrite=True)
    (folder / 'stale').touch()
    save(folder, overwrite=True)
    assert not (folder / 'stale').exists()
    load_model_folder(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['holiday', 'model']


@pytest.mark.parametrize(('umask', 'file_mode', 'folder_mode'), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_files_and_folder_have_the_permissions_of_the_umask(tmp_path, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        folder = save(tmp_path / 'model', 'ViLTForPreTraining')
    finally:
        os.umask(before)
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()}
    assert len(modes) >= 7 and modes == dict.fromkeys(modes, oct(file_mode))
    assert oct(folder.stat().st_mode & 0o777) == oct(folder_mode)


@pytest.mark.parametrize('kind', ['ViLTForVQA', 'ViLTForPreTraining'])
def test_a_folder_read_as_a_checkpoint_has_the_weights_and_what_a_run_compares(tmp_path, kind):
    model = tiny_model(kind)
    folder = save(tmp_path / 'model', kind, model=model)
    checkpoint = folder_as_checkpoint(folder)
    state, meta = checkpoint['state_dict'], checkpoint['meta']
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert (meta['model_type'], meta['encoder_type']) == (kind, 'ViLT')
    assert meta['data_sizes'].items() >= tokenizer_sizes(tiny_tokenizer()).items()
    assert meta['dataset_meta'].get('answers') == (ANSWERS if kind == 'ViLTForVQA' else None)


def test_a_folder_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    broken = tiny_model()
    broken.encoder.norm.weight.data[0] = float('inf')
    with pytest.raises(KoviltError, match='encoder.norm.weight holds NaN or infinity'):
        save(tmp_path / 'model', model=broken)
    nameless = tiny_model()
    nameless.answers = ['네', '네', '아니요', '빨간색', '파란색']
    with pytest.raises(KoviltError, match='5 answers, but 4 different names'):
        save(tmp_path / 'model', model=nameless)
    with pytest.raises(KoviltError, match="model type 'ResNet'"):
        save(tmp_path / 'model', model_cfg=dict(type='ResNet'))
    (tmp_path / 'file').touch()
    with pytest.raises(KoviltError, match='cannot be written'):
        save(tmp_path / 'file' / 'model')
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_calibration_is_kept_and_changes_nothing_else(folder, tmp_path):
    before = load_model_folder(folder)
    assert before.calibration is None
    stored = Calibration(temperature=1.7, threshold=0.6, precision_target=0.95, questions=400)
    store_calibration(folder, stored)
    after = load_model_folder(folder)
    assert after.calibration == stored and after.calibration.abstention == '모르겠음'
    assert {key: value for key, value in after.info.items() if key != 'calibration'} == before.info
    export_trained(after, tmp_path / 'again')
    assert load_model_folder(tmp_path / 'again').calibration == stored


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('temperature', 0),
        ('temperature', -1.0),
        ('temperature', 'warm'),
        ('temperature', None),
        ('threshold', 1.5),
        ('threshold', [0.5]),
        ('precision_target', 95),
        ('abstention', ['모르겠음']),
        ('abstention', '모' * 1000),
        ('questions', 0.5),
        ('questions', True),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_by_name(folder, key, value):
    good = Calibration(questions=4).to_json()
    rewrite(folder, 'kovilt.json', edit_json(calibration=good | {key: value}))
    with pytest.raises(KoviltError, match=rf'kovilt\.json: calibration: {key} '):
        load_model_folder(folder)
    rewrite(folder, 'kovilt.json', edit_json(calibration=[good]))
    with pytest.raises(KoviltError, match=r'calibration is a list of 1; it must be an object'):
        load_model_folder(folder)


def test_a_calibration_is_stored_in_a_model_folder_of_ones_own(folder, tmp_path):
    content = (ASSETS / 'rooms' / 'kovilt.json').read_bytes()
    for other, match in ((tmp_path, 'no model folder'), (ASSETS / 'rooms', 'comes with kovilt')):
        with pytest.raises(KoviltError, match=rf'{match}.*kovilt export MODEL FOLDER'):
            store_calibration(other, Calibration())
    assert (ASSETS / 'rooms' / 'kovilt.json').read_bytes() == content
    with pytest.raises(KoviltError, match='threshold is nan'):
        store_calibration(folder, Calibration(threshold=math.nan))
    assert load_model_folder(folder).calibration is None

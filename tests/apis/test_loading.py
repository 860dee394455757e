"""A checkpoint loads with the config that it carries, and is exported with everything that is known of the model."""

import shutil

import pytest
import torch
from mmengine.config import Config
from tiny_models import ANSWERS, IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_checkpoint, tiny_model, tiny_tokenizer

from kovilt.apis import export_checkpoint, load_trained
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import choose_checkpoint
from kovilt.weights import load_model_folder


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('run'))


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_checkpoint_loads_without_any_other_file(checkpoint):
    trained = load_trained(checkpoint, kind='ViLTForVQA')
    assert not trained.model.training and trained.model.answers == ANSWERS
    assert same(trained.model.state_dict(), tiny_model().state_dict())
    assert trained.image_pipeline == IMAGE_PIPELINE and trained.info['max_text_len'] == MAX_TEXT_LEN
    assert load_trained(checkpoint, tokenizer='elsewhere').text_pipeline[0]['tokenizer'] == 'elsewhere'


def test_a_config_with_another_encoder_class_is_refused(tmp_path):
    """Its tensors fit, so without the check it would give other answers."""
    assert load_trained(tiny_checkpoint(tmp_path / 'same', encoder_type='ViLT')).model.answers == ANSWERS
    with pytest.raises(KoviltError, match='epoch_1.pth: its encoder is a PrefixViLT, this one a ViLT'):
        load_trained(tiny_checkpoint(tmp_path / 'other', encoder_type='PrefixViLT'))


def test_a_work_folder_stands_for_its_latest_checkpoint(checkpoint, tmp_path):
    assert same(load_trained(checkpoint.parent).model.state_dict(), tiny_model().state_dict())
    with pytest.raises(KoviltError, match='no model folder'):
        load_trained(tmp_path)
    with pytest.raises(KoviltError, match='no such model folder or checkpoint'):
        load_trained(tmp_path / 'none.pth')


def test_a_work_folder_stands_for_its_best_checkpoint_if_it_has_one(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint.parent, tmp_path / 'run')
    saved = torch.load(folder / checkpoint.name, weights_only=True)
    saved['meta'] |= {'epoch': 1, 'iter': 7}
    saved['ema_state_dict'] = {'steps': torch.tensor(3)}
    torch.save(saved, folder / 'best_accuracy_iter_7.pth')
    torch.save(saved, folder / 'best_accuracy_iter_5.pth')
    assert choose_checkpoint(folder) == folder / 'best_accuracy_iter_7.pth'
    source = load_trained(folder).source
    assert 'best_accuracy_iter_7.pth (ViLTForVQA after 1 epochs, 7 steps, averaged weights (EMA))' in source
    assert choose_checkpoint(folder / checkpoint.name) == folder / checkpoint.name
    assert 'EMA' not in load_trained(folder / checkpoint.name).source


def test_export_keeps_the_weights_and_the_record_of_training(checkpoint, tmp_path):
    out = export_checkpoint(checkpoint, tmp_path / 'model')
    loaded = load_model_folder(out)
    assert same(loaded.model.state_dict(), tiny_model().state_dict())
    assert loaded.info['training'] == dict(epoch=1, iter=10, seed=0)
    assert loaded.info['answer_counts'] == [5, 4, 3, 2, 1]
    again = load_model_folder(export_checkpoint(out, tmp_path / 'again'))
    assert same(again.model.state_dict(), loaded.model.state_dict())
    with pytest.raises(KoviltError, match='none: no such model folder or checkpoint'):
        export_checkpoint(tmp_path / 'none', tmp_path / 'more')
    with pytest.raises(KoviltError, match='leave out x.py'):
        load_trained(out, config='x.py')


def test_pre_training_is_exported_too(tmp_path):
    out = export_checkpoint(tiny_checkpoint(tmp_path / 'run', 'ViLTForPreTraining'), tmp_path / 'model')
    assert same(load_model_folder(out).model.state_dict(), tiny_model('ViLTForPreTraining').state_dict())
    with pytest.raises(KoviltError, match='holds a ViLTForPreTraining, a ViLTForVQA is needed'):
        load_trained(tmp_path / 'run', kind='ViLTForVQA')


def test_another_tokenizer_is_refused(checkpoint, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(['화분'])
    tokenizer.save_pretrained(tmp_path / 'other')
    with pytest.raises(KoviltError, match='trained with another one'):
        export_checkpoint(checkpoint, tmp_path / 'model', tokenizer=str(tmp_path / 'other'))
    assert not (tmp_path / 'model').exists()


def test_a_checkpoint_that_lacks_something_is_refused_by_name(tmp_path):
    with pytest.raises(KoviltError, match='no config in it'):
        load_trained(tiny_checkpoint(tmp_path / 'a', cfg=None))
    with pytest.raises(KoviltError, match='num_answers is None'):
        load_trained(tiny_checkpoint(tmp_path / 'b', data_sizes={'vocab_size': 30}))
    with pytest.raises(KoviltError, match='it has no val_dataloader, whose dataset'):
        load_trained(tiny_checkpoint(tmp_path / 'c', cfg='model = dict(type="ViLTForVQA")'))
    with pytest.raises(KoviltError, match='0 answers, but 5 in the answer head'):
        load_trained(tiny_checkpoint(tmp_path / 'd', dataset_meta={}))
    with pytest.raises(KoviltError, match="'NoSuchModel', no model that .* name the config that does") as caught:
        text = Config(
            dict(model=dict(type='NoSuchModel'), val_dataloader=dict(dataset=dict(image_pipeline=[], text_pipeline=[])))
        )
        load_trained(tiny_checkpoint(tmp_path / 'e', cfg=text.pretty_text))
    assert '\n' not in str(caught.value)


def test_a_config_inside_a_checkpoint_is_not_run(tmp_path):
    with pytest.raises(KoviltError, match='line 1: not a plain "name = value"'):
        load_trained(tiny_checkpoint(tmp_path / 'a', cfg=f'open({str(tmp_path / "written")!r}, "w")'))
    assert not (tmp_path / 'written').exists()

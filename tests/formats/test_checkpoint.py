from __future__ import annotations

import os
import pickle
import resource

import pytest
import torch
from tiny_models import tiny_model, tiny_tokenizer

from kovilt.datasets.transforms.text import tokenizer_sizes
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import (
    check_vocabulary,
    latest_checkpoint,
    load_checkpoint_file,
    load_encoder,
    load_weights,
    write_checkpoint,
)


class Bomb:
    """A planted object that would make a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_planted_pickle_is_refused_and_not_run(tmp_path):
    for name, save in (
        ('zip', torch.save),
        ('bare', lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))),
    ):
        path, target = tmp_path / f'{name}.pth', tmp_path / f'{name}_ran'
        save({'state_dict': {}, 'meta': Bomb(target)}, path)
        with pytest.raises(KoviltError, match=f'{name}.pth: refused, it holds .*mkdir'):
            load_checkpoint_file(path)
        assert not target.exists()


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut', b'no checkpoint at all', b'\x80\x04N.'])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with pytest.raises(KoviltError, match='x.pth: not a checkpoint') as error:
        load_checkpoint_file(path)
    assert '\n' not in str(error.value)


def test_a_checkpoint_cut_off_anywhere_is_refused_by_name(tmp_path):
    path = tmp_path / 'x.pth'
    write_checkpoint({'state_dict': tiny_model().state_dict(), 'meta': {}}, path)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(KoviltError, match='x.pth: not a checkpoint, or cut off'):
            load_checkpoint_file(path)


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(KoviltError, match='no such checkpoint'):
        load_checkpoint_file(tmp_path / 'none.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(KoviltError, match='holds a list'):
        load_checkpoint_file(tmp_path / 'list.pth')
    torch.save({'weights': 1}, tmp_path / 'dict.pth')
    with pytest.raises(KoviltError, match='no "state_dict"'):
        load_checkpoint_file(tmp_path / 'dict.pth')
    (tmp_path / 'x.safetensors').write_bytes(b'nothing')
    with pytest.raises(KoviltError, match='not a safetensors file'):
        load_checkpoint_file(tmp_path / 'x.safetensors')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(KoviltError, match='is a folder'):
        load_checkpoint_file(tmp_path / 'folder')


def test_bare_weights_are_a_checkpoint(tmp_path):
    torch.save(tiny_model().state_dict(), tmp_path / 'x.pth')
    load_weights(tiny_model(seed=1), load_checkpoint_file(tmp_path / 'x.pth'), 'x.pth')


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'x.pth'
    write_checkpoint({'state_dict': {'a': torch.zeros(1)}}, path)
    before = path.read_bytes()

    def fail(value, file):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='No space left'):
        write_checkpoint({}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['x.pth']


def test_a_full_disk_is_told_by_its_reason(tmp_path):
    """torch reports another error of its own, about a position in the file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            write_checkpoint({'state_dict': {'a': torch.zeros(100_000)}}, tmp_path / 'x.pth')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not os.listdir(tmp_path)


def test_the_latest_checkpoint_is_found_without_its_pointer(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ('iter_9.pth', 'iter_10.pth', 'best_accuracy_iter_99.pth', 'iter_x.pth'):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path).name == 'iter_10.pth'
    (tmp_path / 'last_checkpoint').write_text('/moved/from/elsewhere/iter_9.pth')
    assert latest_checkpoint(tmp_path) == tmp_path / 'iter_9.pth'
    (tmp_path / 'last_checkpoint').write_text('/moved/iter_77.pth')  # never written, or removed
    assert latest_checkpoint(tmp_path).name == 'iter_10.pth'


def test_all_tensors_or_none(tmp_path):
    model, other = tiny_model(seed=0), tiny_model(seed=1)
    state = other.state_dict()
    load_weights(model, {'state_dict': state}, 'x')
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    first = next(iter(state))
    cut = {name: value for name, value in state.items() if name != first}
    with pytest.raises(KoviltError, match=f'{first} is missing there'):
        load_weights(model, {'state_dict': cut}, 'x')
    with pytest.raises(KoviltError, match='other.weight has no place here'):
        load_weights(model, {'state_dict': {**state, 'other.weight': torch.zeros(1)}}, 'x')
    with pytest.raises(KoviltError, match=rf'{first} is \(1,\) there and'):
        load_weights(model, {'state_dict': {**state, first: torch.zeros(1)}}, 'x')


def test_answers_in_another_order_are_refused():
    model = tiny_model()
    state = {'state_dict': model.state_dict()}
    swapped = [model.answers[1], model.answers[0], *model.answers[2:]]
    with pytest.raises(KoviltError, match="answer 0 is '아니요' there and '네' here"):
        load_weights(model, {**state, 'meta': {'dataset_meta': {'answers': swapped}}}, 'x')
    with pytest.raises(KoviltError, match='4 answers there, 5 here'):
        load_weights(model, {**state, 'meta': {'dataset_meta': {'answers': model.answers[:4]}}}, 'x')
    load_weights(model, {**state, 'meta': {'dataset_meta': {'answers': model.answers}}}, 'x')


def test_an_encoder_needs_nearly_all_its_tensors():
    model, state = tiny_model(), tiny_model('ViLTForPreTraining', seed=1).state_dict()
    loaded, total = load_encoder(model, {'state_dict': state}, 'x')
    assert loaded == total == len(model.encoder.state_dict())
    encoder = [name for name in state if name.startswith('encoder.')]
    nearly = {name: state[name] for name in encoder[:-1]}
    assert load_encoder(model, {'state_dict': nearly}, 'x') == (total - 1, total)
    few = {name: state[name] for name in encoder[: len(encoder) // 2]}
    with pytest.raises(KoviltError, match=f'holds {len(encoder) // 2} of the {total} tensors of this encoder'):
        load_encoder(model, {'state_dict': few}, 'x')
    with pytest.raises(KoviltError, match='this encoder is of another size'):
        load_encoder(model, {'state_dict': {**state, encoder[0]: torch.zeros(1)}}, 'x')


def test_two_tokenizers_of_one_size_are_told_apart():
    from transformers import BertTokenizer

    ours = tokenizer_sizes(tiny_tokenizer())
    tokens = sorted(tiny_tokenizer().get_vocab(), key=tiny_tokenizer().get_vocab().get)
    tokens[5:] = tokens[:4:-1]
    theirs = tokenizer_sizes(BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=False))
    assert ours['vocab_size'] == theirs['vocab_size']
    check_vocabulary(ours, {'meta': {'data_sizes': ours}}, 'x')
    check_vocabulary(ours, {'meta': {}}, 'x')
    with pytest.raises(KoviltError, match='x: it was trained with another tokenizer'):
        check_vocabulary(ours, {'meta': {'data_sizes': theirs}}, 'x')


def test_any_flip_in_the_directory_of_a_checkpoint_is_refused_or_harmless(tmp_path):
    """Names whose flag says UTF-8 may then be none, and sizes may be of parts that are not there."""
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'weight': torch.arange(3.0)}, 'meta': {}}, path)
    content = path.read_bytes()
    for position in range(content.index(b'PK\x01\x02'), len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            assert load_checkpoint_file(path)['state_dict']['weight'].tolist() == [0.0, 1.0, 2.0]
        except KoviltError as error:
            assert str(error).startswith(str(path))

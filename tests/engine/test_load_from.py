"""What `--load-from` makes of files that others wrote: counted in the log, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kovilt.errors import KoviltError

pytestmark = pytest.mark.usefixtures('unformatted_configs')
State = dict[str, torch.Tensor]


def encoder(state: State) -> State:
    return {name: value for name, value in state.items() if name.startswith('encoder.')}


@pytest.fixture(scope='module')
def pretrained(build) -> State:
    return build(task='pretrain', steps=1, limit=16).model.state_dict()


@pytest.fixture
def start(build, tmp_path, pretrained) -> Callable[..., tuple[str, State]]:
    """Starts a VQA run from what a function makes of the pre-training weights; returns its log and its weights."""

    def start(change: Callable[[State], State], *, suffix: str = '.pth', force: bool = False, **others):
        state, file = change({name: value.clone() for name, value in pretrained.items()}), tmp_path / f'x{suffix}'
        if suffix == '.pth':
            torch.save({'state_dict': state, **others}, file)
        else:
            save_file(state, file)
        runner = build(steps=1, limit=16, overrides={'load_from': str(file)})
        runner._force_load = force
        runner.load_or_resume()
        log = Path(runner.work_dir, runner.timestamp, f'{runner.timestamp}.log').read_text(encoding='utf-8')
        (line,) = [line for line in log.splitlines() if 'tensors of the encoder' in line]
        return line.partition(str(file))[2], runner.model.state_dict()

    return start


def without(state: State, count: int) -> State:
    """The encoder without its last tensors."""
    names = list(encoder(state))
    return {name: state[name] for name in names[: len(names) - count]}


ACCEPTED = {
    'all of it': (lambda state: state, 'new: vqa_head (6); dropped: itm_head (2), mlm_head (6)'),
    'encoder alone': (encoder, 'new: vqa_head (6); dropped: nothing'),
    'one tensor less': (lambda state: without(state, 1), 'new: vqa_head (6), encoder.'),
    'one tensor more': (
        lambda state: {**state, 'encoder.gate': torch.ones(1)},
        'dropped: itm_head (2), mlm_head (6), encoder.gate',
    ),
    'of DistributedDataParallel': (lambda state: {f'module.{name}': value for name, value in state.items()}, 'new: '),
    'float16': (lambda state: {name: value.half() for name, value in state.items()}, 'new: vqa_head (6); dropped: '),
}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('case', ACCEPTED)
def test_kept_new_and_dropped_tensors_are_counted(start, pretrained, case, suffix):
    change, message = ACCEPTED[case]
    line, weights = start(change, suffix=suffix)
    total = len(encoder(pretrained))
    kept = total - (case == 'one tensor less')
    assert f'kept {kept} of {total} tensors of the encoder; ' in line and message in line
    same = [name for name, value in encoder(weights).items() if torch.equal(value, pretrained[name])]
    assert case == 'float16' or len(same) >= kept


REFUSED = {
    'a part of the encoder': (lambda state: without(state, 5), '--force starts from them all the same'),
    'names of the original code': (
        lambda state: {name.replace('encoder', 'transformer'): value for name, value in state.items()},
        'holds 0 of the .*; kovilt import reads',
    ),
    'names of HuggingFace': (
        lambda state: {name.replace('encoder', 'vilt.encoder.layer'): value for name, value in state.items()},
        'holds 0 of the .*; kovilt import reads',
    ),
    'names of mmpretrain': (
        lambda state: {name.replace('encoder', 'backbone'): value for name, value in encoder(state).items()},
        'holds 0 of the .*; kovilt import reads',
    ),
    'another size': (
        lambda state: {name: torch.cat([value, value]) for name, value in state.items()}, 'of another size',
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', REFUSED)
def test_what_does_not_cover_the_encoder_is_refused(start, case):
    change, message = REFUSED[case]
    with pytest.raises(KoviltError, match=message) as caught:
        start(change)
    assert '\n' not in str(caught.value)


def test_force_starts_from_a_part_and_not_from_nothing(start, pretrained):
    total = len(encoder(pretrained))
    line, weights = start(lambda state: without(state, 5), force=True)
    assert f'kept {total - 5} of {total} tensors of the encoder; new: vqa_head (6), encoder.' in line
    assert torch.equal(weights['encoder.norm.weight'], pretrained['encoder.norm.weight'])
    with pytest.raises(KoviltError, match='holds 0 of the'):
        start(lambda state: {'other': state['encoder.norm.weight']}, force=True)


def test_weights_without_a_run_start_one_but_are_not_resumed(build, pretrained, tmp_path):
    """Of an optimizer nothing is there: a file of weights, and one of another program with its own `meta`."""
    torch.save(pretrained, tmp_path / 'weights.pth')
    torch.save({'state_dict': pretrained, 'meta': {'epoch': 1, 'iter': 2}}, tmp_path / 'best.pth')
    for name in ('weights.pth', 'best.pth'):
        overrides = {'load_from': str(tmp_path / name), 'resume': True}
        with pytest.raises(KoviltError, match=f'{name}: cannot be resumed from, .*; start from it: --load-from'):
            build(task='pretrain', steps=3, limit=16, overrides=overrides).load_or_resume()

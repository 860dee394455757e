from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_config

from kovilt.engine import optim as optim_module
from kovilt.engine.optim import ViLTOptimWrapper, ViLTOptimWrapperConstructor, mixed_precision
from kovilt.errors import KoviltError
from kovilt.registry import MODELS

ADAMW = dict(type='AdamW', lr=1e-3, weight_decay=0.01)


def wrapper(model, paramwise_cfg=None, **others):
    return ViLTOptimWrapperConstructor(dict(optimizer=ADAMW, **others), paramwise_cfg)(model)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(tiny_config())


def test_four_groups_hold_every_parameter_once(model):
    groups = wrapper(model, dict(head_prefixes=['vqa_head'], head_lr_mult=10)).optimizer.param_groups
    assert [group['name'] for group in groups] == ['encoder.decay', 'encoder.no_decay', 'head.decay', 'head.no_decay']
    assert [group['lr'] for group in groups] == [1e-3, 1e-3, 1e-2, 1e-2]
    assert [group['weight_decay'] for group in groups] == [0.01, 0.0, 0.01, 0.0]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    placed = [names.pop(id(parameter)) for group in groups for parameter in group['params']]
    assert not names and len(placed) == len(set(placed))


def test_further_parts_learn_at_rates_of_their_own(model):
    mults = {'encoder.pooler': 5.0}
    groups = wrapper(model, dict(head_prefixes=['vqa_head'], head_lr_mult=50, lr_mults=mults)).optimizer.param_groups
    rates = {group['name']: group['lr'] / ADAMW['lr'] for group in groups}
    assert {name: round(rate) for name, rate in rates.items()} == {
        'encoder.decay': 1,
        'encoder.no_decay': 1,
        'encoder.pooler.decay': 5,
        'encoder.pooler.no_decay': 5,
        'head.decay': 50,
        'head.no_decay': 50,
    }
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    with pytest.raises(KoviltError, match="lr_mults: no parameter .* starts with 'encoder.poler' .did you mean"):
        wrapper(model, dict(lr_mults={'encoder.poler': 5.0}))


def test_norms_and_biases_are_not_decayed_and_positions_are(model):
    groups = {group['name']: {id(p) for p in group['params']} for group in wrapper(model).optimizer.param_groups}
    for name, parameter in model.named_parameters():
        spared = name.endswith('bias') or 'norm' in name
        assert id(parameter) in groups['encoder.no_decay' if spared else 'encoder.decay'], name
    assert any('pos_embed' in name for name, p in model.named_parameters() if id(p) in groups['encoder.decay'])
    assert id(model.vqa_head.norm.weight) in groups['encoder.no_decay']  # ViLT decays it by mistake


def test_frozen_parameters_are_left_out(model):
    model.encoder.requires_grad_(False)
    names = [group['name'] for group in wrapper(model, dict(head_prefixes='vqa_head')).optimizer.param_groups]
    assert names == ['head.decay', 'head.no_decay']


def test_adamw_runs_fused(model):
    assert wrapper(model).optimizer.defaults['fused']
    unfused = ViLTOptimWrapperConstructor(dict(optimizer=dict(ADAMW, fused=False)))(model)
    assert not unfused.optimizer.defaults['fused']


def test_unknown_heads_and_keys_are_named(model):
    with pytest.raises(KoviltError, match="starts with 'vqa_hed' .did you mean 'vqa_head'"):
        wrapper(model, dict(head_prefixes=['vqa_hed']))
    with pytest.raises(KoviltError, match="unknown key 'head_lr' in .*paramwise_cfg .did you mean 'head_lr_mult'"):
        wrapper(model, dict(head_lr=3))


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_the_forward_pass_alone_changes_precision(precision):
    layer = torch.nn.Linear(4, 4)
    optim = ViLTOptimWrapper(
        torch.optim.SGD(layer.parameters(), lr=0.1), clip_grad=dict(max_norm=1e-3), precision=precision
    )
    with optim.optim_context(layer):
        out = layer(torch.ones(2, 4))
    assert out.dtype == getattr(torch, precision)
    before = layer.weight.detach().clone()
    optim.update_params(out.float().sum())
    assert layer.weight.dtype == torch.float32
    change = torch.cat([(layer.weight - before).flatten(), torch.zeros(0)])
    assert 0 < change.norm() <= 0.1 * 1e-3 * 1.01  # clipped
    assert optim.grad_norm > 1e-3 and isinstance(optim.grad_norm, torch.Tensor)


@pytest.mark.parametrize(
    'fast, capabilities',
    [
        (True, dict(amx_bf16=True, cpu_name='Intel(R) Xeon(R)')),
        (True, dict(avx512_bf16=True, cpu_name='AMD EPYC')),
        (False, dict(avx512_bf16=True, cpu_name='Intel(R) Xeon(R)')),
        (False, dict(avx512_bf16=False, cpu_name='AMD EPYC')),
        (False, {}),
    ],
)
def test_which_processors_are_faster_in_bfloat16(monkeypatch, fast, capabilities):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    assert optim_module.has_fast_bfloat16() is fast


def test_amp_chooses_by_the_device(monkeypatch):
    plain = dict(type='ViLTOptimWrapper', optimizer=ADAMW, precision='float32')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(optim_module, 'has_fast_bfloat16', lambda: True)
    assert mixed_precision(plain) == dict(type='ViLTOptimWrapper', optimizer=ADAMW, precision='bfloat16')
    muon = mixed_precision(dict(plain, optimizer=dict(type='MuonAdamW', lr=1e-3)))
    assert muon['optimizer'] == dict(type='MuonAdamW', lr=1e-3, precision='bfloat16')
    monkeypatch.setattr(optim_module, 'has_fast_bfloat16', lambda: False)
    assert mixed_precision(plain) == plain and mixed_precision(plain, 'bfloat16')['precision'] == 'bfloat16'
    with pytest.raises(KoviltError, match='needs a CUDA device'):
        mixed_precision(plain, 'float16')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (7, 0))
    assert mixed_precision(plain)['type'] == 'ViLTAmpOptimWrapper' and 'precision' not in mixed_precision(plain)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (9, 0))
    assert mixed_precision(plain)['precision'] == 'bfloat16'


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.0), dict(type='value', clip_value=1.0)])
@pytest.mark.parametrize('optimizer', [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize('bad', ['loss', 'gradient', None])
def test_a_step_that_is_not_finite_changes_no_parameter(clip_grad, optimizer, bad):
    layer = torch.nn.Linear(4, 4)
    optim = ViLTOptimWrapper(optimizer(layer.parameters(), lr=0.1), clip_grad=clip_grad and dict(clip_grad))
    before = layer.weight.detach().clone()
    if bad == 'gradient':
        layer.weight.register_hook(lambda gradient: gradient * float('inf'))
    optim.update_params(layer(torch.ones(2, 4)).sum() + (float('inf') if bad == 'loss' else 0.0))
    assert bool(optim.finite) is (bad is None)
    assert torch.equal(layer.weight, before) is (bad is not None)


def test_one_bad_micro_batch_is_noticed():
    layer = torch.nn.Linear(4, 4)
    optim = ViLTOptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1))
    for offset in (float('nan'), 0.0):
        optim.backward(layer(torch.ones(2, 4)).sum() + offset)
    optim.step()
    assert not optim.finite
    optim.zero_grad()
    optim.backward(layer(torch.ones(2, 4)).sum())
    optim.step()
    assert optim.finite

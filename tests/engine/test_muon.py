"""MuonAdamW takes Muon's step for matrices and AdamW's for all other parameters."""

import copy

import pytest
import torch

from kovilt.engine import ViLTOptimWrapperConstructor, muon, optim
from kovilt.engine.muon import MuonAdamW, orthogonalize
from tests.support.tiny_models import tiny_model


def test_singular_values_become_equal_and_singular_vectors_stay():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 8), (2, 24, 8), (2, 8, 24)):
        matrices = torch.randn(shape, generator=generator) + 2 * torch.eye(*shape[1:])
        u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
        strength = u.mT @ orthogonalize(matrices) @ vh.mT
        diagonal = strength.diagonal(dim1=1, dim2=2)
        assert 0.5 < diagonal.min() and diagonal.max() < 1.3
        assert (strength - torch.diag_embed(diagonal)).abs().max() < 1e-3


@pytest.mark.parametrize('dtype, tolerance', [(torch.float32, 1e-3), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize('shape', [(24, 24), (20, 24), (24, 96), (96, 24)])
def test_singular_values_of_any_size_become_equal(shape, dtype, tolerance):
    """Those of momentum span three powers of ten; eigenvalues that rounding makes negative must not grow."""
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    values = torch.logspace(0, -2.4, min(shape))  # the smallest is 0.004, of the norm 0.003
    values[-2:] = 1e-6
    result = orthogonalize((u * values @ vh).to(dtype)).float()
    brought = torch.linalg.svdvals(result)
    assert brought.max() < 1.21 + tolerance and brought[:, -3].min() > 0.79 - tolerance
    assert brought[:, -2:].max() < 1
    strength = (u.mT @ result @ vh.mT).diagonal(dim1=1, dim2=2)[:, :-2]
    assert strength.min() > 0.6, 'singular vectors have turned'


def test_other_parameters_take_torch_adamws_step():
    values = [torch.randn(5, 4), torch.randn(3)]
    ours = [value.clone().requires_grad_() for value in values]
    theirs = [value.clone().requires_grad_() for value in values]
    optimizers = [
        MuonAdamW([dict(params=ours)], lr=0.1, weight_decay=0.1),
        torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.98), weight_decay=0.1),
    ]
    for _ in range(5):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            sum((parameter**2).sum() for parameter in parameters).backward()
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('shape', [(8, 8), (24, 8), (8, 24)])
def test_a_single_matrix_takes_torch_muons_step_with_the_same_polynomials(shape, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(muon, '_POLYNOMIALS', ((3.4445, -4.7750, 2.0315),) * 4)  # torch's own
    start = torch.randn(shape)
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    optimizers = [
        MuonAdamW([dict(params=[ours], matrices=1)], lr=0.1, weight_decay=0.1, precision='bfloat16'),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn='match_rms_adamw', ns_steps=4),
    ]
    for _ in range(3):
        gradient = torch.randn(shape)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    our_change, their_change = ((parameter.detach() - start).flatten() for parameter in (ours, theirs))
    assert torch.cosine_similarity(our_change, their_change, dim=0) > 0.999  # products in bfloat16
    assert our_change.norm().item() == pytest.approx(their_change.norm().item(), rel=0.01)


def test_stacked_matrices_are_orthogonalized_one_by_one():
    weight = torch.randn(12, 4)
    stacked = weight.clone().requires_grad_()
    single = [part.clone().requires_grad_() for part in weight.split(4)]
    optimizers = [
        MuonAdamW([dict(params=[stacked], matrices=3)], lr=0.1),
        MuonAdamW([dict(params=single, matrices=1)], lr=0.1),
    ]
    for _ in range(3):
        stacked.sin().sum().backward()
        sum(part.sin().sum() for part in single).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(stacked, torch.cat(single))


def test_products_in_bfloat16_point_the_same_way():
    torch.manual_seed(0)
    weight, gradient = torch.randn(32, 96), torch.randn(32, 96)
    steps = []
    for precision in ('float32', 'bfloat16'):
        parameter = weight.clone().requires_grad_()
        parameter.grad = gradient.clone()
        MuonAdamW([dict(params=[parameter], matrices=1)], lr=0.1, weight_decay=0.0, precision=precision).step()
        steps.append((parameter.detach() - weight).flatten())
    assert torch.cosine_similarity(*steps, dim=0) > 0.999 and not torch.equal(*steps)
    with pytest.raises(ValueError, match="precision is 'float16'; it must be one of 'float32', 'bfloat16'"):
        MuonAdamW([weight], precision='float16')


def test_the_weights_of_the_blocks_are_groups_of_their_own_and_the_state_can_be_saved():
    torch.manual_seed(0)
    model = tiny_model()
    make = ViLTOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='MuonAdamW', lr=0.01)), dict(head_prefixes=['vqa_head'])
    )
    optimizer = make(model).optimizer
    named = {parameter: name for name, parameter in model.named_parameters()}
    matrices = {named[p]: group['matrices'] for group in optimizer.param_groups for p in group['params']}
    assert matrices['encoder.blocks.0.attn.qkv.weight'] == 3
    assert matrices['encoder.blocks.1.mlp.fc1.weight'] == 1
    others = ('text.word_embed.weight', 'image.proj.weight', 'pooler.weight')
    assert {matrices[f'encoder.{name}'] for name in others} == {0}

    def step():
        sum((parameter**2).sum() for parameter in model.parameters()).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    saved = copy.deepcopy(optimizer.state_dict())
    step()
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    optimizer = make(model).optimizer
    optimizer.load_state_dict(saved)
    step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, after[name])


@pytest.mark.parametrize('kind', ['blocks', 'frozen blocks', 'no blocks'])
def test_where_no_block_is_trained_it_is_told_that_all_is_adamw(kind, monkeypatch):
    """METER's layers have other names: MuonAdamW is AdamW there, which nobody should take for Muon."""
    model = torch.nn.ModuleDict({'encoder': torch.nn.Linear(4, 4)}) if kind == 'no blocks' else tiny_model()
    if kind == 'frozen blocks':
        model.encoder.blocks.requires_grad_(False)
    told = []
    monkeypatch.setattr(optim, 'print_log', lambda text, **_: told.append(text))
    make = ViLTOptimWrapperConstructor(dict(type='OptimWrapper', optimizer=dict(type='MuonAdamW', lr=0.01)))
    groups = make(model).optimizer.param_groups
    assert any(group['matrices'] for group in groups) == (kind == 'blocks')
    assert [text.split(',')[0] for text in told] == (
        [] if kind == 'blocks' else ['optimizer MuonAdamW: no matrix of encoder.blocks is trained']
    )


def test_a_checkpoint_of_single_heads_keeps_its_matrices():
    """A development version took the queries of each head as a matrix; such a run goes on as it began."""
    torch.manual_seed(0)
    model = tiny_model()
    make = ViLTOptimWrapperConstructor(dict(type='OptimWrapper', optimizer=dict(type='MuonAdamW', lr=0.01)))
    optimizer = make(model).optimizer
    before = optimizer.state_dict()
    heads = 3 * model.encoder.blocks[0].attn.num_heads
    for group in before['param_groups']:
        group['matrices'] = heads if group['matrices'] == 3 else group['matrices']
    optimizer.load_state_dict(before)
    assert sorted(group['matrices'] for group in optimizer.param_groups if group['matrices']) == [1, heads]


@pytest.mark.parametrize('fused', [False, True])
def test_a_step_that_is_not_finite_can_be_skipped_without_asking_the_device(fused):
    """As torch's fused AdamW: `found_inf` = 1 leaves parameters and states as they are, 0 changes nothing else."""
    gradients = torch.randn(4, 4, 4)
    results = []
    for bad in (None, 1):  # the second run has a bad step in the middle
        weight = torch.ones(4, 4).requires_grad_()
        if fused:
            optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
        else:
            optimizer = MuonAdamW([dict(params=[weight], matrices=1)], lr=0.1, weight_decay=0.1)
        steps = [(gradient, 0.0) for gradient in gradients]
        if bad is not None:
            steps.insert(2, (torch.full((4, 4), float('nan')), 1.0))
        for gradient, found_inf in steps:
            weight.grad = gradient.clone()
            optimizer.found_inf = None if bad is None else torch.tensor(found_inf)
            optimizer.step()
        results.append(weight.detach())
    assert results[0].isfinite().all() and torch.equal(*results)

"""The ways to attend within the segments of a packed sequence give the same values and gradients."""

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kovilt.modules import attention
from kovilt.modules.packing import Packing


def varlen_reference(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int) -> Tensor:
    """torch's variable-length kernel, which needs a GPU, segment by segment."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert (int(cu_q.diff().max()), int(cu_k.diff().max())) == (max_q, max_k)
    q_lengths, k_lengths = cu_q.diff().tolist(), cu_k.diff().tolist()
    segments = zip(q.split(q_lengths), k.split(k_lengths), v.split(k_lengths), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in qkv)).transpose(0, 1) for qkv in segments]
    )


def make_packing(pairs: int = 4, use_buckets: bool = False) -> Packing:
    text_lengths = torch.tensor([3, 5, 3, 4]).repeat(-(-pairs // 4))[:pairs]
    image_index = torch.arange(pairs) % 2
    return Packing(text_lengths, torch.tensor([6, 2]), image_index, torch.device('cpu'), use_buckets=use_buckets)


def make_inputs(packing: Packing, output: str, dtype: torch.dtype, heads: int = 2) -> tuple[Tensor, Tensor]:
    """Queries (R, h, d) and keys and values (T, 2, h, d) that are parts of larger tensors, as those of a projection."""
    torch.manual_seed(0)
    q = torch.randn(len(packing.output_index(output)), 3, heads, 4, dtype=dtype)[:, 0]
    kv = torch.randn(len(packing.gather_index), 3, heads, 4, dtype=dtype)[:, 1:]
    return q.requires_grad_(), kv.requires_grad_()


@pytest.mark.parametrize('output', ['all', 'text', 'cls'])
@pytest.mark.parametrize('pairs', [4, 37])
def test_groups_padding_and_the_variable_length_kernel_agree(output, pairs, monkeypatch):
    varlen = SimpleNamespace(varlen_attn=varlen_reference)
    monkeypatch.setitem(sys.modules, 'torch.nn.attention.varlen', varlen)
    packing = make_packing(pairs)
    q, kv = make_inputs(packing, output, torch.float32)
    found = []
    for attend in (attention._attend_groups, attention._attend_padded, attention._attend_varlen):
        y = attend(q, kv, packing, output)
        found.append((y, *torch.autograd.grad(y.square().sum(), (q, kv))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('output', ['all', 'text', 'cls'])
def test_the_gradients_of_padded_attention_are_those_of_its_values(output):
    packing = make_packing()
    inputs = make_inputs(packing, output, torch.float64)
    assert torch.autograd.gradcheck(lambda q, kv: attention._attend_padded(q, kv, packing, output), inputs)


def test_what_lies_behind_the_last_segment_takes_no_part_in_padded_attention():
    packing = make_packing(use_buckets=True)
    count = sum(group.pairs * group.length for group in packing.groups)
    q, kv = make_inputs(packing, 'all', torch.float32)
    y = attention._attend_padded(q, kv, packing, 'all')
    assert len(y) == 64 > count and not y[count:].any()
    y.sum().backward()
    assert not q.grad[count:].any() and not kv.grad[count:].any() and kv.grad[:count].any()


def test_padded_attention_in_bfloat16_differs_by_rounding_alone():
    packing = make_packing(37)
    inputs = make_inputs(packing, 'all', torch.float32)
    y = attention._attend_groups(*inputs, packing, 'all')
    expected = (y, *torch.autograd.grad(y.sum(), inputs))
    y = attention._attend_padded(*(x.bfloat16() for x in inputs), packing, 'all')
    found = (y, *torch.autograd.grad(y.float().sum(), inputs))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_attention_from_the_text_cls_alone_is_that_with_keys_and_values(dtype):
    torch.manual_seed(0)
    packing = make_packing(37, use_buckets=dtype == torch.bfloat16)
    self_attention = attention.SelfAttention(hidden_size=8, num_heads=2).to(dtype)
    nn.init.normal_(self_attention.qkv.bias)
    x = torch.randn(len(packing.gather_index), 8, dtype=dtype, requires_grad=True)
    outputs = (
        self_attention.attend(*self_attention.project(x, packing.output_index('cls')), packing, 'cls'),
        self_attention.attend_from_cls(x, packing),
    )
    weight = torch.randn_like(outputs[0])
    expected, found = (
        (y, *torch.autograd.grad((y * weight).sum(), (x, *self_attention.parameters()))) for y in outputs
    )
    for ours, theirs in zip(found, expected, strict=True):
        if dtype == torch.bfloat16:
            assert (ours - theirs).norm() < 0.03 * theirs.norm()
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-12)

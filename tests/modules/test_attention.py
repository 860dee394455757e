"""The three ways to attend within the segments of a packed sequence give the same."""

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

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


@pytest.mark.parametrize('output', ['all', 'text', 'cls'])
def test_groups_padding_and_the_variable_length_kernel_agree(output, monkeypatch):
    varlen = SimpleNamespace(varlen_attn=varlen_reference)
    monkeypatch.setitem(sys.modules, 'torch.nn.attention.varlen', varlen)
    torch.manual_seed(0)
    packing = Packing(torch.tensor([3, 5, 3, 4]), torch.tensor([6, 2]), torch.tensor([0, 1, 1, 0]), torch.device('cpu'))
    k, v = torch.randn(2, len(packing.gather_index), 2, 8)
    q = torch.randn(len(packing.output_index(output)), 2, 8)
    expected = attention._attend_groups(q, k, v, packing, output)
    for attend in (attention._attend_padded, attention._attend_varlen):
        torch.testing.assert_close(attend(q, k, v, packing, output), expected)

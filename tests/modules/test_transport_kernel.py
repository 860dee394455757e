"""The kernel that GPUs run, interpreted on a CPU: the same plans as the loop, which stays where it does not run."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kovilt.modules import transport

PROGRAM = """
import torch
from kovilt.modules import transport_kernel as kernel
from kovilt.modules.transport import _one_kernel, ipot

generator = torch.Generator().manual_seed(0)
cost = torch.rand(3, 5, 9, generator=generator) * 2
word_mask = torch.arange(5) < torch.tensor([5, 0, 3])[:, None]
patch_mask = torch.arange(9) < torch.tensor([9, 4, 7])[:, None]
assert kernel.fits(cost) and not kernel.fits(cost.new_empty(1, 200, 200))
for beta, iterations, between in ((0.5, 12, 10), (0.05, 6, 1)):
    plan = kernel.ipot_kernel(cost, word_mask, patch_mask, beta=beta, iterations=iterations, between=between)
    expected = ipot(cost, word_mask, patch_mask, beta=beta, iterations=iterations)
    torch.testing.assert_close(plan, expected, rtol=0, atol=1e-6)
assert _one_kernel(torch.device('cpu')) is kernel
"""
needs_triton = pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='Triton is not installed')


@needs_triton
def test_it_makes_the_plans_of_the_loop():
    env = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, '-c', PROGRAM], env=env, capture_output=True, text=True)   # read at import
    assert done.returncode == 0, done.stderr


@needs_triton
@pytest.mark.parametrize('broken, reason', [
    (lambda *tensors, **numbers: 1 / 0, 'ZeroDivisionError'), (lambda cost, *masks, **numbers: cost, 'off by')])
def test_where_it_fails_or_is_wrong_the_loop_stays(broken, reason, monkeypatch):
    monkeypatch.setattr('kovilt.modules.transport_kernel.ipot_kernel', broken)
    transport._one_kernel.cache_clear()
    with pytest.warns(UserWarning, match=f'kernel is not used on cpu: .*{reason}'):
        assert transport._one_kernel(torch.device('cpu')) is None
    transport._one_kernel.cache_clear()

"""What the CPU of this machine is fast in."""

from __future__ import annotations

import torch


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: with AMX, or with AVX512-BF16 on AMD.

    Measured: AMD's AVX512-BF16 (Zen 4 and later) takes half of float32's time, Intel's without AMX twice as much.
    """
    get_capabilities = getattr(torch.cpu, 'get_capabilities', None)
    capabilities = get_capabilities() if get_capabilities else {}
    is_amd = capabilities.get('cpu_name', '').startswith('AMD')
    return capabilities.get('amx_bf16', False) or (is_amd and capabilities.get('avx512_bf16', False))

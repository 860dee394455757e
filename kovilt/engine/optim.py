"""The optimizer's parameter groups, and mixed precision where MMEngine has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import Optimizer

from kovilt.errors import KoviltError, nearest
from kovilt.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViLTOptimWrapperConstructor:
    """ViLT's four groups: body and heads, each with and without weight decay.

    Norms and biases are not decayed, position tables and embeddings are. (ViLT decays the norm inside its VQA head
    too, by a name that its list misses; we do not.) The parameters whose names start with one of `head_prefixes`
    learn `head_lr_mult` times as fast; `lr_mults` names further parts by prefix, each with a factor and two groups of
    its own (METER's co-attention). Groups carry a readable `name`; Adam and AdamW run fused unless the config says
    otherwise. For MuonAdamW the weights of the encoder's blocks are groups of their own.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        options = dict(paramwise_cfg or {})
        self.head_lr_mult = options.pop('head_lr_mult', 1.0)
        prefixes = options.pop('head_prefixes', ())
        self.head_prefixes = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
        self.lr_mults = dict(options.pop('lr_mults', {}))
        if options:
            name, known = next(iter(options)), ('head_lr_mult', 'head_prefixes', 'lr_mults')
            raise KoviltError(f'optim_wrapper.paramwise_cfg: unknown key {name!r}{nearest(name, known)}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        optimizer_cfg = {**self.optimizer_cfg, 'params': self.groups(model)}
        if optimizer_cfg['type'] in ('Adam', 'AdamW') and not optimizer_cfg.get('foreach'):
            optimizer_cfg.setdefault('fused', True)
        wrapper_cfg = {'type': 'ViLTOptimWrapper', **self.wrapper_cfg, 'optimizer': OPTIMIZERS.build(optimizer_cfg)}
        return OPTIM_WRAPPERS.build(wrapper_cfg)

    def groups(self, model: nn.Module) -> list[dict]:
        """Parameter groups for a torch optimizer; empty ones are left out."""
        names = {name for name, _ in model.named_modules() if name.count('.') < 2}
        named = [('head_prefixes', prefix) for prefix in self.head_prefixes]
        for key, prefix in named + [('lr_mults', prefix) for prefix in self.lr_mults]:
            if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
                raise KoviltError(
                    f'optim_wrapper.paramwise_cfg.{key}: no parameter of {type(model).__name__} starts '
                    f'with {prefix!r}{nearest(prefix, names)}'
                )
        undecayed = {
            f'{path}.{name}' if path else name
            for path, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
            if isinstance(module, NORMS) or name == 'bias'
        }
        muon = self.optimizer_cfg['type'] == 'MuonAdamW'
        lr, decay = self.optimizer_cfg.get('lr'), self.optimizer_cfg.get('weight_decay', 0.0)
        groups: dict[str, dict] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            part, factor = self._part(name)
            key = f'{part}.{"no_decay" if name in undecayed else "decay"}'
            matrices = muon and '.blocks.' in name and parameter.ndim == 2 and (3 if 'qkv' in name else 1)
            key += f'.muon{matrices}' if matrices else ''
            group = groups.setdefault(
                key, {'name': key, 'params': [], 'weight_decay': 0.0 if name in undecayed else decay}
            )
            if matrices:
                group['matrices'] = matrices
            if lr is not None:
                group['lr'] = lr * factor
            group['params'].append(parameter)
        ordered = [groups[key] for key in sorted(groups)]
        for group in ordered:
            count = sum(parameter.numel() for parameter in group['params'])
            print_log(
                f'optimizer group {group["name"]}: {len(group["params"])} tensors, {count:,} numbers, '
                f'lr {group.get("lr")}, weight decay {group["weight_decay"]}',
                logger='current',
            )
        return ordered

    def _part(self, name: str) -> tuple[str, float]:
        """Which part of the model a parameter is of, and how many times as fast as the body that learns."""
        if name.startswith(self.head_prefixes):
            return 'head', self.head_lr_mult
        return next(
            ((prefix, factor) for prefix, factor in self.lr_mults.items() if name.startswith(prefix)), ('body', 1.0)
        )


@OPTIM_WRAPPERS.register_module()
class ViLTOptimWrapper(OptimWrapper):
    """MMEngine's wrapper that never makes the device wait, and computes in bfloat16 on any device when asked.

    bfloat16 has float32's range and needs no loss scaling. (MMEngine's AmpOptimWrapper refuses CPUs, and its scaler
    waits for the device at every step; float16, which does need a scaler, stays with it.) The norm of the gradients
    before clipping is left in `grad_norm` as a tensor.

    Args:
        optimizer: a torch optimizer.
        clip_grad: dict(max_norm=...) for `torch.nn.utils.clip_grad_norm_`.
        precision: what the forward pass computes in; parameters and the optimizer stay in float32.
    """

    def __init__(
        self, optimizer: Optimizer, clip_grad: dict | None = None, precision: Literal['float32', 'bfloat16'] = 'float32'
    ) -> None:
        super().__init__(optimizer, clip_grad=clip_grad)
        self.precision = precision
        self.grad_norm: torch.Tensor | None = None

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        self.grad_norm = self.clip_func(parameters, **self.clip_grad_kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, enabled=self.precision == 'bfloat16'):
            yield


def watched(runner, outputs: dict | None) -> dict[str, torch.Tensor]:
    """What a training step is watched by, on its device: all the model returned, and the norm of the gradients."""
    norm = getattr(runner.optim_wrapper, 'grad_norm', None)
    values = {**(outputs or {}), **({} if norm is None else {'grad_norm': norm})}
    device = runner.optim_wrapper.optimizer.param_groups[0]['params'][0].device
    return {name: torch.as_tensor(value, device=device).detach() for name, value in values.items()}


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: by AMX tiles, or by AVX512-BF16 as AMD builds it.

    AMD's takes half of float32's time (Zen 4 and later); Intel's without AMX takes twice as much.
    """
    can = getattr(torch.cpu, 'get_capabilities', dict)()
    amd = can.get('cpu_name', '').startswith('AMD')
    return can.get('amx_bf16', False) or (amd and can.get('avx512_bf16', False))


def mixed_precision(optim_wrapper: dict, dtype: str = 'auto') -> dict:
    """The wrapper config of `--amp`: bfloat16 where the device has arithmetic for it, else float16 on GPUs, and the
    config as it is on CPUs, on which bfloat16 without such arithmetic is slower than float32."""
    cuda = torch.cuda.is_available()
    if dtype == 'auto':
        if not cuda and not has_fast_bfloat16():
            print_log('--amp: this CPU is slower in bfloat16, so float32 stays; --amp bfloat16 insists')
            return optim_wrapper
        dtype = 'float16' if cuda and torch.cuda.get_device_capability() < (8, 0) else 'bfloat16'
    plain = {key: value for key, value in optim_wrapper.items() if key != 'precision'}
    if dtype == 'bfloat16':
        optimizer = dict(plain['optimizer'])
        if optimizer['type'] == 'MuonAdamW':
            optimizer['precision'] = 'bfloat16'
        return {**plain, 'optimizer': optimizer, 'type': 'ViLTOptimWrapper', 'precision': 'bfloat16'}
    if not cuda:
        raise KoviltError('--amp float16 needs a CUDA device; on a CPU use --amp bfloat16')
    return {**plain, 'type': 'AmpOptimWrapper', 'dtype': 'float16', 'loss_scale': 'dynamic'}

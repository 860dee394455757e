"""Parameter groups of the optimizer, mixed precision on any device, and no update from a loss that is not finite."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypedDict

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MMLogger, print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from kovilt.engine.console import FILE_ONLY
from kovilt.errors import KoviltError, nearest
from kovilt.modules.processor import has_fast_bfloat16
from kovilt.ranges import Positive, Range, check_arguments
from kovilt.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


class ParameterGroups(TypedDict, total=False):
    """`paramwise_cfg` of `ViLTOptimWrapperConstructor`."""

    head_prefixes: str | Sequence[str]
    head_lr_mult: Positive
    lr_mults: dict[str, Positive]


class ClipGrad(TypedDict, total=False):
    """`clip_grad` of a wrapper: arguments of torch's clip_grad_norm_ or, with type='value', clip_grad_value_."""

    type: Literal['norm', 'value']
    max_norm: Positive
    norm_type: Annotated[float, Range(gt=0, infinite=True)]
    error_if_nonfinite: bool
    clip_value: Positive
    foreach: bool | None


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViLTOptimWrapperConstructor:
    """Makes ViLT's four parameter groups: encoder and heads, each with and without weight decay.

    Norms and biases have no weight decay; position tables and embeddings have. (ViLT also decays the norm in its VQA
    head, whose name its list of exceptions misses; kovilt does not.) Each group has a readable `name`, such as
    'encoder.decay'. Adam and AdamW are fused, unless the config sets `fused` or `foreach`. For MuonAdamW the weights of
    the encoder's blocks are groups of their own.

    Args:
        optim_wrapper_cfg: the config of the wrapper, with the optimizer's under `optimizer`.
        paramwise_cfg: dict with any of

            - head_prefixes: beginnings of the names of the heads' parameters;
            - head_lr_mult: factor of the learning rate of those;
            - lr_mults: a factor by beginning of name for further parts, each with two groups of its own (METER's
              co-attention).
    """

    @check_arguments
    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: ParameterGroups | None = None) -> None:
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        options: ParameterGroups = paramwise_cfg or {}
        prefixes, head_lr_mult = options.get('head_prefixes', ()), options.get('head_lr_mult', 1.0)
        prefixes = (prefixes,) if isinstance(prefixes, str) else prefixes
        # By beginning of a parameter's name: the part of the model, and the factor of its learning rate.
        self.parts: dict[str, tuple[str, float]] = {prefix: ('head', head_lr_mult) for prefix in prefixes}
        self.parts |= {prefix: (prefix, lr_mult) for prefix, lr_mult in options.get('lr_mults', {}).items()}

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        optimizer_cfg = {**self.optimizer_cfg, 'params': self.groups(model)}
        if optimizer_cfg['type'] in ('Adam', 'AdamW') and not optimizer_cfg.get('foreach'):
            optimizer_cfg.setdefault('fused', True)
        wrapper_cfg = {'type': 'ViLTOptimWrapper', **self.wrapper_cfg, 'optimizer': OPTIMIZERS.build(optimizer_cfg)}
        return OPTIM_WRAPPERS.build(wrapper_cfg)

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameter groups for a torch optimizer, by name; no group is empty.

        Raises:
            KoviltError: a prefix of the config is the beginning of no parameter's name.
        """
        self._check_prefixes(model)
        undecayed = _undecayed_parameters(model)
        lr, weight_decay = self.optimizer_cfg.get('lr'), self.optimizer_cfg.get('weight_decay', 0.0)
        groups: dict[str, dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            parts = (part for prefix, part in self.parts.items() if name.startswith(prefix))
            part, lr_mult = next(parts, ('encoder', 1.0))
            matrices = self._stacked_matrices(name, parameter)
            key = f'{part}.{"no_decay" if name in undecayed else "decay"}{f".muon{matrices}" if matrices else ""}'
            group = groups.setdefault(key, {'name': key, 'params': []})
            group['params'].append(parameter)
            group['weight_decay'] = 0.0 if name in undecayed else weight_decay
            if matrices:
                group['matrices'] = matrices
            if lr is not None:
                group['lr'] = lr * lr_mult
        ordered = [groups[key] for key in sorted(groups)]
        if self.optimizer_cfg['type'] == 'MuonAdamW' and not any(group.get('matrices') for group in ordered):
            print_log(
                "optimizer MuonAdamW: no matrix of encoder.blocks is trained, so all parameters take AdamW's step; "
                'AdamW does the same',
                logger='current',
                level=logging.WARNING,
            )
        for group in ordered:
            count = sum(parameter.numel() for parameter in group['params'])
            MMLogger.get_current_instance().info(
                f'optimizer group {group["name"]}: {len(group["params"])} tensors, {count:,} parameters, '
                f'lr {group.get("lr")}, weight decay {group["weight_decay"]}',
                extra=FILE_ONLY,
            )
        return ordered

    def _check_prefixes(self, model: nn.Module) -> None:
        modules = {name for name, _ in model.named_modules() if name.count('.') < 2}
        for prefix, (part, _) in self.parts.items():
            if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
                key = 'head_prefixes' if part == 'head' else 'lr_mults'
                raise KoviltError(
                    f'optim_wrapper.paramwise_cfg.{key}: no parameter of {type(model).__name__} starts '
                    f'with {prefix!r}{nearest(prefix, modules)}'
                )

    def _stacked_matrices(self, name: str, parameter: nn.Parameter) -> int:
        """How many matrices MuonAdamW finds in a weight of the encoder's blocks; 0 for other parameters."""
        if self.optimizer_cfg['type'] != 'MuonAdamW' or '.blocks.' not in name or parameter.ndim != 2:
            return 0
        return 3 if 'qkv' in name else 1


def _undecayed_parameters(model: nn.Module) -> set[str]:
    """The names of all parameters of norms, and of all biases."""
    return {
        f'{path}.{name}' if path else name
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == 'bias'
    }


class FiniteLossMixin(OptimWrapper):
    """Observes the losses of a step.

    Attributes:
        finite: bool (), on the device: whether the last step was finite, on all processes. Steps that are not finite
            change no parameter. None before the first step.
        grad_norm: the norm of the last step's gradients before clipping, on the device; None if it was not computed.
    """

    finite: Tensor | None = None
    grad_norm: Tensor | None = None
    _loss: Tensor | None = None  # of the micro-batches since the last step

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        value = loss.detach()
        self._loss = value if self._loss is None else self._loss + value
        super().backward(loss, **kwargs)

    def _is_finite(self, *values: Tensor) -> Tensor:
        """Whether the loss and `values` are finite on all processes: bool (), on the device of the loss."""
        assert self._loss is not None
        finite = torch.isfinite(torch.stack([value.float() for value in (self._loss, *values)])).all()
        self._loss = None
        finite = finite.int()
        all_reduce(finite, op='min')  # nothing is sent if there is one process
        return finite.bool()


@OPTIM_WRAPPERS.register_module()
class ViLTOptimWrapper(FiniteLossMixin):
    """MMEngine's OptimWrapper for long runs: it skips a step that is not finite, and computes in bfloat16 when asked.

    The host never waits for a CUDA device: fused Adam and AdamW and MuonAdamW skip the step on the device, as they do
    for torch's GradScaler. For other optimizers the host waits for the device before every step.
    bfloat16 has the range of float32 and needs no loss scaling. (MMEngine's AmpOptimWrapper refuses CPUs, and its
    scaler waits for the device at every step. float16, which needs a scaler, uses it.)

    Args:
        optimizer: a torch optimizer.
        clip_grad: dict(max_norm=...) for `torch.nn.utils.clip_grad_norm_`.
        precision: of the forward pass; parameters and optimizer states stay in float32.
    """

    @check_arguments
    def __init__(
        self,
        optimizer: Optimizer,
        clip_grad: ClipGrad | None = None,
        precision: Literal['float32', 'bfloat16'] = 'float32',
    ) -> None:
        super().__init__(optimizer, clip_grad=clip_grad)
        self.precision = precision
        self._skips_on_device = optimizer.defaults.get('fused') is True or hasattr(optimizer, 'found_inf')

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients and update the parameters, unless the loss or the gradients are not finite."""
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        clips_norm = self.clip_grad_kwargs and self.clip_func is nn.utils.clip_grad_norm_
        if clips_norm:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.grad_norm, self.finite = norm, self._is_finite(norm)
        if self._skips_on_device and self.finite.is_cuda:
            self.optimizer.found_inf = (~self.finite).float()  # torch's optimizers read it
        elif not self.finite:
            return
        if self.clip_grad_kwargs and not clips_norm:
            self.clip_func(parameters, **self.clip_grad_kwargs)
        self.optimizer.step(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, enabled=self.precision == 'bfloat16'):
            yield


@OPTIM_WRAPPERS.register_module()
class ViLTAmpOptimWrapper(FiniteLossMixin, AmpOptimWrapper):
    """MMEngine's AmpOptimWrapper for float16. A loss that is not finite is reported by `finite`.

    Gradients that overflow are no fault in float16: the scaler skips such a step and lowers its scale.
    """

    def step(self, **kwargs: Any) -> None:
        """Update the parameters by the scaler, which skips the step if a gradient is not finite."""
        self.finite = self._is_finite()
        super().step(**kwargs)


def mixed_precision(optim_wrapper: dict[str, Any], dtype: str = 'auto') -> dict[str, Any]:
    """The config of an optimizer wrapper, changed to what `--amp` asks for.

    Args:
        optim_wrapper: the config.
        dtype: 'bfloat16', 'float16' (on GPUs alone), or 'auto': bfloat16 if the device has arithmetic for it, else
            float16 on a GPU and the unchanged config on a CPU, where bfloat16 would be slower than float32.

    Raises:
        KoviltError: float16 without a GPU.
    """
    has_gpu = torch.cuda.is_available()
    if dtype == 'auto':
        if not has_gpu and not has_fast_bfloat16():
            print_log('--amp: this CPU is slower in bfloat16, so float32 stays; --amp bfloat16 insists')
            return optim_wrapper
        dtype = 'float16' if has_gpu and torch.cuda.get_device_capability() < (8, 0) else 'bfloat16'
    others = {key: value for key, value in optim_wrapper.items() if key != 'precision'}
    if dtype == 'bfloat16':
        optimizer = dict(others['optimizer'])
        if optimizer['type'] == 'MuonAdamW':
            optimizer['precision'] = 'bfloat16'
        return {**others, 'optimizer': optimizer, 'type': 'ViLTOptimWrapper', 'precision': 'bfloat16'}
    if not has_gpu:
        raise KoviltError('--amp float16 needs a CUDA device; on a CPU use --amp bfloat16')
    return {**others, 'type': 'ViLTAmpOptimWrapper', 'dtype': 'float16', 'loss_scale': 'dynamic'}

"""Ranges of the arguments of MMEngine's, torch's and mmpretrain's components, which state none themselves.

Our own constructors state theirs in their annotations (`kovilt.ranges`). An argument of one name means the same in all
components of a registry; `OF_COMPONENT` has the few exceptions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from mmengine.registry import Registry

from kovilt import registry as reg
from kovilt.engine.optim import ClipGrad
from kovilt.ranges import BatchSize, Count, Index, Layers, NotNegative, Positive, Range, Rate, Seed, Share, Size

Unlimited = Literal[-1]
Rule = Literal['greater', 'less']
Workers = Annotated[int, Range(ge=0, le=1024)]
UpToOne = Annotated[float, Range(gt=0, le=1)]


class Paramwise(TypedDict, total=False):
    """`paramwise_cfg` of MMEngine's DefaultOptimWrapperConstructor."""

    lr_mult: NotNegative
    decay_mult: NotNegative
    bias_lr_mult: NotNegative
    bias_decay_mult: NotNegative
    norm_decay_mult: NotNegative
    dwconv_decay_mult: NotNegative
    dcn_offset_lr_mult: NotNegative
    flat_decay_mult: NotNegative
    bypass_duplicate: bool
    custom_keys: dict


OF_REGISTRY: dict[Registry, dict[str, Any]] = {
    reg.OPTIMIZERS: {
        'lr': Positive,
        'betas': tuple[Rate, Rate],
        'eps': NotNegative,
        'weight_decay': NotNegative,
        'momentum': Rate,
        'dampening': Share,
        'alpha': Share,
        'rho': Share,
        'lambd': NotNegative,
        't0': Positive,
        'lr_decay': NotNegative,
        'initial_accumulator_value': NotNegative,
        'momentum_decay': NotNegative,
        'etas': tuple[Annotated[float, Range(gt=0, lt=1)], Annotated[float, Range(gt=1)]],
        'step_sizes': tuple[Positive, Positive],
        'ns_steps': Annotated[int, Range(ge=1, lt=100)],
        'ns_coefficients': tuple[float, float, float],
        'max_iter': Count,
        'max_eval': Count | None,
        'history_size': Count,
        'tolerance_grad': NotNegative,
        'tolerance_change': NotNegative,
        'd': Annotated[float, Range(ge=1)],
        'clip_threshold': Positive,
        'decay_rate': Annotated[float, Range(le=0)],
        'beta2_decay': Annotated[float, Range(le=0)],
        'beta1': Rate | None,
    },
    reg.OPTIM_WRAPPERS: {
        'accumulative_counts': Count,
        'clip_grad': ClipGrad | None,
        'loss_scale': Literal['dynamic'] | Positive | dict,
        'dtype': Literal['float16', 'bfloat16', 'float32', 'float64'] | None,
    },
    reg.PARAM_SCHEDULERS: {
        'begin': Index,
        'end': Count,
        'last_step': Literal[-1] | Index,
        'T_max': Count | None,
        'eta_min': NotNegative | None,
        'eta_min_ratio': Share | None,
        'eta_max': Positive,
        'start_factor': UpToOne,
        'end_factor': Share,
        'factor': Share,
        'gamma': Positive,
        'milestones': list[Index],
        'step_size': Count,
        'power': NotNegative,
        'total_steps': Count | None,
        'pct_start': Share,
        'div_factor': Positive,
        'final_div_factor': Positive,
        'anneal_strategy': Literal['cos', 'linear'],
        'patience': Index,
        'cooldown': Index,
        'threshold': NotNegative,
        'threshold_rule': Literal['rel', 'abs'],
        'rule': Rule,
        'min_value': NotNegative | Sequence[NotNegative],
        'eps': NotNegative,
        'periods': list[Count],
        'restart_weights': Sequence[NotNegative],
    },
    reg.LOOPS: {
        'max_epochs': Count,
        'max_iters': Count,
        'val_begin': Index,
        'val_interval': Count,
        'dynamic_intervals': list[tuple[Index, Count]] | None,
    },
    reg.HOOKS: {
        'interval': Count,
        'interval_exp_name': Count,
        'max_keep_ckpts': Unlimited | Count,
        'save_begin': Index,
        'rule': Rule | None,
        'min_delta': NotNegative,
        'patience': Count,
        'stopping_threshold': float | None,
        'begin_iter': Index,
        'begin_epoch': Index,
        'begin': Index,
        'end': Count,
        'profile_times': Count,
    },
    reg.OPTIM_WRAPPER_CONSTRUCTORS: {'paramwise_cfg': Paramwise | None},
    reg.LOG_PROCESSORS: {
        'window_size': Count,
        'num_digits': Annotated[int, Range(ge=0, le=20)],
        'mean_pattern': str,
    },
    reg.DATA_SAMPLERS: {'seed': Seed | None, 'batch_size': BatchSize},
    reg.MODELS: {  # of mmpretrain's and MMEngine's; those in dicts inside a component (`arch`, `norm_cfg`) as well
        'embed_dims': Size,
        'hidden_size': Size,
        'num_layers': Layers,
        'num_heads': Size,
        'feedforward_channels': Size,
        'patch_size': Size,
        'in_channels': Size,
        'drop_rate': Rate,
        'drop_path_rate': Rate,
        'attn_drop_rate': Rate,
        'eps': Positive,
        'momentum': Annotated[float, Range(gt=0, lt=1)],  # of averaged weights
        'interval': Count,
        'gamma': Count,
        'num_classes': Size,
    },
}

OF_COMPONENT: dict[tuple[str, str], Any] = {
    ('CheckpointHook', 'interval'): Unlimited | Count,
    ('CheckpointHook', 'rule'): Rule | list[Rule] | None,
    ('Adafactor', 'lr'): Positive | None,
    ('Adafactor', 'eps'): tuple[NotNegative, NotNegative],
    ('TorchAdafactor', 'eps'): tuple[NotNegative | None, NotNegative],
}

DATALOADER = {
    'batch_size': BatchSize,
    'num_workers': Workers,
    'prefetch_factor': Count | None,
    'timeout': NotNegative,
    'num_batch_per_epoch': Count,
    'pin_memory': bool,
    'drop_last': bool,
    'persistent_workers': bool,
}


def is_foreign(part: Any) -> bool:
    """Whether a component is of the libraries that the tables of this file are about."""
    return getattr(part, '__module__', '').split('.')[0] in ('mmengine', 'torch', 'mmpretrain', 'mmcv', 'transformers')


def hint_of(part: Any, registry: Registry, argument: inspect.Parameter) -> Any:
    """What an argument of a component may be: by its annotation, the tables above, or the type of its default.

    Components of kovilt and of plugins state the ranges of their own arguments themselves.
    """
    owner = _owner(part, argument.name)
    if is_foreign(owner):
        of_registry = OF_REGISTRY.get(registry, {}).get(argument.name)
        found = OF_COMPONENT.get((getattr(owner, '__name__', ''), argument.name), of_registry)
        if found is not None:
            return found
    if argument.annotation is argument.empty and type(argument.default) in (bool, int, float):
        return bool if isinstance(argument.default, bool) else float
    return argument.annotation


def _owner(part: Any, name: str) -> Any:
    """The class of `part` or of its bases whose constructor has the argument."""
    for base in getattr(part, '__mro__', ()):
        if '__init__' in vars(base) and name in inspect.signature(vars(base)['__init__']).parameters:
            return base
    return part

"""What a run puts into its checkpoints, and how it starts from one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmengine
import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import nn

import kovilt
from kovilt.engine.changes import (
    Change,
    changes_course,
    changes_scores,
    check_allowed_keys,
    check_changes,
    describe_changes,
    find_changes,
)
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import (
    ENCODER_PREFIX,
    check_encoder,
    check_vocabulary,
    check_weights,
    describe_checkpoint,
    load_checkpoint_file,
    load_encoder,
)
from kovilt.formats.fields import Field, check_fields
from kovilt.formats.report import shorten_list
from kovilt.formats.tensor_files import check_values
from kovilt.model_names import find_model
from kovilt.models.choice import ViLTForMultipleChoice
from kovilt.weights.folder import folder_as_checkpoint

if TYPE_CHECKING:
    from kovilt.engine.runner import KoviltRunner

# The entries of MMEngine's message hub that a resumed run needs, by the beginnings of their names. Its other entries
# are large and stand elsewhere: the config, the metainfo of the data, the history of every scalar as pickled objects.
RESUMED_INFO = ('best_', 'keep_ckpt_ids', 'last_ckpt', 'nonfinite_skipped', 'early_stopping')

# What also stands in `meta` itself, where checkpoints of earlier versions have nothing else.
_FACTS_OF_META = {'seed': 'randomness.seed', 'pairs_per_step': 'pairs_per_step'}

_OBJECT = Field(dict, is_required=True)
_OPTIMIZER = dict(param_groups=Field(list, items=Field(dict), is_required=True), state=_OBJECT)
_MESSAGE_HUB = dict(log_scalars=_OBJECT, runtime_info=_OBJECT, resumed_keys=_OBJECT)


def read_checkpoint(path: str | os.PathLike[str], map_location: str | torch.device = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file or a model folder, which may be named as `find_model` takes it.

    Returns a dict with `state_dict`, `meta` and whatever else a file holds.
    """
    path = find_model(path)
    return folder_as_checkpoint(path) if path.is_dir() else load_checkpoint_file(path, map_location)


def unwrap_model(model: nn.Module) -> Any:
    """The model itself, without the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def make_checkpoint(runner: Runner, meta: Mapping[str, Any], *, optimizer: bool, schedules: bool) -> dict[str, Any]:
    """The current state of a KoviltRunner as a dict of plain Python values and of the tensors that it trains.

    `meta` is what to add to the checkpoint's `meta`: epoch and iter. `optimizer` and `schedules` include their states.
    """
    model = unwrap_model(runner.model)
    info = {key: value for key, value in runner.message_hub.runtime_info.items() if key.startswith(RESUMED_INFO)}
    checkpoint: dict[str, Any] = {
        'meta': {
            **meta,
            'model_type': type(model).__name__,
            'encoder_type': type(getattr(model, 'encoder', None)).__name__,
            'kovilt_version': kovilt.__version__,
            'mmengine_version': mmengine.__version__,
            'torch_version': str(torch.__version__),
            'cfg': runner.config_text,
            'seed': runner.seed,
            'pairs_per_step': runner.pairs_per_step,
            'run': runner.run_facts,
            'experiment_name': runner.experiment_name,
            'time': time.strftime('%Y-%m-%d %H:%M:%S'),
            'data_sizes': runner.data_sizes,
            'dataset_meta': to_plain(runner.dataset_meta),
        },
        'state_dict': model.state_dict(),
        'message_hub': {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': dict.fromkeys(info, True)},
    }
    if optimizer:
        checkpoint['optimizer'] = runner.optim_wrapper.state_dict()
    if schedules and runner.param_schedulers is not None:
        checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in runner.param_schedulers]
    return checkpoint


def check_same_run(
    runner: KoviltRunner, checkpoint: dict[str, Any], source: str, allowed: Sequence[str]
) -> list[Change]:
    """Compare the run of a checkpoint with the one that resumes from it, and return what has changed.

    What a change makes useless is taken out of the checkpoint: its best scores, if they were measured otherwise.

    Args:
        allowed: the keys of `--allow-change`.

    Raises:
        KoviltError: the checkpoint is incomplete or does not fit, a change is not allowed, or `allowed` names a key
            that does not exist.
    """
    meta, ours = checkpoint['meta'], runner.run_facts
    theirs = meta.get('run')
    if theirs is None:
        runner.logger.warning(
            f'{source}: an earlier version wrote it, without what its run was made of; of the changes since then only '
            'seed and batch size are found'
        )
        theirs = ours
    theirs = {**theirs, **{key: meta[name] for name, key in _FACTS_OF_META.items() if name in meta}}
    check_allowed_keys(allowed, [*ours, *theirs])
    changes = find_changes(theirs, ours, processes=runner.world_size)
    model = unwrap_model(runner.model)
    try:
        check_vocabulary(runner.data_sizes, checkpoint, source)
        check_encoder(model, checkpoint, source)
        check_weights(model, checkpoint, source)
        check_resumable(runner, checkpoint, source, is_same_course=not changes_course(changes))
    except KoviltError as error:
        important = [change for change in changes if change.matters]
        raise KoviltError(f'{error} (changed: {describe_changes(important)})' if important else str(error)) from error
    check_changes(changes, allowed, source)
    if changes_course(changes):
        _check_repeatable(runner)
    if meta['iter'] > runner.train_loop.max_iters:
        raise KoviltError(
            f'{source}: of step {meta["iter"]:,}, but train_cfg ends after {runner.train_loop.max_iters:,} steps; give '
            'it a greater length'
        )
    if changes:
        runner.logger.warning(f'{source}: since it was saved, {describe_changes(changes, len(changes))}')
    meta['seed'] = runner.seed  # or MMEngine would go back to that of the checkpoint
    info = checkpoint['message_hub']['runtime_info']
    if changes_scores(changes):
        for key in [key for key in info if str(key).startswith('best_')]:
            del info[key]
    _keep_own_files(info, runner.work_dir)
    return changes


def _check_repeatable(runner: KoviltRunner) -> None:
    """KoviltError if a schedule cannot be computed anew up to the current step."""
    for schedule in runner.param_schedulers or ():
        if getattr(schedule, 'need_val_args', False):
            raise KoviltError(
                f'param_scheduler: a {type(schedule).__name__} follows the validations of the run, so other values of '
                'optimizer, schedule or length cannot take effect; restore them, or start anew with --load-from'
            )


def check_resumable(runner: Runner, checkpoint: Mapping[str, Any], source: str, *, is_same_course: bool = True) -> None:
    """Refuse a checkpoint from which a run cannot go on exactly.

    `is_same_course` = False: the schedules have been changed, so their states are not used.

    Raises:
        KoviltError: it lacks the step or the state of the optimizer or of the schedules, as a best checkpoint or
            weights alone do; or these are of another model.
    """
    missing = [key for key in ('epoch', 'iter') if key not in checkpoint['meta']]
    missing += [key for key in ('optimizer', 'message_hub') if key not in checkpoint]
    if runner.param_schedulers and 'param_schedulers' not in checkpoint:
        missing.append('param_schedulers')
    if missing:
        raise KoviltError(
            f'{source}: cannot be resumed from, it has no {", ".join(missing)}; start from it: --load-from'
        )
    check_fields(checkpoint['optimizer'], _OPTIMIZER, f'{source}: optimizer')
    check_fields(checkpoint['message_hub'], _MESSAGE_HUB, f'{source}: message_hub')
    count = len(runner.param_schedulers) if isinstance(runner.param_schedulers, list) else bool(runner.param_schedulers)
    if is_same_course and len(checkpoint.get('param_schedulers', ())) != count:
        raise KoviltError(f'{source}: it has other schedules than param_scheduler; resume with the same config')
    groups = runner.optim_wrapper.optimizer.param_groups
    theirs = checkpoint['optimizer']['param_groups']
    kind = type(runner.optim_wrapper.optimizer).__name__
    if theirs and _values_of(theirs[0]).keys() != _values_of(groups[0]).keys():
        raise KoviltError(f'{source}: its optimizer is no {kind}; resume with the same config')
    if [len(group['params']) for group in groups] != [len(group.get('params', ())) for group in theirs]:
        raise KoviltError(f'{source}: its optimizer has other parameter groups; resume with the same config')
    parameters = [parameter for group in groups for parameter in group['params']]
    for number, values in checkpoint['optimizer']['state'].items():
        shapes = [tuple(value.shape) for value in values.values() if isinstance(value, torch.Tensor) and value.ndim]
        if not 0 <= number < len(parameters) or any(shape != parameters[number].shape for shape in shapes):
            raise KoviltError(
                f'{source}: the state of its optimizer does not fit the parameters; it is damaged or of another model: '
                'take an earlier checkpoint'
            )


def _values_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a group of an optimizer, without those that schedules have added."""
    return {key: value for key, value in group.items() if not key.startswith('initial_')}


def _keep_own_files(info: dict[str, Any], work_dir: str) -> None:
    """Replace the paths in the info of a message hub by files of the same names in `work_dir`, or by None.

    MMEngine deletes the former best checkpoint, a file or a folder of any path, when a better one is there.
    """
    for key in [key for key in info if str(key).startswith(('best_ckpt', 'last_ckpt'))]:
        own = Path(work_dir, Path(str(info[key])).name)
        info[key] = str(own) if own.suffix == '.pth' and own.is_file() else None
    numbers = info.get('keep_ckpt_ids')
    info['keep_ckpt_ids'] = [number for number in numbers or () if type(number) is int]


def matching_as_choice(model: nn.Module, checkpoint: dict[str, Any], filename: str) -> str:
    """Turn the matching head of a pre-trained checkpoint into a choice head, and load it into a model that has one.

    With the encoder of the checkpoint the model can then choose without any fine-tuning. Returns a line for the log, ''
    if the model has no choice head or the checkpoint is not of pre-training.

    Raises:
        KoviltError: pre-trained without a matching head.
    """
    kind = str(checkpoint['meta'].get('model_type'))
    if not isinstance(model, ViLTForMultipleChoice) or not kind.endswith('ForPreTraining'):
        return ''
    try:
        checkpoint['state_dict'] = state = model.from_matching(checkpoint['state_dict'])
    except KoviltError as error:
        raise KoviltError(f'{filename}: {error}') from None
    ours, head = model.state_dict(), {name: state[name] for name in state if name.startswith('choice_head.')}
    check_values(head, ours, filename, 'take an earlier checkpoint')
    if all(value.shape == ours[name].shape for name, value in head.items()):  # else the encoder is of another size, too
        model.load_state_dict(head, strict=False)
    return f'{filename}: the choice head is its matching (ITM) head'


def start_from_encoder(
    model: nn.Module, checkpoint: dict[str, Any], filename: str, *, force: bool = False, loaded: tuple[str, ...] = ()
) -> str:
    """Load the encoder of a checkpoint into a model and leave the model's heads as they are.

    Afterwards the checkpoint's `state_dict` is that of the whole model, because hooks such as EMAHook copy it.
    Returns a line for the log: how many tensors were kept, and which are new or were dropped. `force` is that of
    `load_encoder`; `loaded` are the beginnings of the names of tensors that the model has already.
    """
    kept, total = load_encoder(model, checkpoint, filename, force=force)
    ours, theirs = model.state_dict(), checkpoint['state_dict']
    checkpoint['state_dict'] = weights_to_cpu(ours)
    own, others = ([name for name in state if not name.startswith(loaded)] for state in (ours, theirs))
    return (
        f'{filename} ({describe_checkpoint(checkpoint)}): kept {kept} of {total} tensors of the encoder; '
        f'new: {_describe_others(own, others)}; dropped: {_describe_others(others, own)}'
    )


def _describe_others(names: Iterable[str], others: Container[str]) -> str:
    """Tensors of the encoder that are not among others, by name, and all tensors outside of it, counted by part."""
    of_encoder = [name for name in names if name.startswith(ENCODER_PREFIX) and name not in others]
    parts = Counter(name.split('.')[0] for name in names if not name.startswith(ENCODER_PREFIX))
    counts = [f'{part} ({count})' for part, count in sorted(parts.items())]
    return ', '.join([*counts, *([shorten_list(of_encoder)] if of_encoder else [])]) or 'nothing'


def to_plain(value: Any) -> Any:
    """`value` as tensors, numbers, text, lists and dicts, the only types that a checkpoint may hold."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)  # also of a subclass of str
    if hasattr(value, 'tolist') and not isinstance(value, torch.Tensor):  # numpy
        return value.tolist()
    return value

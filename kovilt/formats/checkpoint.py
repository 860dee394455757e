"""Checkpoint files: read without running code, compared with a model before loading, written atomically."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.errors import KoviltError, first_line
from kovilt.files import atomic_path, check_file, read_bytes
from kovilt.formats.fields import Field, check_answers, check_fields
from kovilt.formats.report import shorten_list
from kovilt.formats.tensor_files import check_digest, check_values, load_safetensors
from kovilt.formats.torch_file import check_state, check_torch_file
from kovilt.model_names import find_model

POINTER_FILE = 'last_checkpoint'  # holds the name of the checkpoint that a run wrote last
_NUMBERED = re.compile(r'(?:epoch|iter)_\d+\.pth')  # not best_accuracy_iter_9.pth, which has no optimizer state
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')
_TOKEN_ID = Field(int, low=0)
_PARTS = dict(
    meta=Field(dict), optimizer=Field(dict), param_schedulers=Field(list, items=Field(dict)), message_hub=Field(dict)
)
_META = dict(
    cfg=Field(str),
    model_type=Field(str),
    encoder_type=Field(str),
    epoch=Field(int, low=0),
    iter=Field(int, low=0),
    seed=Field(int),
    pairs_per_step=Field(int, low=1),
    data_sizes=Field(dict),
    dataset_meta=Field(dict),
    run=Field(dict),
)
_DATA_SIZES = dict(
    num_answers=Field(int, low=1),
    vocab_size=Field(int, low=1),
    mask_token_id=_TOKEN_ID,
    special_token_ids=Field(list, items=_TOKEN_ID),
    vocabulary_digest=Field(str),
    patch_size=Field(int, low=1),
    max_text_len=Field(int, low=3),
)
ENCODER_PREFIX = 'encoder.'  # pre-training and fine-tuning share these parameters; the heads have other names
MIN_ENCODER_COVERAGE = 0.95


def load_checkpoint_file(
    path: str | os.PathLike[str],
    map_location: str | torch.device = 'cpu',
    *,
    placeholder_packages: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Read a `.pth` written by `KoviltRunner`, or a `.pth` or `.safetensors` file of weights alone.

    Returns a dict with `state_dict`, whose names lose the prefixes of DistributedDataParallel and torch.compile, `meta`
    and whatever else the file holds. Only tensors and plain Python values are read (`weights_only=True`): a pickle that
    would call anything is refused, never executed.

    Args:
        placeholder_packages: packages, such as 'lightning.', whose objects may stand beside the weights. The packages
            are not imported: each object is read as a dict of its plain values.

    Raises:
        KoviltError: no such file, not a checkpoint, cut off or damaged, it holds objects that could run code or fill
            the memory, or what stands beside the weights is of another type than a run writes.
    """
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise KoviltError(f'{path}: is a folder, not a checkpoint file')
    if not path.is_file():
        raise KoviltError(f'{path}: no such checkpoint file')
    if path.suffix == '.safetensors':
        check_digest(path)
        return {'state_dict': _without_wrappers(load_safetensors(path, map_location), path), 'meta': {}}
    check_torch_file(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_placeholders(path, placeholder_packages)):
            warnings.simplefilter('ignore', UserWarning)  # torch warns of the same pickles that it then refuses
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r'GLOBAL (\S+)', str(error))
        if forbidden:
            raise KoviltError(
                f'{path}: refused, it holds {forbidden[1]!r}, which could run code; only files of tensors and '
                'plain values are read'
            ) from error
        raise KoviltError(f'{path}: not a checkpoint') from error
    except Exception as error:  # a damaged pickle may raise anything
        raise KoviltError(f'{path}: not a checkpoint, or cut off ({first_line(error)})') from error
    if not isinstance(checkpoint, dict):
        raise KoviltError(f'{path}: not a checkpoint: it holds a {type(checkpoint).__name__}, not a state_dict')
    if 'state_dict' not in checkpoint:
        if not checkpoint or not all(isinstance(value, Tensor) for value in checkpoint.values()):
            raise KoviltError(f'{path}: not a checkpoint: it has no "state_dict"')
        checkpoint = {'state_dict': checkpoint}
    check_state(checkpoint['state_dict'], path)
    checkpoint['state_dict'] = _without_wrappers(checkpoint['state_dict'], path)
    checkpoint.setdefault('meta', {})
    _check_meta(checkpoint, path)
    checkpoint['meta'].pop('config', None)  # of old versions of MMEngine, which runs this text when it resumes
    return checkpoint


def _without_wrappers(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors without the name prefixes of DistributedDataParallel and torch.compile."""
    clean: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _WRAPPERS.sub('', key)
        if name in clean:
            raise KoviltError(f'{path}: two tensors are called {name} once prefixes are removed; keep one of them')
        clean[name] = tensor
    return clean


def _check_meta(checkpoint: Mapping[str, Any], path: Path) -> None:
    """KoviltError if what stands beside the weights is not what a run writes there."""
    source = f'{path}: meta'
    check_fields(checkpoint, _PARTS, str(path))
    meta = checkpoint['meta']
    check_fields(meta, _META, source)
    sizes = meta.get('data_sizes') or {}
    check_fields(sizes, _DATA_SIZES, f'{source}.data_sizes')
    num_values = sum(tensor.numel() for tensor in checkpoint['state_dict'].values())
    for key, size in sizes.items():  # a model is built with them, and each stands for rows of a table of weights
        if isinstance(size, int) and size > num_values:
            raise KoviltError(
                f'{source}.data_sizes: {key} is {size:,}, but its weights are {num_values:,} numbers; get it again'
            )
    data = meta.get('dataset_meta') or {}
    check_fields(data, dict(answer_counts=Field(list, items=Field(int, low=0))), f'{source}.dataset_meta')
    if data.get('answers') is not None:
        check_answers(data['answers'], f'{source}.dataset_meta.answers')
        if (meta.get('run') or {}).get('answers') not in (None, digest_answers(data['answers'])):
            raise KoviltError(f'{source}: the answers there are not those of its run; take the original file')


def digest_answers(answers: Iterable[str]) -> str:
    """A digest of an answer vocabulary, in label order."""
    return hashlib.blake2b(json.dumps(list(answers)).encode(), digest_size=8).hexdigest()


class _Placeholder:
    """Stands for a class that is not imported. Calling it gives an empty OrderedDict, whatever the arguments."""

    def __new__(cls, *args: Any) -> Any:  # an OrderedDict itself: the restricted unpickler fills no subclass of it
        return OrderedDict()


def _placeholders(path: Path, packages: tuple[str, ...]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The classes of `packages` that a pickle names, in the form that `torch.serialization.safe_globals` takes."""
    if not packages or not zipfile.is_zipfile(path):  # torch cannot list the classes of its old, unzipped format
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Placeholder, name) for name in names if name.startswith(packages)]


def write_checkpoint(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a checkpoint atomically: after a crash or on a full disk the older file, or none, is there.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_path(path) as draft, open(draft, 'wb') as file:
        try:
            torch.save(checkpoint, file)  # to a file of Python's: torch's own tell no reason when they fail
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def find_checkpoints(work_dir: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints from which the run in `work_dir` can be resumed, the latest first; some may be damaged.

    The latest is the one that the file `last_checkpoint` names. The others, or all if that file is missing or damaged,
    follow by the steps that they record, those that cannot be read first.
    """
    work_dir = Path(work_dir)
    found = [path for path in work_dir.glob('*.pth') if _NUMBERED.fullmatch(path.name)]
    pointer = work_dir / POINTER_FILE
    named = ''
    if pointer.is_file():
        named = Path(read_bytes(pointer, 'config').decode(errors='replace').strip().replace('\0', '')).name
    return sorted(found, key=lambda path: (path.name == named, _recorded_step(path)), reverse=True)


def latest_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """The checkpoint that the run in `work_dir` wrote last, or None; it may be damaged."""
    return next(iter(find_checkpoints(work_dir)), None)


def _recorded_step(path: Path) -> float:
    """The number of steps in the `meta` of a checkpoint, read without its tensors; infinite if it cannot be read."""
    try:
        check_file(path, 'weights')
        return float(torch.load(path, map_location='meta', weights_only=True, mmap=True)['meta']['iter'])
    except Exception:  # a damaged file may raise anything
        return math.inf


def choose_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that a path stands for: of a work folder its best one, else its latest; any other path is itself.

    The best one is what CheckpointHook writes with `save_best`; of several, by several metrics, the newest. The name of
    a packaged model stands for its folder, as `find_model` has it.
    """
    path = find_model(path)
    return (
        (_newest(path, r'best_.+_(?:epoch|iter)_(\d+)\.pth') or latest_checkpoint(path) or path)
        if path.is_dir()
        else path
    )


def _newest(work_dir: Path, pattern: str) -> Path | None:
    """The file of a folder whose name matches, and has the largest number."""
    found = [(int(number[1]), path) for path in work_dir.glob('*.pth') if (number := re.fullmatch(pattern, path.name))]
    return max(found)[1] if found else None


def describe_checkpoint(checkpoint: Mapping[str, Any]) -> str:
    """The checkpoint's model, if known its epoch and step, and whether its weights are averages, for messages."""
    meta = checkpoint.get('meta', {})
    text = meta.get('model_type') or 'weights without a model name'
    if 'epoch' in meta and 'iter' in meta:
        text += f' after {meta["epoch"]} epochs, {meta["iter"]} steps'
    if 'ema_state_dict' in checkpoint:  # where EMAHook puts the weights that are not averaged
        text += ', averaged weights (EMA)'
    return text


def weight_differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """How the tensors of a model (ours) and a checkpoint (theirs) differ: other sizes, then missing, then unknown."""
    sizes = [
        f'{name} is {tuple(theirs[name].shape)} there and {tuple(ours[name].shape)} here'
        for name in ours
        if name in theirs and ours[name].shape != theirs[name].shape
    ]
    missing = [f'{name} is missing there' for name in ours if name not in theirs]
    unknown = [f'{name} has no place here' for name in theirs if name not in ours]
    return sizes + missing + unknown


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """Load every tensor of a checkpoint of the same model. `source` names the checkpoint in errors.

    Raises:
        KoviltError: any tensor is missing, unknown, of another size or of another type of numbers, holds NaN, or the
            answers differ.
    """
    check_weights(model, checkpoint, source)
    check_values(checkpoint['state_dict'], model.state_dict(), source, 'take an earlier checkpoint')
    model.load_state_dict(checkpoint['state_dict'])


def check_weights(model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """The checks of `load_weights` on names, sizes and answers; `model` may lie on the meta device."""
    _check_answers(model, checkpoint, source)
    if found := weight_differences(model.state_dict(), checkpoint['state_dict']):
        raise KoviltError(
            f'{source}: not a checkpoint of this {type(model).__name__}; it is {describe_checkpoint(checkpoint)}, '
            f'and {shorten_list(found, separator="; ")}'
        )


def load_encoder(
    model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str], *, force: bool = False
) -> tuple[int, int]:
    """Load the encoder alone, as fine-tuning from pre-training does; the heads keep their fresh weights.

    Returns how many of the encoder's tensors were loaded, and how many it has.

    Args:
        force: a single tensor is enough; the others keep their fresh weights.

    Raises:
        KoviltError: a tensor is of another size, or less than 95 % of the encoder's tensors are there.
    """
    ours = {name: value for name, value in model.state_dict().items() if name.startswith(ENCODER_PREFIX)}
    theirs = {name: value for name, value in checkpoint['state_dict'].items() if name.startswith(ENCODER_PREFIX)}
    resize_positions = getattr(getattr(model, 'encoder', None), 'resize_positions', None)
    if resize_positions is not None:  # METER: to its own image size
        theirs = resize_positions(theirs, ENCODER_PREFIX)
    shared = {name: value for name, value in theirs.items() if name in ours}
    if found := weight_differences({name: ours[name] for name in shared}, shared):
        raise KoviltError(
            f'{source}: this encoder is of another size; it is {describe_checkpoint(checkpoint)}, and '
            f'{"; ".join(found[:3])}; give encoder the sizes of the checkpoint'
        )
    if len(shared) < (1 if force else MIN_ENCODER_COVERAGE * max(len(ours), 1)):
        remedy = '--force starts from them all the same; ' if shared and not force else ''
        raise KoviltError(
            f'{source}: holds {len(shared)} of the {len(ours)} tensors of this encoder; it is '
            f'{describe_checkpoint(checkpoint)}; {remedy}kovilt import reads what others have published'
        )
    check_values(shared, ours, source, 'take an earlier checkpoint')
    model.load_state_dict(shared, strict=False)
    return len(shared), len(ours)


def encoder_mismatch(model: nn.Module, checkpoint: Mapping[str, Any]) -> str | None:
    """A message if the checkpoint was trained with another encoder class than the model has, else None.

    `ViLT` and `PrefixViLT` have the same tensors and compute different things, so names and sizes cannot tell them
    apart. A checkpoint that does not name its encoder is taken for one of the model's class.
    """
    ours, theirs = type(getattr(model, 'encoder', None)).__name__, checkpoint.get('meta', {}).get('encoder_type')
    if theirs is None or theirs == ours:
        return None
    return f'its encoder is a {theirs}, this one a {ours}: they compute different things, also on the same weights'


def check_encoder(model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """KoviltError if a checkpoint that is used without further training has another encoder class than the model."""
    if mismatch := encoder_mismatch(model, checkpoint):
        raise KoviltError(f'{source}: {mismatch}; use the config that it was trained with, or train from it')


def check_vocabulary(sizes: Mapping[str, Any], checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """KoviltError if the checkpoint was trained with another tokenizer than the one that gave `sizes`.

    The same token ids would mean other tokens, and with two vocabularies of one size nothing else would notice.
    """
    theirs = checkpoint.get('meta', {}).get('data_sizes', {})
    our_digest, their_digest = sizes.get('vocabulary_digest'), theirs.get('vocabulary_digest')
    if our_digest and their_digest and our_digest != their_digest:
        raise KoviltError(
            f'{source}: it was trained with another tokenizer ({theirs.get("vocab_size")} tokens there, '
            f'{sizes.get("vocab_size")} here); give TokenizeKorean that one'
        )


def _check_answers(model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """KoviltError if the answer head's classes mean other answers, or the same answers in another order."""
    ours: Any = getattr(model, 'answers', None)
    theirs = checkpoint.get('meta', {}).get('dataset_meta', {}).get('answers')
    if not ours or not theirs or list(ours) == list(theirs):
        return
    if len(ours) != len(theirs):
        difference = f'{len(theirs)} answers there, {len(ours)} here'
    else:
        label = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        difference = f'answer {label} is {theirs[label]!r} there and {ours[label]!r} here'
    raise KoviltError(
        f'{source}: its answers are not those of this data: {difference}; to load its encoder only, set '
        'load_encoder_only=True'
    )

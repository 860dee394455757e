"""Checkpoint files: read without running code, compared with a model before loading, written atomically."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.errors import KoviltError, first_line
from kovilt.files import atomic_path
from kovilt.formats.report import shorten_list
from kovilt.formats.tensor_files import load_safetensors

ENCODER_PREFIX = 'encoder.'  # pre-training and fine-tuning share these parameters; the heads have other names
MIN_ENCODER_COVERAGE = 0.95


def load_checkpoint_file(
    path: str | os.PathLike[str],
    map_location: str | torch.device = 'cpu',
    *,
    placeholder_packages: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Read a `.pth` written by `KoviltRunner`, or a `.pth` or `.safetensors` file of weights alone.

    Returns a dict with `state_dict`, `meta` and whatever else the file holds. Only tensors and plain Python values are
    read (`weights_only=True`): a pickle that would call anything is refused, never executed.

    Args:
        placeholder_packages: packages, such as 'lightning.', whose objects may stand beside the weights. The packages
            are not imported: each object is read as a dict of its plain values.

    Raises:
        KoviltError: no such file, not a checkpoint, cut off, or it holds objects that could run code.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise KoviltError(f'{path}: is a folder, not a checkpoint file')
    if not path.is_file():
        raise KoviltError(f'{path}: no such checkpoint file')
    if path.suffix == '.safetensors':
        return {'state_dict': load_safetensors(path, map_location), 'meta': {}}
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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise KoviltError(f'{path}: not a checkpoint, or cut off ({first_line(error)})') from error
    if not isinstance(checkpoint, dict):
        raise KoviltError(f'{path}: not a checkpoint: it holds a {type(checkpoint).__name__}, not a state_dict')
    if 'state_dict' not in checkpoint:
        if not checkpoint or not all(isinstance(value, Tensor) for value in checkpoint.values()):
            raise KoviltError(f'{path}: not a checkpoint: it has no "state_dict"')
        checkpoint = {'state_dict': checkpoint}
    checkpoint.setdefault('meta', {})
    return checkpoint


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
    """Write a checkpoint atomically: after a crash or on a full disk the older file, or none, is there."""
    try:
        with atomic_path(path) as draft:
            torch.save(checkpoint, draft)
    except (OSError, RuntimeError) as error:
        raise KoviltError(f'{path}: checkpoint not written ({error}); is the disk full?') from error


def latest_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """The checkpoint that the run in `work_dir` wrote last, or None.

    It is found by name when the file `last_checkpoint` is missing or names a folder that was moved.
    """
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file():
        named = work_dir / Path(pointer.read_text(encoding='utf-8').strip()).name
        if named.is_file():
            return named
    found = [
        (int(number[1]), path)
        for path in work_dir.glob('*.pth')
        if (number := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name))
    ]
    return max(found)[1] if found else None


def describe_checkpoint(checkpoint: Mapping[str, Any]) -> str:
    """The checkpoint's model and, if known, its epoch and step, for messages."""
    meta = checkpoint.get('meta', {})
    text = meta.get('model_type') or 'weights without a model name'
    if 'epoch' in meta and 'iter' in meta:
        text += f' after {meta["epoch"]} epochs, {meta["iter"]} steps'
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
        KoviltError: any tensor is missing, unknown or of another size, or the answers differ.
    """
    ours, theirs = model.state_dict(), checkpoint['state_dict']
    _check_answers(model, checkpoint, source)
    if found := weight_differences(ours, theirs):
        raise KoviltError(
            f'{source}: not a checkpoint of this {type(model).__name__}; it is {describe_checkpoint(checkpoint)}, '
            f'and {shorten_list(found, separator="; ")}'
        )
    model.load_state_dict(theirs)


def load_encoder(model: nn.Module, checkpoint: Mapping[str, Any], source: str | os.PathLike[str]) -> tuple[int, int]:
    """Load the encoder alone, as fine-tuning from pre-training does; the heads keep their fresh weights.

    Returns how many of the encoder's tensors were loaded, and how many it has.

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
    if len(shared) < MIN_ENCODER_COVERAGE * max(len(ours), 1):
        raise KoviltError(
            f'{source}: holds {len(shared)} of the {len(ours)} tensors of this encoder; '
            f'it is {describe_checkpoint(checkpoint)}'
        )
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

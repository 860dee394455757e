"""Checkpoints: read without running code, compared with the model before loading, written whole or not at all."""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.errors import KoviltError

ENCODER_PREFIX = 'encoder.'  # what pre-training and fine-tuning share; the heads stand outside it
MIN_ENCODER_COVERAGE = 0.95


def load_checkpoint_file(
    path: str | os.PathLike, map_location: str | torch.device = 'cpu', *, blanked: tuple[str, ...] = ()
) -> dict:
    """Read a `.pth` written by `KoviltRunner`, or a `.pth` or `.safetensors` file of weights alone.

    Returns a dict with `state_dict` and `meta`, and what else the file holds. Only tensors and plain Python values are
    accepted (`weights_only`): a pickle that would call anything is refused, never executed.

    Args:
        path: the file.
        map_location: where the tensors go.
        blanked: packages, such as 'lightning.', whose objects may lie beside the weights. Nothing of them is imported:
            each object is read as a dict of the plain values that were put into it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise KoviltError(f'{path}: is a folder, not a checkpoint file')
    if not path.is_file():
        raise KoviltError(f'{path}: no such checkpoint file')
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_blanks(path, blanked)):
            warnings.simplefilter('ignore', UserWarning)  # about pickles that it then refuses
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL (\S+)', str(error))
        if found:
            raise KoviltError(
                f'{path}: refused, it holds {found[1]!r}, which could run code; only files of tensors and '
                'plain values are read'
            ) from error
        raise KoviltError(f'{path}: not a checkpoint') from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise KoviltError(
            f'{path}: not a checkpoint, or cut off ({str(error).splitlines()[0] if str(error) else "empty"})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise KoviltError(f'{path}: not a checkpoint: it holds a {type(checkpoint).__name__}, not a state_dict')
    if 'state_dict' not in checkpoint:
        if not checkpoint or not all(isinstance(value, Tensor) for value in checkpoint.values()):
            raise KoviltError(f'{path}: not a checkpoint: it has no "state_dict"')
        checkpoint = {'state_dict': checkpoint}
    checkpoint.setdefault('meta', {})
    return checkpoint


class _Blank:
    """What stands for a class that is not imported: calling it gives an empty dict, whatever the arguments."""

    def __new__(cls, *args: Any) -> OrderedDict:
        return OrderedDict()


def _blanks(path: Path, packages: tuple[str, ...]) -> list[tuple[type, str]]:
    """The classes of `packages` that a pickle names, as `torch.serialization.safe_globals` takes them."""
    if not packages or not zipfile.is_zipfile(path):  # of torch's old format nothing is listed, so nothing is blanked
        return []
    found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Blank, name) for name in found if name.startswith(packages)]


def _read_safetensors(path: Path, map_location: str | torch.device) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {'state_dict': load_file(path, device=str(map_location)), 'meta': {}}
    except (SafetensorError, OSError, ValueError) as error:
        raise KoviltError(f'{path}: not a safetensors file, or cut off ({error})') from error


def write_checkpoint(checkpoint: dict, path: str | os.PathLike) -> None:
    """Writes beside `path` and moves into place, so that a crash or a full disk never leaves half a checkpoint."""
    path = Path(path)
    part = path.with_name(f'.{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise KoviltError(f'{path}: checkpoint not written ({error}); is the disk full?') from error


def latest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint that a run in `work_dir` wrote last; survives a moved folder and a missing `last_checkpoint`."""
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


def describe(checkpoint: Mapping) -> str:
    """What a checkpoint is, in a few words: its model, and where its training stood."""
    meta = checkpoint.get('meta', {})
    words = meta.get('model_type') or 'weights without a model name'
    if 'epoch' in meta and 'iter' in meta:
        words += f' after {meta["epoch"]} epochs, {meta["iter"]} steps'
    return words


def differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """How a model's tensors and a checkpoint's differ, in a few words each: sizes, then missing, then left over."""
    sizes = [
        f'{name} is {tuple(theirs[name].shape)} there and {tuple(ours[name].shape)} here'
        for name in ours
        if name in theirs and ours[name].shape != theirs[name].shape
    ]
    missing = [f'{name} is missing there' for name in ours if name not in theirs]
    extra = [f'{name} has no place here' for name in theirs if name not in ours]
    return sizes + missing + extra


def load_whole(model: nn.Module, checkpoint: Mapping, source: str | os.PathLike) -> None:
    """Loads every tensor of a checkpoint of the same model; any difference is a KoviltError that names the first."""
    ours, theirs = model.state_dict(), checkpoint['state_dict']
    _check_answers(model, checkpoint, source)
    found = differences(ours, theirs)
    if found:
        more = f' and {len(found) - 3} more' if len(found) > 3 else ''
        raise KoviltError(
            f'{source}: not a checkpoint of this {type(model).__name__}; it is {describe(checkpoint)}, '
            f'and {"; ".join(found[:3])}{more}'
        )
    model.load_state_dict(theirs)


def load_encoder(model: nn.Module, checkpoint: Mapping, source: str | os.PathLike) -> tuple[int, int]:
    """Loads `encoder.*` alone, as fine-tuning from pre-training does; heads keep their fresh weights.

    Returns how many of the encoder's tensors were loaded and how many exist. Tensors of another size, or fewer than
    95 % of the encoder's tensors, are a KoviltError.
    """
    ours = {name: value for name, value in model.state_dict().items() if name.startswith(ENCODER_PREFIX)}
    theirs = {name: value for name, value in checkpoint['state_dict'].items() if name.startswith(ENCODER_PREFIX)}
    resized = getattr(getattr(model, 'encoder', None), 'resized', None)
    if resized is not None:  # to images of another size than the checkpoint's
        theirs = resized(theirs, ENCODER_PREFIX)
    shared = ours.keys() & theirs.keys()
    found = differences(
        {name: ours[name] for name in ours if name in shared}, {name: theirs[name] for name in ours if name in shared}
    )
    if found:
        raise KoviltError(
            f'{source}: this encoder is of another size; it is {describe(checkpoint)}, and '
            f'{"; ".join(found[:3])}; give encoder the sizes of the checkpoint'
        )
    if len(shared) < MIN_ENCODER_COVERAGE * max(len(ours), 1):
        raise KoviltError(
            f'{source}: holds {len(shared)} of the {len(ours)} tensors of this encoder; it is {describe(checkpoint)}'
        )
    model.load_state_dict({name: theirs[name] for name in shared}, strict=False)
    return len(shared), len(ours)


def other_encoder(model: nn.Module, checkpoint: Mapping) -> str | None:
    """What to say where a checkpoint is of another kind of encoder than the model; None where both are of one kind.

    `ViLT` and `PrefixViLT` have the same tensors and compute different things: no other comparison tells them apart.
    Checkpoints that do not name their encoder are taken for the model's.
    """
    ours, theirs = type(getattr(model, 'encoder', None)).__name__, checkpoint.get('meta', {}).get('encoder_type')
    if theirs is None or theirs == ours:
        return None
    return f'its encoder is a {theirs}, this one a {ours}: they compute different things, also on the same weights'


def check_encoder(model: nn.Module, checkpoint: Mapping, source: str | os.PathLike) -> None:
    """KoviltError where a checkpoint that is to answer as it stands is of another kind of encoder than the model."""
    found = other_encoder(model, checkpoint)
    if found is not None:
        raise KoviltError(f'{source}: {found}; use the config that it was trained with, or train from it')


def check_vocabulary(sizes: Mapping[str, Any], checkpoint: Mapping, source: str | os.PathLike) -> None:
    """Token ids mean pieces: two tokenizers of the same size would be silently wrong, those of two sizes fail late."""
    theirs = checkpoint.get('meta', {}).get('data_sizes', {})
    ours, there = sizes.get('vocabulary_digest'), theirs.get('vocabulary_digest')
    if ours and there and ours != there:
        raise KoviltError(
            f'{source}: it was trained with another tokenizer ({theirs.get("vocab_size")} tokens there, '
            f'{sizes.get("vocab_size")} here); give TokenizeKorean that one'
        )


def _check_answers(model: nn.Module, checkpoint: Mapping, source: str | os.PathLike) -> None:
    """A classifier's rows mean answers: the same number of rows in another order would be silently wrong."""
    ours = getattr(model, 'answers', None)
    theirs = checkpoint.get('meta', {}).get('dataset_meta', {}).get('answers')
    if not ours or not theirs or list(ours) == list(theirs):
        return
    if len(ours) != len(theirs):
        what = f'{len(theirs)} answers there, {len(ours)} here'
    else:
        row = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        what = f'answer {row} is {theirs[row]!r} there and {ours[row]!r} here'
    raise KoviltError(
        f'{source}: its answers are not those of this data: {what}; to keep its encoder only, set '
        'load_encoder_only=True'
    )

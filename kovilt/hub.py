"""Gets files from HuggingFace's hub: from its cache on this machine, else from the network."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kovilt.errors import KoviltError, first_line

_TIMEOUT = 5  # seconds of the first request; without it the hub's own functions try for minutes
_MODEL_FILES = ('*.safetensors', '*.json', '*.txt')  # no pickles, no programs
_NAME = re.compile(r'[\w-][\w.-]*/[\w.-]+')
_ENDINGS = ('.pth', '.pt', '.bin', '.ckpt', '.safetensors')  # of files, which are looked for on this machine alone


class HubModel(NamedTuple):
    """A model of the hub on this machine. revision: the commit, in 40 hexadecimal digits."""

    name: str
    folder: Path
    revision: str

    def __str__(self) -> str:
        return f'{self.name}, revision {self.revision}'


def find_hub_model(name: str | Path) -> HubModel | None:
    """The weights (safetensors) and settings of a model, downloaded if the hub's cache does not have them.

    None for what is a path: something is there, the folder before the last part is, or it has the ending of a file.

    Raises:
        KoviltError: no such model, one without safetensors, or the hub cannot be reached.
    """
    name, path = str(name), Path(os.path.expanduser(name))
    if path.exists() or path.parent.is_dir() or not _NAME.fullmatch(name) or name.endswith(_ENDINGS):
        return None
    by_hand = f'hf download {name} --local-dir FOLDER'
    folder = _cached(name)
    if folder is None:
        remedy = f'where the hub is reached, run: {by_hand}, and name that FOLDER here'
        folder = download(name, _MODEL_FILES, what='model', remedy=remedy)
    if not _has_weights(folder):
        raise KoviltError(
            f'model {name}: the hub has no safetensors of it, and pickles are not downloaded; run: {by_hand}, and name '
            'that FOLDER here: its pytorch_model.bin is read without running code'
        )
    return HubModel(name, folder, folder.name)


def download(name: str, files: Sequence[str], *, what: str, remedy: str) -> Path:
    """The folder of the files that match one of the patterns, in the hub's cache; its name is the commit.

    Args:
        what, remedy: for messages: 'tokenizer'; what else can be done.

    Raises:
        KoviltError: no such name, or the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        huggingface_hub.HfApi().model_info(name, timeout=_TIMEOUT)
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(files)))
    except (RepositoryNotFoundError, HFValidationError):
        raise KoviltError(
            f'{what} {name}: neither a local file or folder nor a name on the hub (a private one needs `hf auth login`)'
        ) from None
    except Exception as error:  # whatever the hub's HTTP library raises
        raise KoviltError(
            f'{what} {name}: not found locally, and the hub cannot be reached ({first_line(error)}); {remedy}'
        ) from error


def _cached(name: str) -> Path | None:
    """The folder in the hub's cache, if the weights are there."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_MODEL_FILES), local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no name of the hub, which `download` tells
        return None
    return folder if _has_weights(folder) else None  # after a download of the tokenizer they are not


def _has_weights(folder: Path) -> bool:
    return any(folder.glob('*.safetensors'))

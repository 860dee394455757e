"""The calibration of a model folder: what turns the scores of its model into probabilities that hold, and when to
abstain.

It is part of kovilt.json, so that it is written in one step and travels with the folder.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.files import read_json, read_text, write_json, write_text
from kovilt.formats.fields import check_fields
from kovilt.model_names import is_packaged
from kovilt.weights.card import with_calibration
from kovilt.weights.folder_info import CALIBRATION_FIELDS, CARD, INFO

ABSTENTION = '모르겠음'  # what is answered below the threshold, unless told otherwise


@dataclass(frozen=True)
class Calibration:
    """A calibration that was fitted on validation questions.

    temperature: by which scores are divided before the softmax (temperature scaling; Guo et al., On Calibration of
        Modern Neural Networks, ICML 2017).
    threshold: the probability, 0 to 1, below which the model abstains; 0 = it always answers.
    precision_target: share of right answers, 0 to 1, for which the threshold was chosen.
    abstention: what is answered instead.
    questions: on how many questions it was fitted.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    precision_target: float | None = None
    abstention: str = ABSTENTION
    questions: int = 0

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Calibration | None:
        """The calibration in the content of a kovilt.json that `read_folder_info` has checked; None = it has none."""
        stored = info.get('calibration')
        if stored is None:
            return None
        return cls(**{name: stored[name] for name in CALIBRATION_FIELDS if stored.get(name) is not None})

    def to_json(self) -> dict[str, Any]:
        """The value of the key `calibration` of kovilt.json."""
        return dataclasses.asdict(self)


def check_calibratable(folder: str | os.PathLike[str]) -> None:
    """KoviltError if a calibration cannot be stored in `folder`: it is no model folder, or one that kovilt carries."""
    remedy = 'kovilt export MODEL FOLDER writes one of your own'
    if is_packaged(folder):
        raise KoviltError(f'{folder}: comes with kovilt and is not changed; {remedy}')
    if not (Path(folder) / INFO).is_file():
        raise KoviltError(f'{folder}: no model folder (it has no {INFO}); {remedy}')


def store_calibration(folder: str | os.PathLike[str], calibration: Calibration) -> None:
    """Keep a calibration in a model folder, in place of an earlier one: atomically, and nothing else is changed but
    the section of the model card, which tells of it.

    Raises:
        KoviltError: as `check_calibratable`; values that kovilt.json may not have; the folder cannot be written.
    """
    check_calibratable(folder)
    file, card = Path(folder) / INFO, Path(folder) / CARD
    check_fields(calibration.to_json(), CALIBRATION_FIELDS, f'{file}: calibration')
    try:
        write_json(file, {**read_json(file), 'calibration': calibration.to_json()})
        if card.is_file():
            write_text(card, with_calibration(read_text(card, 'config'), calibration.to_json()))
    except OSError as error:
        raise KoviltError(f'{file}: the calibration cannot be written ({error.strerror})') from error

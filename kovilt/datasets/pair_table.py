"""Rows of (text, image) as named flat arrays, such as files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kovilt.datasets.columns import Arrays, CategoryColumn, ListColumn, TextColumn, beneath, prefixed
from kovilt.datasets.image_store import ImageStore

Column = TextColumn | CategoryColumn | ListColumn
COLUMN_TYPES: dict[str, type[Column]] = {kind.__name__: kind for kind in (TextColumn, CategoryColumn, ListColumn)}


class PairTable(NamedTuple):
    """Rows, each about an image; the images are numbered 0, 1, ... and the rows of one are neighbours."""

    columns: dict[str, Column]
    row_images: np.ndarray  # int32 (rows,)
    places: ImageStore  # where each image lies
    image_ids: np.ndarray  # int64 (images,)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it; with `kinds`, `from_arrays` makes the same table again."""
        columns: dict[str, np.ndarray] = {}
        for name, column in self.columns.items():
            columns |= prefixed(name, column.arrays())
        return {
            **prefixed('columns', columns),
            **prefixed('places', self.places.arrays()),
            'row_images': self.row_images,
            'image_ids': self.image_ids,
        }

    def kinds(self) -> dict[str, str]:
        """Name of each column -> name of its class."""
        return {name: type(column).__name__ for name, column in self.columns.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, kinds: Mapping[str, str]) -> PairTable:
        """Raises KeyError when an array is missing or a class is unknown."""
        columns = beneath('columns', arrays)
        return cls(
            columns={name: COLUMN_TYPES[kind].from_arrays(beneath(name, columns)) for name, kind in kinds.items()},
            row_images=arrays['row_images'],
            places=ImageStore.from_arrays(beneath('places', arrays)),
            image_ids=arrays['image_ids'],
        )

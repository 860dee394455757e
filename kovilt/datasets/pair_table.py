"""The rows of a data set as named flat arrays, which can be written to files and mapped again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kovilt.datasets.columns import (
    Arrays,
    CategoryColumn,
    Column,
    ListColumn,
    TextColumn,
    add_prefix,
    select_prefix,
)
from kovilt.datasets.image_store import ImageStore

COLUMN_TYPES: dict[str, type[Column]] = {
    'TextColumn': TextColumn,
    'CategoryColumn': CategoryColumn,
    'ListColumn': ListColumn,
}


class PairTable(NamedTuple):
    """Rows of a text and an image. Images are numbered 0, 1, ...; the rows of one image are neighbors."""

    columns: dict[str, Column]
    row_images: np.ndarray  # int32 (rows,): the number of each row's image
    images: ImageStore  # where each image lies
    image_ids: np.ndarray  # int64 (images,): a hash of each image's source and id

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; together with `column_types` they are the input of `from_arrays`."""
        columns: dict[str, np.ndarray] = {}
        for name, column in self.columns.items():
            columns |= add_prefix(name, column.arrays())
        return {
            **add_prefix('columns', columns),
            **add_prefix('images', self.images.arrays()),
            'row_images': self.row_images,
            'image_ids': self.image_ids,
        }

    def column_types(self) -> dict[str, str]:
        """The class name of each column."""
        return {name: type(column).__name__ for name, column in self.columns.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, column_types: Mapping[str, str]) -> PairTable:
        """Undo `arrays`. Raises KeyError when an array is missing or a class is unknown."""
        columns = select_prefix('columns', arrays)
        return cls(
            columns={
                name: COLUMN_TYPES[kind].from_arrays(select_prefix(name, columns))
                for name, kind in column_types.items()
            },
            row_images=arrays['row_images'],
            images=ImageStore.from_arrays(select_prefix('images', arrays)),
            image_ids=arrays['image_ids'],
        )

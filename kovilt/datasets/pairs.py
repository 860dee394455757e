"""What every dataset of pairs (a text and the picture it speaks about) has in common."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS

from .chance import hash63
from .korean import normalize_korean
from .pictures import PictureStore, ZipMember
from .samplers import split_index
from .transforms.text import TokenizeKorean

_PROBED_TEXTS = 500  # texts whose share of [UNK] is looked at when a dataset is opened
_MOST_UNKNOWN = 0.5  # above this share of unknown pieces the tokenizer is not one for these texts


class PairDataset(Dataset):
    """Rows of (text, picture) in flat columns; pictures are opened by whoever asks for rows, once per call.

    A subclass names its columns and writes `load_data_list`. Row numbers are positions in this dataset, sorted so that
    the rows of a picture are neighbours.

    Args:
        data_root: folder with the files as the user holds them.
        split: 'train' or 'val'; a reader may know more.
        image_pipeline: transforms run once per distinct picture of a batch; they turn `img_path` into `patches`, `grid`.
        text_pipeline: transforms run once per row; they turn `text` into `input_ids`, `word_ids`.
        limit: keep so many rows (not pictures), drawn by `seed`; None = all.
        keep_record: give each sample its `record` (plain strings and ints), as evaluation needs it.
        seed: of everything drawn here, together with the epoch and the row or picture.
        max_broken_share: training stops when more than this share of the pictures is absent or cannot be read. Each
            process of a distributed run counts what its own workers meet.
        test_mode: evaluation: a row whose picture is broken stays, marked in its record, with no patches. In training
            (False) such rows are left out of their batch and counted.

    Raises:
        KoviltError: missing or malformed files, no rows, a limit above the number of rows, too many broken pictures, a
            tokenizer that does not know the texts.
    """

    COLUMNS: ClassVar[dict[str, type]]  # name -> TextColumn, or CategoryColumn where values repeat
    TEXT: ClassVar[str]  # the column that the text pipeline gets
    HOW_TO_GET: ClassVar[str] = ''  # added to the message when there is no data

    def __init__(
        self,
        *,
        data_root: str,
        split: str = 'train',
        image_pipeline: list[dict],
        text_pipeline: list[dict],
        limit: int | None = None,
        keep_record: bool = False,
        seed: int = 0,
        max_broken_share: float = 0.01,
        test_mode: bool = False,
    ) -> None:
        self.data_root = Path(os.path.abspath(os.path.expanduser(data_root)))
        self.split, self.seed = split, seed
        self.keep_record, self.max_broken_share, self.test_mode = keep_record, max_broken_share, test_mode
        self.image_pipeline = [TRANSFORMS.build(step) for step in image_pipeline]
        self.text_pipeline = [TRANSFORMS.build(step) for step in text_pipeline]
        if not self.data_root.is_dir():
            raise KoviltError(f'data_root {data_root}: no such folder. {self.HOW_TO_GET}'.strip())
        self.dropped: Counter[str] = Counter()
        self._read()
        self.rows = self._select()  # int64 (rows,): where each row of this dataset stands in the columns
        if limit is not None:
            self._draw(limit)
        self._log_summary()
        self._check_tokenizer()

    @abstractmethod
    def load_data_list(self) -> Iterator[dict[str, Any]]:
        """Give every row of the split as a dict with the names of COLUMNS and `image`.

        `image` is a path (relative to `data_root` or absolute), or what `add_picture` returned. The text column is
        normalised by the caller; a row without text is dropped and counted. Rows that the reader itself leaves out are
        counted in `self.dropped` under a reason.
        """

    def add_picture(self, place: Path | ZipMember | None, *, identity: str, name: str) -> int:
        """Register a picture and return its number; the same identity gives the same number.

        Args:
            place: where it lies; None = known to be absent.
            identity: source and id; the same wherever the data set is kept.
            name: what an absent picture is called.
        """
        key = hash63(identity)
        number = self._numbers.setdefault(key, len(self._places))
        if number == len(self._places):
            self._places.append(place, name)
            self._image_ids.append(key)
            if place is None:
                self._absent.append(number)
        return number

    # ---- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._places, self._image_ids, self._absent, self._numbers = PictureStore(), array('q'), [], {}
        self._columns = {name: kind() for name, kind in self.COLUMNS.items()}
        pictures = array('i')
        for row in self.load_data_list():
            values = {name: normalize_korean(_text_of(row.get(name))) for name in self._columns}
            if not values[self.TEXT]:
                self.dropped[f'empty {self.TEXT}'] += 1
                continue
            image = row['image']
            if not isinstance(image, int):
                image = self.add_picture(self.data_root / image, identity=str(image), name=str(image))
            pictures.append(image)
            for name, column in self._columns.items():
                column.append(values[name])
        del self._numbers
        if not pictures:
            reasons = f' ({self._reasons()})' if self.dropped else ''
            raise KoviltError(f'{self.data_root}: no rows of split {self.split!r}{reasons}. {self.HOW_TO_GET}'.strip())
        self._places.freeze()
        for column in self._columns.values():
            column.freeze()
        self._pictures = np.array(pictures, dtype=np.int32)  # (stored rows,)
        self.faults = PictureFaults(len(self._places))
        for number in self._absent:
            self.faults.mark(number)
        if self._absent:
            names = ', '.join(self._places.name(number) for number in self._absent[:5])
            self._warn(f'{len(self._absent):,} of {len(self._places):,} pictures are absent, e.g. {names}')
            self._stop_at_too_many(self._places.name(self._absent[0]), 'absent')

    def _select(self) -> np.ndarray:
        """The stored rows to use, pictures together. Subclasses narrow it and count what they leave out."""
        keep = np.ones(len(self._pictures), dtype=bool)
        if not self.test_mode and self._absent:
            keep = ~np.isin(self._pictures, self._absent)
            self.dropped['picture absent'] += int((~keep).sum())
        rows = np.flatnonzero(keep)
        return rows[np.argsort(self._pictures[rows], kind='stable')]

    def _draw(self, limit: int) -> None:
        if not 0 < limit <= len(self.rows):
            raise KoviltError(f'limit={limit}: the split {self.split!r} of {self.data_root} has {len(self.rows)} rows')
        chosen = np.random.default_rng(self.seed).choice(len(self.rows), limit, replace=False)
        self.rows = self.rows[np.sort(chosen)]

    def _log_summary(self) -> None:
        pictures = len(np.unique(self._pictures[self.rows]))
        dropped = f'; left out: {self._reasons()}' if self.dropped else ''
        print_log(
            f'{type(self).__name__} {self.split}: {len(self):,} rows on {pictures:,} pictures from {self.data_root}{dropped}',
            logger='current',
        )

    def _reasons(self) -> str:
        return ', '.join(f'{count:,} rows: {reason}' for reason, count in sorted(self.dropped.items()))

    def _check_tokenizer(self) -> None:
        """A tokenizer may know Hangul and still not these texts, such as one trained on another small corpus."""
        tokenizer = self.tokenizer
        if tokenizer is None or not len(self):
            return
        steps = np.linspace(0, len(self) - 1, min(len(self), _PROBED_TEXTS)).astype(int)
        texts = [self._columns[self.TEXT][self.rows[step]] for step in steps]
        pieces = np.concatenate(
            [tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        )
        share = float(np.mean(pieces == tokenizer.unk_token_id)) if len(pieces) else 1.0
        if share > _MOST_UNKNOWN:
            raise KoviltError(
                f'tokenizer {tokenizer.name_or_path}: {share:.0%} of the pieces of the texts in {self.data_root} are unknown '
                'to it; take the tokenizer of this corpus, or train one with tools/data/train_tokenizer.py'
            )

    # ---- what others ask ----------------------------------------------------------------------------------------------

    @property
    def metainfo(self) -> dict[str, Any]:
        """What a model needs to know of its data; MMEngine saves it in checkpoints as `dataset_meta`."""
        return {'tokenizer_size': len(self.tokenizer)} if self.tokenizer is not None else {}

    @property
    def tokenizer(self):
        """The tokenizer of the first TokenizeKorean of the text pipeline, or None."""
        return next((step.tokenizer for step in self.text_pipeline if isinstance(step, TokenizeKorean)), None)

    @property
    def row_pictures(self) -> np.ndarray:
        """int32 (rows,): the picture of each row, by number; equal neighbours share one."""
        return self._pictures[self.rows]

    def texts(self) -> Iterator[str]:
        """The normalised text of every row, such as a tokenizer is trained on."""
        return (self._columns[self.TEXT][row] for row in self.rows)

    def record(self, row: int) -> dict[str, Any]:
        """The row as it was read: its columns, `row`, `image` (path or name) and `split`."""
        stored = self.rows[row]
        values = {name: column[stored] for name, column in self._columns.items()}
        return {'row': int(row), 'image': self._places.name(self._pictures[stored]), 'split': self.split, **values}

    # ---- samples ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As `__getitems__`, for one row.

        Raises:
            KoviltError: the picture of a training row is broken.
        """
        samples = self.__getitems__([index])
        if not samples:
            raise KoviltError(f'{self.record(split_index(index)[1])["image"]}: cannot be read')
        return samples[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of some rows; each distinct picture is opened once and shared as one object.

        `indices` carry the epoch (see `samplers.join_index`); it seeds what is drawn for these samples. In training the
        result is shorter than `indices`, and may be empty, when pictures are broken.
        """
        images: dict[tuple[int, int], dict[str, Any] | None] = {}
        samples = []
        for epoch, row in map(split_index, indices):
            picture = int(self._pictures[self.rows[row]])
            if (epoch, picture) not in images:
                images[epoch, picture] = self._open(picture, epoch)
            image = images[epoch, picture]
            if image is None and not self.test_mode:
                continue
            samples.append(self._sample(row, epoch, picture, image))
        return samples

    def _sample(self, row: int, epoch: int, picture: int, image: dict[str, Any] | None) -> dict[str, Any]:
        record = self.record(row)
        results = {**record, 'text': record[self.TEXT]}
        for step in self.text_pipeline:
            results = step(results)
        sample = {
            'input_ids': results['input_ids'],
            'word_ids': results['word_ids'],
            'pad_id': results['pad_id'],
            'image_id': self._image_ids[picture],
            'image': image or NO_IMAGE,
            'sample_seed': hash63(self.seed, epoch, row),
        }
        if self.keep_record:
            sample['record'] = record if image else {**record, 'broken': True}
        return sample

    def _open(self, picture: int, epoch: int) -> dict[str, Any] | None:
        """The patches and grid of a picture, or None when it is broken."""
        if self.faults.known(picture):
            return None
        results = {
            'img_path': self._places[picture],
            'image_seed': hash63(self.seed, epoch, self._image_ids[picture]),
        }
        try:
            for step in self.image_pipeline:
                results = step(results)
        except KoviltError as error:
            self.faults.mark(picture)
            self._warn(f'broken picture: {error}')
            if not self.test_mode:
                self._stop_at_too_many(self._places.name(picture), str(error))
            return None
        return {'patches': results['patches'], 'grid': results['grid']}

    def _stop_at_too_many(self, path: str, reason: str) -> None:
        broken, total = self.faults.count(), len(self._places)
        if not self.test_mode and broken > self.max_broken_share * total:
            raise KoviltError(
                f'{broken:,} of {total:,} pictures of {self.data_root} are absent or broken, more than '
                f'max_broken_share={self.max_broken_share:g}; the last: {path} ({reason}); mend them or raise max_broken_share'
            )

    def _warn(self, message: str) -> None:
        print_log(f'{type(self).__name__} {self.split}: {message}', logger='current', level=logging.WARNING)

    def broken_pictures(self) -> list[str]:
        """Paths of the pictures found absent or broken so far, by any worker of this process."""
        return [self._places.name(number) for number in self.faults.numbers()]


NO_IMAGE = {'patches': np.zeros((0, 0), dtype=np.uint8), 'grid': (0, 0)}


class PictureFaults:
    """Which pictures are broken, one byte each in memory shared by all workers of a process: noted and logged once."""

    def __init__(self, num_pictures: int) -> None:
        self._broken = torch.zeros(num_pictures, dtype=torch.uint8).share_memory_()

    def mark(self, picture: int) -> None:
        self._broken[picture] = 1

    def known(self, picture: int) -> bool:
        return bool(self._broken[picture])

    def count(self) -> int:
        return int(self._broken.sum(dtype=torch.int64))

    def numbers(self) -> list[int]:
        return self._broken.nonzero().flatten().tolist()


def _text_of(value: Any) -> str:
    return '' if value is None else str(value)

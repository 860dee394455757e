"""What every dataset of pairs (a text and the image it speaks about) has in common."""

from __future__ import annotations

import hashlib
import logging
import os
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Dataset

from kovilt.datasets.broken_images import BrokenImages
from kovilt.datasets.columns import TextColumn
from kovilt.datasets.image_store import ImageStore, ZipMember
from kovilt.datasets.pair_table import PairTable
from kovilt.datasets.readers.json_rows import RowSource
from kovilt.datasets.rng import hash63, sampling_keys
from kovilt.datasets.samplers import split_index
from kovilt.datasets.token_cache import TokenCache, open_tokens
from kovilt.datasets.transforms.patches import NO_IMAGE
from kovilt.datasets.transforms.text import TokenizeKorean
from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PROBED_TEXTS = 500  # whose share of unknown pieces is looked at when a dataset is opened
_MOST_UNKNOWN = 0.5  # above this share the tokenizer is not one for these texts


class PairDataset(Dataset):
    """Rows of (text, image) in flat columns; images are opened by whoever asks for rows, once per call.

    A subclass names its columns and writes `load_data_list`. Row numbers are positions in this dataset; the rows of a
    image are neighbours.

    Args:
        data_root: folder with the files as the user holds them.
        split: 'train' or 'val'; a reader may know more.
        image_pipeline: transforms run once per distinct image; they turn `img_path` into `patches` and `grid`, and
            draw from `image_seed`.
        text_pipeline: transforms run once per row; they turn `text` into `input_ids`, `word_ids` and `pad_id`.
        limit: keep so many rows (not images), drawn by `seed` and by what they say, whatever order they are read in;
            None = all.
        held_out: `image_id`s of images that another split has: their rows are left out and counted.
        keep_record: give each sample its `record` (plain strings and ints), as evaluation needs it.
        seed: of all that is drawn here, together with the epoch and the row or image.
        max_broken_share: training stops when more than this share of the split's images is absent, or of the images
            in use cannot be read. Each process of a distributed run counts what its own workers meet.
        cache_images: each worker keeps the patches of what it has read, for sets that fit (48 patches of 16 pixels
            take 37 KB) and are read often. Needs an image pipeline without augmentation.
        token_cache: folder for the pieces of all texts: made by the first start on these texts with this tokenizer
            (25 s for a million), mapped by later ones. Needs TokenizeKorean alone in the text pipeline. None = texts
            are tokenized whenever they are read.
        test_mode: True = evaluation: a row whose image is broken stays, marked in its record, with no patches.
            False = training: such rows are left out of their batch and counted.

    Raises:
        KoviltError: missing or malformed files, no rows, a limit above the number of rows, too many broken images, a
            tokenizer that does not know the texts.
    """

    COLUMNS: ClassVar[dict[str, type]]  # name -> TextColumn, CategoryColumn where values repeat, or ListColumn
    TEXT: ClassVar[str]  # the column that the text pipeline gets
    HOW_TO_GET: ClassVar[str] = ''  # said when there is no data

    guard: AbstractContextManager = nullcontext()  # around each row and file that is read: what they raise passes

    def __init__(
        self,
        *,
        data_root: str,
        split: str = 'train',
        image_pipeline: list[dict],
        text_pipeline: list[dict],
        limit: int | None = None,
        held_out: Collection[int] = (),
        keep_record: bool = False,
        seed: int = 0,
        max_broken_share: float = 0.01,
        cache_images: bool = False,
        token_cache: str | None = None,
        test_mode: bool = False,
    ) -> None:
        self.data_root = Path(os.path.abspath(os.path.expanduser(data_root)))
        self.split, self.seed, self._held_out = split, seed, held_out
        self.keep_record, self.max_broken_share, self.test_mode = keep_record, max_broken_share, test_mode
        if not self.data_root.is_dir():
            raise KoviltError(f'data_root {data_root}: no such folder. {self.HOW_TO_GET}')
        self.image_pipeline = [TRANSFORMS.build(step) for step in image_pipeline]
        self.text_pipeline = [TRANSFORMS.build(step) for step in text_pipeline]
        self._kept: dict[int, dict[str, Any]] | None = {} if cache_images else None
        augmenting = next((type(step).__name__ for step in self.image_pipeline if getattr(step, 'augments', False)), '')
        if cache_images and augmenting:
            raise KoviltError(f'cache_images: {augmenting} changes the images anew in every epoch; leave out one')
        self.left_out: Counter[str] = Counter()  # reason -> rows
        self._places, self._image_ids, self._absent = ImageStore(), array('q'), array('i')
        self._numbers: dict[int, int] = {}  # identity -> image
        self._open_rows(limit)
        self._tokens = None if token_cache is None else self._open_tokens(token_cache)

    def _open_rows(self, limit: int | None) -> None:
        self._read()
        self._check_absent()
        self.rows = self._select()  # int64 (rows,): where each row of this dataset stands in the columns
        self._check_any(self.rows)
        self.num_images = len(np.unique(self.row_images))
        if limit is not None:
            self._draw(limit)
        self.faults = BrokenImages(len(self._places))
        self._check_tokenizer()
        self._log(f'{len(self):,} rows on {self.num_images:,} images from {self.data_root}{self._reasons("; ")}')

    # What a subclass writes, and calls while it does.

    @abstractmethod
    def load_data_list(self) -> Iterator[dict[str, Any]]:
        """Give every row of the split as a dict with the names of COLUMNS and `image`.

        `image` is a path (relative to `data_root` or absolute), or what `add_image` returned; `source`, where it is
        given, is the `RowSource` of the row. Values are normalised by the caller, and a row without text is left out.
        Rows that the reader itself leaves out are counted in `self.left_out` under a reason, or by `leave_out`.

        Rows and files are read through `guarded` and `guard`, so that verification, which has a guard that forgives,
        learns of all that cannot be read.
        """

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items; after one whose error `guard` forgives the next is given, if the iterator can go on."""
        items = iter(items)
        while True:
            with self.guard:
                try:
                    item = next(items)
                except StopIteration:
                    return
                yield item

    def leave_out(self, reason: str, source: RowSource, rows: int = 1) -> None:
        """Count what the reader itself leaves out of the row that `source` gave last."""
        self.left_out[reason] += rows

    def add_image(self, place: Path | ZipMember | None, *, identity: str, name: str) -> int:
        """Register an image and return its number; the same identity gives the same number.

        Args:
            place: where it lies; None = known to be absent.
            identity: source and id; the same wherever the data set is kept.
            name: what an absent image is called.
        """
        key = hash63(identity)
        number = self._numbers.setdefault(key, len(self._places))
        if number == len(self._places):
            self._places.append(place, name)
            self._image_ids.append(key)
            if place is None:
                self._absent.append(number)
        return number

    # From files to columns.

    def _read(self) -> None:
        self._columns = {name: column() for name, column in self.COLUMNS.items()}
        images = array('i')
        for row in self.load_data_list():
            values = self._values(row)
            if not values[self.TEXT]:
                self.left_out[f'empty {self.TEXT}'] += 1
                continue
            images.append(self._image_of(row))
            for name, column in self._columns.items():
                column.append(values[name])
        del self._numbers
        self._check_any(images)
        for part in (self._places, *self._columns.values()):
            part.freeze()
        self._images = np.array(images, dtype=np.int32)  # (stored rows,)

    def _image_of(self, row: dict[str, Any]) -> int:
        image = row['image']
        if isinstance(image, int):
            return image
        return self.add_image(self.data_root / image, identity=str(image), name=str(image))

    def _values(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the columns hold of a row that `load_data_list` gave."""
        return {name: column.clean(row.get(name)) for name, column in self.COLUMNS.items()}

    def _check_any(self, rows: Sized) -> None:
        if not len(rows):
            why = self._reasons(': ')
            raise KoviltError(f'{self.data_root}: no rows of split {self.split!r}{why}. {self.HOW_TO_GET}')

    def _check_absent(self) -> None:
        absent, total = len(self._absent), len(self._places)
        if not absent or not self.image_pipeline:
            return
        names = ', '.join(self._places.name(number) for number in self._absent[:5])
        found = f'{absent:,} of {total:,} images are absent, e.g. {names}'
        if absent == total or not self.test_mode and absent > self.max_broken_share * total:
            allowed = '' if absent == total else f' (max_broken_share={self.max_broken_share:g} allows fewer)'
            raise KoviltError(f'{self.data_root}: {found}{allowed}. {self.HOW_TO_GET}')
        self._log(found, logging.WARNING)

    def _select(self) -> np.ndarray:
        """The stored rows to use, images together. Subclasses narrow it and count what they leave out."""
        rows = np.argsort(self._images, kind='stable')
        if self._held_out:
            elsewhere = np.isin(self._image_ids, np.fromiter(self._held_out, dtype=np.int64))
            rows = self._keep(rows, ~elsewhere[self._images[rows]], 'image held out')
        if self.test_mode:
            return rows
        return self._keep(rows, ~np.isin(self._images[rows], self._absent), 'image absent')

    def _keep(self, rows: np.ndarray, wanted: np.ndarray, reason: str) -> np.ndarray:
        """The wanted rows; counts the others under a reason."""
        if not wanted.all():
            self.left_out[reason] += int((~wanted).sum())
        return rows[wanted]

    def _draw(self, limit: int) -> None:
        if not 0 < limit <= len(self.rows):
            raise KoviltError(f'limit={limit}: split {self.split!r} of {self.data_root} has {len(self.rows):,} rows')
        texts = [column.hashes()[self.rows] for column in self._columns.values() if isinstance(column, TextColumn)]
        order = np.argsort(sampling_keys(self.seed, self.image_ids[self.row_images], *texts), kind='stable')
        self.narrow(np.sort(order[:limit]))

    def _check_tokenizer(self) -> None:
        """A tokenizer may know Hangul and still not these texts, such as one trained on another small corpus."""
        if self.tokenizer is None or not len(self):
            return
        probed = np.linspace(0, len(self) - 1, min(len(self), _PROBED_TEXTS)).astype(int)
        texts = [self._columns[self.TEXT][self.rows[row]] for row in probed]
        encodings = [self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False) for text in texts]
        unknown = np.concatenate([encoding.ids for encoding in encodings]) == self.tokenizer.unk_token_id
        if unknown.mean() > _MOST_UNKNOWN:
            raise KoviltError(
                f'tokenizer {self.tokenizer.name_or_path}: it does not know {unknown.mean():.0%} of the pieces of the '
                f"texts in {self.data_root}; take this corpus's tokenizer (tools/data/train_tokenizer.py trains one)"
            )

    def _open_tokens(self, folder: str) -> TokenCache | None:
        if not self.text_pipeline:
            return None
        others = [type(step).__name__ for step in self.text_pipeline if type(step) is not TokenizeKorean]
        if others or len(self.text_pipeline) > 1:
            found = others[0] if others else 'a second one'
            raise KoviltError(f'token_cache: holds what TokenizeKorean makes, not what {found} does; leave out one')
        return open_tokens(folder, self.text_pipeline[0], self._columns[self.TEXT], self._log)

    def _reasons(self, lead: str) -> str:
        listed = ', '.join(f'{reason} ({count:,} rows)' for reason, count in sorted(self.left_out.items()))
        return f'{lead}left out: {listed}' if listed else ''

    def _log(self, message: str, level: int = logging.INFO) -> None:
        print_log(f'{type(self).__name__} {self.split}: {message}', logger='current', level=level)

    # What others ask.

    @property
    def metainfo(self) -> dict[str, Any]:
        """What a model needs to know of its data; MMEngine saves it in checkpoints as `dataset_meta`."""
        return {'tokenizer_size': len(self.tokenizer)} if self.tokenizer is not None else {}

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The tokenizer of the first TokenizeKorean of the text pipeline."""
        return next((step.tokenizer for step in self.text_pipeline if isinstance(step, TokenizeKorean)), None)

    @property
    def row_images(self) -> np.ndarray:
        """int32 (rows,): the image of each row, by number; the sampler keeps equal ones together."""
        return self._images[self.rows]

    @property
    def image_ids(self) -> np.ndarray:
        """int64 (images,): the identity of each image, by number."""
        return np.asarray(self._image_ids)

    def table(self) -> PairTable:
        """The rows in use as columns of their own; the images in use are numbered anew, in the same order."""
        numbers, row_images = np.unique(self.row_images, return_inverse=True)
        columns = self._columns.items()
        return PairTable(
            columns={name: type(column)(column[row] for row in self.rows).freeze() for name, column in columns},
            row_images=row_images.astype(np.int32),
            places=self._places.take(numbers.tolist()),
            image_ids=self.image_ids[numbers],
        )

    def narrow(self, wanted: np.ndarray) -> None:
        """Keep some of the rows: `wanted` is bool (rows,), or their numbers in ascending order."""
        self.rows = self.rows[wanted]
        self.num_images = len(np.unique(self.row_images))

    def texts(self) -> Iterator[str]:
        """The normalised text of every row, such as a tokenizer is trained on."""
        return (self._columns[self.TEXT][row] for row in self.rows)

    def record(self, row: int) -> dict[str, Any]:
        """The row as it was read: `row`, `image` (path, or name of an absent one), `split` and its columns."""
        stored = self.rows[row]
        values = {name: column[stored] for name, column in self._columns.items()}
        return {'row': int(row), 'image': self._places.name(self._images[stored]), 'split': self.split, **values}

    def place(self, row: int) -> Path | ZipMember | None:
        """Where the image of a row lies; None when it is absent."""
        return self._places[self._images[self.rows[row]]]

    def image_name(self, image: int) -> str:
        """The path of an image, or the name of an absent one, by its number."""
        return self._places.name(image)

    def broken_images(self) -> list[str]:
        """The images found absent, or broken so far by any worker of this process."""
        return sorted(self._places.name(number) for number in {*self._absent, *self.faults.numbers()})

    def summary(self) -> dict[str, Any]:
        """What a run's record says of its data, with a digest of all texts and of which image each is about."""
        digest = hashlib.blake2b(digest_size=16)
        digests = [column.digest() for column in self._columns.values()]
        for part in (*digests, self._images, self._image_ids, self.rows):
            digest.update(part)
        return {
            'data_root': str(self.data_root),
            'split': self.split,
            'images': self.num_images,
            'left_out': dict(self.left_out),
            'broken_images': self.broken_images(),
            'digest': digest.hexdigest(),
        }

    # From rows to samples.

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As `__getitems__`, for one row.

        Raises:
            KoviltError: the image of a training row is broken.
        """
        samples = self.__getitems__([index])
        if not samples:
            raise KoviltError(f'{self.record(split_index(index)[1])["image"]}: cannot be read')
        return samples[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of some rows; each distinct number is opened once and shared as one object.

        `indices` carry the epoch (see `samplers.join_index`). In training the result is shorter than `indices` when
        images are broken, and may be empty.

        Returns:
            dicts of `input_ids`, `word_ids` int64 (l,), `pad_id`, `image_id` (63 bits of the number's identity),
            `image` (`patches` uint8 (P, 3*p*p) and `grid`), `sample_seed` and, with `keep_record`, `record`.
        """
        images: dict[int, dict[str, Any] | None] = {}
        chosen = []
        for epoch, row in map(split_index, indices):
            number = int(self._images[self.rows[row]])
            if number not in images:
                images[number] = self._open(number, epoch)
            if images[number] is not None or self.test_mode:
                chosen.append((row, epoch, number))
        samples = self._texts([row for row, _, _ in chosen])
        for sample, (row, epoch, number) in zip(samples, chosen, strict=True):
            sample |= self._sample(row, epoch, number, images[number])
            if self.keep_record and images[number] is None:
                sample['record']['broken'] = True
        return samples

    def _texts(self, rows: list[int]) -> list[dict[str, Any]]:
        """Of each row `input_ids`, `word_ids`, `pad_id` and, with `keep_record`, `record`."""
        if self._tokens is not None:
            texts = self._tokens.of(self.rows[rows])
            if self.keep_record:
                texts = [{**text, 'record': self.record(row)} for text, row in zip(texts, rows, strict=True)]
            return texts
        texts = []
        for row in rows:
            record = self.record(row)
            results = {**record, 'text': record[self.TEXT]}
            for step in self.text_pipeline:
                results = step(results)
            texts.append({name: results[name] for name in ('input_ids', 'word_ids', 'pad_id')})
            if self.keep_record:
                texts[-1]['record'] = record
        return texts

    def _sample(self, row: int, epoch: int, number: int, image: dict[str, Any] | None) -> dict[str, Any]:
        """All of a sample but its text."""
        return {
            'image_id': self._image_ids[number],
            'image': NO_IMAGE if image is None else image,
            'sample_seed': hash63(self.seed, epoch, row),
        }

    def _open(self, number: int, epoch: int) -> dict[str, Any] | None:
        """Patches and grid of a number, None when it is broken."""
        if number in self.faults:
            return None
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        try:
            image = self.read_image(number, epoch)
        except KoviltError as error:
            self.faults.mark(number)
            self._log(f'broken image: {error}', logging.WARNING)
            self.check_broken(len(self.faults), str(error))
            return None
        if self._kept is not None:
            self._kept[number] = image
        return image

    def check_broken(self, count: int, last: str) -> None:
        """Raises KoviltError, with what was said of the last one, when training may not go on with so many broken."""
        if not self.test_mode and count > self.max_broken_share * self.num_images:
            raise KoviltError(
                f'{count:,} of {self.num_images:,} images of {self.data_root} cannot be read, more '
                f'than max_broken_share={self.max_broken_share:g} allows; the last: {last}'
            ) from None

    def read_image(self, image: int, epoch: int = 0) -> dict[str, Any] | None:
        """`patches` and `grid` of an image, by its number, as the image pipeline makes them; None when it is absent.

        Raises:
            KoviltError: the image is broken.
        """
        place = self._places[image]
        if place is None:
            return None
        results = {'img_path': place, 'image_seed': hash63(self.seed, epoch, self._image_ids[image])}
        for step in self.image_pipeline:
            results = step(results)
        return {'patches': results['patches'], 'grid': results['grid']}

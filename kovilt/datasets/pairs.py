"""Data sets of pairs: they select rows that a reader gives, read images, and make samples."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from mmengine.logging import print_log
from torch.utils.data import Dataset

from kovilt.batch import Batch
from kovilt.datasets.broken_images import BrokenImages
from kovilt.datasets.image_store import ImageStore
from kovilt.datasets.readers.base import Reader
from kovilt.datasets.reading import Reading
from kovilt.datasets.rng import hash63, hash_texts, sampling_keys
from kovilt.datasets.rows import RowSet, describe_left_out
from kovilt.datasets.samplers import join_index, split_index
from kovilt.datasets.shared_array import share
from kovilt.datasets.table import STRING, Table, digest_table, take_rows
from kovilt.datasets.tar_files import extract_command, find_compressed
from kovilt.datasets.tokenizer_check import check_fits
from kovilt.datasets.transforms.patches import NO_IMAGE, LoadPrepared
from kovilt.datasets.transforms.text import TokenizeKorean
from kovilt.errors import KoviltError
from kovilt.files import name_on_disk
from kovilt.ranges import Count, Seed, Share, check_arguments
from kovilt.registry import DATASETS, READERS, TRANSFORMS
from kovilt.terminal import printable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DIGESTED_IMAGES = 1_000
_PROBED_TEXTS = 500  # texts whose fraction of unknown tokens is measured when a dataset is opened


@DATASETS.register_module()
class PairDataset(Dataset):
    """Pairs of a text and an image. Images are read when their rows are asked for, once per call.

    Row numbers are positions in this dataset; the rows of one image are neighbors.

    Args:
        reader: the config of a reader, which names the files; or a reader, or the rows that one has read.
        image_pipeline: transforms that run once per distinct image. They turn `img_path` into `patches` and `grid`,
            and take random numbers from `image_seed`.
        text_pipeline: transforms that run once per row. They turn `text` into `input_ids`, `word_ids` and `pad_id`.
        limit: use this many rows (not images), sampled by `seed` and by their content, independent of the order in
            which they are read; None = all.
        held_out: the `image_id`s of images of another split; their rows are left out and counted.
        keep_record: give each sample its `record` (plain strings and ints), as evaluation needs it.
        seed: seed of all random numbers here, together with the epoch and the row or image.
        max_broken_fraction: training stops when more than this fraction of the split's images is absent, or of the
            images in use cannot be read. Each process of a distributed run counts what its own workers find.
        cache_images: each worker caches the patches of the images it has read, for small sets that are read often (48
            patches of 16 pixels take 37 KB). Needs an image pipeline without augmentation.
        test_mode: True = evaluation: a row whose image is broken stays, marked in its record, without patches. False =
            training: such rows are left out of their batch and counted.

    Raises:
        KoviltError: missing or malformed files, no rows, a limit above the number of rows, too many broken images, a
            tokenizer that does not fit the texts.
    """

    @check_arguments
    def __init__(
        self,
        *,
        reader: Mapping[str, Any] | Reader | RowSet,
        image_pipeline: list[dict],
        text_pipeline: list[dict],
        limit: Count | None = None,
        held_out: Collection[int] = (),
        keep_record: bool = False,
        seed: Seed = 0,
        max_broken_fraction: Share = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
    ) -> None:
        # Before the tokenizer: missing data are told first.
        source: Reader | RowSet = READERS.build(dict(reader)) if isinstance(reader, Mapping) else reader
        self.seed = seed
        self.keep_record, self.max_broken_fraction, self.test_mode = keep_record, max_broken_fraction, test_mode
        self.image_pipeline = [TRANSFORMS.build(step) for step in image_pipeline]
        self.text_pipeline = [TRANSFORMS.build(step) for step in text_pipeline]
        self._image_cache: dict[int, dict[str, Any]] | None = {} if cache_images else None
        augmenting = next((type(step).__name__ for step in self.image_pipeline if getattr(step, 'augments', False)), '')
        if cache_images and augmenting:
            raise KoviltError(f'cache_images: {augmenting} changes the images in every epoch; leave out one of the two')
        self.row_set = source.read_rows() if isinstance(source, Reader) else source
        self.reader, self.image_store = self.row_set.reader, self.row_set.images
        self.data_root, self.split = self.reader.data_root, self.reader.split
        self.left_out: Counter[str] = Counter(self.row_set.left_out)  # reason -> rows
        if any(isinstance(step, LoadPrepared) for step in self.image_pipeline):
            self.image_store.check_prepared()
        self._absent = self._find_absent()  # int (n,): numbers of the images known to be absent
        self.rows = share(self._select_rows(held_out))  # int32 (rows,): the position of each row in the table
        self.row_set.check_not_empty(len(self.rows), self.left_out)
        self.num_images = _count_groups(self.row_images)
        if limit is not None:
            self._sample_rows(limit)
        self.broken = BrokenImages(len(self.image_store))
        self.reading = Reading()
        if self.tokenizer is not None:
            probed = self.rows[np.linspace(0, len(self) - 1, min(len(self), _PROBED_TEXTS)).astype(int)]
            texts = self.row_set.table[self.reader.TEXT]
            check_fits(self.tokenizer, [texts[row].as_py() for row in probed], self.data_root)
        left_out = describe_left_out(self.left_out, '; ')
        self._log(f'{len(self):,} rows on {self.num_images:,} images from {self.data_root}{left_out}')

    # Opening: which rows are used.

    def _find_absent(self) -> np.ndarray:
        """The absent images; in training only those that the labels list, as rows of others are left out anyway.

        Raises:
            KoviltError: too many are absent.
        """
        absent, total = self.image_store.absent(), len(self.image_store)
        if not self.test_mode:
            unlisted = self.image_store.unlisted()
            absent, total = np.setdiff1d(absent, unlisted), total - len(unlisted)
        if not len(absent) or not self.image_pipeline:
            return absent
        names = ', '.join(self.image_store.name(number) for number in absent[:5])
        hint = name_on_disk(self.data_root / self.image_store.name(absent[0]))
        found = f'{len(absent):,} of {total:,} images are absent, e.g. {names}{hint}'
        if len(absent) == total or not self.test_mode and len(absent) > self.max_broken_fraction * total:
            allowed = f' (max_broken_fraction={self.max_broken_fraction:g} allows fewer)' if len(absent) < total else ''
            compressed = find_compressed(self.reader.list_folders())
            hint = f'{compressed} is not extracted: {extract_command(compressed)}' if compressed else ''
            raise KoviltError(f'{self.data_root}: {found}{allowed}. {hint or self.reader.HOW_TO_GET}')
        self._log(found, logging.WARNING)
        return absent

    def _select_rows(self, held_out: Collection[int]) -> np.ndarray:
        """Select the rows to use, ascending. Subclasses select further and count what they leave out."""
        images, ids = self.row_set.row_images, self.image_store.image_ids
        rows = np.arange(len(images), dtype=np.int32)
        for numbers, reason in (
            (np.flatnonzero(np.isin(ids, np.fromiter(held_out, dtype=np.int64))), 'image held out'),
            ([] if self.test_mode else self.image_store.unlisted(), 'image not listed in the labels'),
            ([] if self.test_mode else self._absent, 'image absent'),
        ):
            if len(numbers):
                unwanted = np.zeros(len(self.image_store), dtype=bool)
                unwanted[numbers] = True
                rows = self._filter_rows(rows, ~unwanted[images[rows]], reason)
        return rows

    def _filter_rows(self, rows: np.ndarray, wanted: np.ndarray, reason: str) -> np.ndarray:
        """Select the wanted rows; count the others under a reason."""
        if wanted.all():
            return rows
        self.left_out[reason] += int((~wanted).sum())
        return rows[wanted]

    def _sample_rows(self, limit: int) -> None:
        if not 0 < limit <= len(self.rows):
            raise KoviltError(f'limit={limit}: split {self.split!r} of {self.data_root} has {len(self.rows):,} rows')
        texts = [hash_texts(column)[self.rows] for column in self.row_set.columns.values() if column.type == STRING]
        order = np.argsort(sampling_keys(self.seed, self.image_store.image_ids[self.row_images], *texts), kind='stable')
        self.use_rows(np.sort(order[:limit]))

    def use_rows(self, wanted: np.ndarray) -> None:
        """Use only some of the rows: `wanted` is bool (rows,), or row numbers in ascending order."""
        self.rows = share(self.rows[wanted])
        self.num_images = _count_groups(self.row_images)

    # What models, samplers and tools read.

    @property
    def metainfo(self) -> dict[str, Any]:
        """What a model needs to know about its data; MMEngine saves it in checkpoints as `dataset_meta`."""
        return {'tokenizer_size': len(self.tokenizer)} if self.tokenizer is not None else {}

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The tokenizer of the first TokenizeKorean of the text pipeline."""
        return next((step.tokenizer for step in self.text_pipeline if isinstance(step, TokenizeKorean)), None)

    @property
    def row_images(self) -> np.ndarray:
        """int32 (rows,), ascending: the image number of each row."""
        return self.row_set.row_images[self.rows]

    def table(self) -> tuple[Table, ImageStore]:
        """The rows in use, with the column `image`, and the images in use, renumbered in the same order."""
        numbers, row_images = np.unique(self.row_images, return_inverse=True)
        rows = take_rows(self.row_set.columns, self.rows)
        return {**rows, 'image': pa.array(row_images, type=pa.int32())}, self.image_store.take(numbers)

    def record(self, row: int) -> dict[str, Any]:
        """The columns of a row, and `row`, `image` (path, or name of an absent image) and `split`."""
        values = {name: column[self.rows[row]].as_py() for name, column in self.row_set.table.items()}
        image = self.image_store.name(values.pop('image'))
        return {'row': int(row), 'image': image, 'split': self.split, **values}

    def find_records(self, batch: Batch, epoch: int) -> list[dict[str, Any]]:
        """The records of the pairs of a training batch that these rows gave; the batch holds their seeds alone."""
        seeds = set(batch['sample_seed'].tolist())
        images = np.flatnonzero(np.isin(self.image_store.image_ids, batch['image_id'].numpy()))
        rows = np.flatnonzero(np.isin(self.row_images, images)).tolist()
        return [self.record(row) for row in rows if hash63(self.seed, epoch, row) in seeds]

    def broken_images(self) -> list[str]:
        """The images that are absent, or that a worker of this process could not read so far."""
        return sorted(self.image_store.name(number) for number in {*self._absent, *self.broken.numbers()})

    def summary(self) -> dict[str, Any]:
        """A description for the record of a run, with a digest of all texts and of the image of each."""
        digest = hashlib.blake2b(digest_table(self.row_set.table), digest_size=16)
        for part in (self.image_store.image_ids, self.rows):
            digest.update(part.data)
        return {
            'reader': type(self.reader).__name__,
            'data_root': str(self.data_root),
            'split': self.split,
            'images': self.num_images,
            'left_out': dict(self.left_out),
            'broken_images': self.broken_images(),
            'digest': digest.hexdigest(),
        }

    def digest_images(self) -> str:
        """A digest of the contents of up to 1,000 images in use, evenly spread; of all patches, if they are prepared.

        Reading them takes a second or less, where reading all images of a large data set takes many minutes.
        """
        numbers = np.unique(self.row_images)
        wanted = np.linspace(0, len(numbers) - 1, min(len(numbers), _DIGESTED_IMAGES)).astype(int)
        return self.image_store.digest(numbers[wanted])

    # From rows to samples.

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample of one row; see `__getitems__`.

        Raises:
            KoviltError: the image of a training row is broken.
        """
        samples = self.__getitems__([index])
        if not samples:
            raise KoviltError(f'{self.record(split_index(index)[1])["image"]}: cannot be read')
        return samples[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of some rows; each distinct image is read once, and its samples share one object.

        `indices` carry the epoch (see `samplers.join_index`). In training the result is shorter than `indices` when
        images are broken, and may be empty.

        Returns:
            dicts of `input_ids`, `word_ids` int64 (l,), `pad_id`, `image_id`, `image` (a dict of `patches` uint8
            (P, 3 * p * p) and `grid`), `sample_seed` and, with `keep_record`, `record`.
        """
        images: dict[int, dict[str, Any] | None] = {}
        chosen = []
        for index in indices:
            self.reading.note(index)
            epoch, row = split_index(index)
            number = self.row_set.table['image'][self.rows[row]].as_py()
            if number not in images:
                images[number] = self._load_image(number, epoch)
            if images[number] is not None or self.test_mode:
                chosen.append((row, epoch, number))
        samples = []
        for row, epoch, number in chosen:
            self.reading.note(join_index(epoch, row))
            record = self.record(row) if self.keep_record else {}
            sample = self._make_sample(row, epoch, number, images[number])
            if record:
                sample['record'] = record if images[number] is not None else {**record, 'broken': True}
            samples.append(sample)
        self.reading.note(None)
        return samples

    def describe(self, index: int) -> str:
        """The row of an index, with its image and question, in one line."""
        record = self.record(split_index(index)[1])
        question = f', question_id {record["question_id"]}' if 'question_id' in record else ''
        return f'row {record["row"]} of {self.split!r}{question}, image {record["image"]}'

    def _make_sample(self, row: int, epoch: int, number: int, image: dict[str, Any] | None) -> dict[str, Any]:
        return {
            **self._read_text(row),
            'image_id': self.image_store.image_id(number),
            'image': NO_IMAGE if image is None else image,
            'sample_seed': hash63(self.seed, epoch, row),
        }

    def _read_text(self, row: int) -> dict[str, Any]:
        """What a sample holds of the text of its row."""
        return self._tokenize(text=self.row_set.table[self.reader.TEXT][self.rows[row]].as_py())

    def _tokenize(self, **texts: str) -> dict[str, Any]:
        """Run the text pipeline on a `text` and maybe an `option`."""
        results: dict[str, Any] = dict(texts)
        for step in self.text_pipeline:
            results = step(results)
        return {name: results[name] for name in ('input_ids', 'word_ids', 'pad_id')}

    def _load_image(self, number: int, epoch: int) -> dict[str, Any] | None:
        """`patches` and `grid` of an image, from the cache if there is one; None when the image is broken."""
        if number in self.broken:
            return None
        if self._image_cache is not None and number in self._image_cache:
            return self._image_cache[number]
        try:
            image = self.read_image(number, epoch)
        except KoviltError as error:
            self.broken.mark(number)
            self._log(f'broken image: {error}', logging.WARNING)
            self.check_broken(len(self.broken), str(error))
            return None
        if self._image_cache is not None and image is not None:
            self._image_cache[number] = image
        return image

    def check_broken(self, count: int, last: str) -> None:
        """Raise KoviltError when training must not continue with this many broken images; `last` is the last error."""
        if not self.test_mode and count > self.max_broken_fraction * self.num_images:
            raise KoviltError(
                f'{count:,} of {self.num_images:,} images of {self.data_root} cannot be read, more '
                f'than max_broken_fraction={self.max_broken_fraction:g} allows; the last: {last}'
            ) from None

    def read_image(self, image: int, epoch: int = 0) -> dict[str, Any] | None:
        """Run the image pipeline on an image, given by its number: `patches` and `grid`; None when it is absent.

        Raises:
            KoviltError: the image is broken.
        """
        source = self.image_store[image]
        if source is None:
            return None
        results = {'img_path': source, 'image_seed': hash63(self.seed, epoch, self.image_store.image_id(image))}
        for step in self.image_pipeline:
            results = step(results)
        return {'patches': results['patches'], 'grid': results['grid']}

    def _log(self, message: str, level: int = logging.INFO) -> None:
        print_log(f'{type(self.reader).__name__} {self.split}: {printable(message)}', logger='current', level=level)


def _count_groups(values: np.ndarray) -> int:
    """The number of distinct values among ascending ones."""
    return int(np.count_nonzero(np.diff(values))) + bool(len(values))

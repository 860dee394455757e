"""Collating samples into the packed batch of `kovilt.batch`: each image once, texts padded to the longest."""

from __future__ import annotations

from typing import Annotated, Any

import mmengine.registry
import numpy as np
import torch
from torch import Tensor

from kovilt.batch import Batch
from kovilt.ranges import Range, check_value
from kovilt.registry import FUNCTIONS

MicroBatches = Annotated[int, Range(ge=1, le=10_000)]


# MMEngine's Runner asks the root registry for a collate function by its bare name and never looks into children.
@mmengine.registry.FUNCTIONS.register_module(name='PairCollate')
@FUNCTIONS.register_module(name='PairCollate')
def collate_pairs(samples: list[dict[str, Any]], *, micro_batches: MicroBatches = 1) -> list[Batch]:
    """Divide the samples into `micro_batches` parts of nearly equal size and pack each into a `Batch`.

    The batches of the list make one optimizer step. The list is never empty: without any sample (all images of the
    batch are broken) it holds one batch of no pairs and no images, so that every process still takes its step. A part
    without samples is left out.
    """
    check_value('micro_batches', micro_batches, MicroBatches)
    parts = [len(samples) * i // micro_batches for i in range(micro_batches + 1)]
    batches = [pack(samples[a:b]) for a, b in zip(parts, parts[1:], strict=False) if b > a]
    return batches or [pack([])]


def pack(samples: list[dict[str, Any]]) -> Batch:
    """Pack samples into one batch. Samples of one image share its patches.

    A sample with `options`, a question of multiple choice, becomes a pair for each of them.
    """
    index: dict[int, int] = {}
    images: list[dict[str, Any]] = []
    for sample in samples:
        if index.setdefault(sample['image_id'], len(index)) == len(images):
            images.append(sample['image'])
    width = max((image['patches'].shape[1] for image in images), default=0)  # 0 when no image has any patch
    patches = [image['patches'] for image in images if len(image['patches'])]
    pairs = samples
    if samples and 'options' in samples[0]:
        pairs = [sample | option for sample in samples for option in sample['options']]
    input_ids, text_mask, word_ids = pad_texts(pairs)
    batch: Batch = {
        'patches': torch.from_numpy(np.concatenate(patches) if patches else np.zeros((0, width), np.uint8)),
        'grids': _int64([image['grid'] for image in images]).view(-1, 2),
        'image_id': _int64(list(index)),
        'image_index': _int64([index[pair['image_id']] for pair in pairs]),
        'input_ids': input_ids,
        'text_mask': text_mask,
        'word_ids': word_ids,
        'sample_seed': _int64([pair['sample_seed'] for pair in pairs]),
    }
    if pairs is not samples:
        batch['option_offsets'] = _int64([0, *(len(sample['options']) for sample in samples)]).cumsum(0)
    if samples and 'label' in samples[0]:
        labels = [sample['label'] for sample in samples]
        batch['label'] = torch.from_numpy(np.stack(labels)) if isinstance(labels[0], np.ndarray) else _int64(labels)
    if samples and 'teacher_log_probs' in samples[0]:
        batch['teacher_log_probs'] = torch.from_numpy(np.stack([sample['teacher_log_probs'] for sample in samples]))
    if samples and 'record' in samples[0]:
        batch['records'] = [sample['record'] for sample in samples]
    return batch


def pad_texts(samples: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    """`input_ids`, `text_mask`, `word_ids` (B, L) of the B samples, padded to the longest."""
    lengths = np.array([len(sample['input_ids']) for sample in samples], dtype=np.int64)
    shape = (len(samples), int(lengths.max(initial=0)))
    input_ids = np.full(shape, samples[0]['pad_id'] if samples else 0, dtype=np.int64)
    word_ids = np.full(shape, -1, dtype=np.int64)
    for row, sample in enumerate(samples):
        input_ids[row, : lengths[row]] = sample['input_ids']
        word_ids[row, : lengths[row]] = sample['word_ids']
    text_mask = np.arange(shape[1]) < lengths[:, None]
    return torch.from_numpy(input_ids), torch.from_numpy(text_mask), torch.from_numpy(word_ids)


def _int64(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)

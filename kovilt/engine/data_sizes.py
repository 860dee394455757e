"""Reads the sizes that a dataset decides about a model: its vocabulary, its answers, its patches."""

from __future__ import annotations

from typing import Any

from kovilt.datasets.transforms.text import tokenizer_sizes


def read_data_sizes(dataset: Any) -> dict[str, Any]:
    """The sizes of a dataset, by the name of the model's argument, in the form that `complete_model_config` takes.

    `num_answers` is the length of its answer vocabulary; `vocab_size`, the ids of special tokens and
    `vocabulary_digest` come from its tokenizer; `patch_size` and `max_text_len` from the transforms of its pipelines.
    What a dataset does not have is left out.
    """
    sizes: dict[str, Any] = {}
    answers = getattr(dataset, 'metainfo', {}).get('answers')
    if answers is not None:
        sizes['num_answers'] = len(answers)
    tokenizer = getattr(dataset, 'tokenizer', None)
    if tokenizer is not None:
        sizes |= tokenizer_sizes(tokenizer)
    transforms = [*getattr(dataset, 'image_pipeline', ()), *getattr(dataset, 'text_pipeline', ())]
    for name in ('patch_size', 'max_text_len'):
        stated = [getattr(transform, name) for transform in transforms if hasattr(transform, name)]
        if stated:
            sizes[name] = stated[0]
    return sizes

"""The transforms of a trained model, which turn an image and a question from anywhere into what its batches hold."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kovilt.apis.questions import question_warnings
from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.datasets.transforms.load_image import image_size
from kovilt.datasets.zip_files import ZipMember
from kovilt.errors import KoviltError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

MIN_SIDE = 8  # pixels of an image


class ReadQuestion(NamedTuple):
    """A question as a model reads it."""

    tokens: dict[str, Any]  # input_ids, word_ids, pad_id
    unknown_token_share: float | None  # of its tokens, 0 to 1; None if the model has no tokenizer
    warnings: list[str]  # what the model cannot read of it


class PairTransforms:
    """Reads images and questions as a model reads them. Worker processes can have a copy.

    Args:
        images, texts: of `build_pipelines`.
    """

    def __init__(self, images: list[Any], texts: list[Any]) -> None:
        self._images, self._texts = images, texts

    def read_question(self, text: str) -> ReadQuestion:
        """Tokenize a text that `clean_question` gave."""
        results: dict[str, Any] = {'text': text}
        for transform in self._texts:
            results = transform(results)
        tokens = {key: results[key] for key in ('input_ids', 'word_ids', 'pad_id')}
        step = next((step for step in self._texts if hasattr(step, 'tokenizer')), None)
        if step is None:
            return ReadQuestion(tokens, None, [])
        counts, num_read = count_tokens(step.tokenizer, [text]), int((results['word_ids'] >= 0).sum())
        warnings = question_warnings(text, counts, num_read, korean=getattr(step, 'korean', True))
        return ReadQuestion(tokens, counts.unknown_share, list(warnings))

    def read_image(self, image: ImageLike | ZipMember, name: str = 'image') -> dict[str, Any]:
        """The `patches` and the `grid` of an image; `name` stands in messages for one that is not a file.

        Raises:
            KoviltError: a file that is missing or damaged, or an image that is too small or too large.
        """
        results: dict[str, Any]
        if isinstance(image, (Image.Image, np.ndarray)):
            results = {'img_path': name, 'img': image}
        else:
            results = {'img_path': image if isinstance(image, ZipMember) else os.fspath(image)}
        for transform in self._images:
            results = transform(results)
            if 'img' in results and min(size := image_size(results['img'])) < MIN_SIDE:
                shown = f'{results["img_path"]}: {size[0]} x {size[1]} pixels'
                raise KoviltError(f'{shown}; give an image of at least {MIN_SIDE} a side')
        return {'patches': results['patches'], 'grid': results['grid']}

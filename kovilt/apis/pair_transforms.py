"""The transforms of a trained model, which turn an image and a question from anywhere into what its batches hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kovilt.apis.questions import question_warnings
from kovilt.datasets.members import Member
from kovilt.datasets.tokenizer_check import count_tokens
from kovilt.datasets.transforms.load_image import image_size
from kovilt.errors import KoviltError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray
Part = tuple[float, float, float, float]  # left, top, right and bottom, as shares of an image's width and height

MIN_SIDE = 8  # pixels of an image


class ReadQuestion(NamedTuple):
    """A question as a model reads it."""

    tokens: dict[str, Any]  # input_ids, word_ids, pad_id; with `reads_options` also `options`, the same for each choice
    unknown_token_share: float | None  # of its tokens, 0 to 1; None if the model has no tokenizer
    warnings: list[str]  # what the model cannot read of it
    choices: list[str] = []  # the answers among which the model chooses; none = all that it knows


class PairTransforms:
    """Reads images and questions as a model reads them. Worker processes can have a copy.

    Args:
        images, texts: of `build_pipelines`.
        reads_options: the model reads a question with each of its choices, as a `ViLTForMultipleChoice` does.
    """

    def __init__(self, images: list[Any], texts: list[Any], *, reads_options: bool = False) -> None:
        self._images, self._texts, self._reads_options = images, texts, reads_options

    def read_question(self, text: str, choices: list[str] | None = None) -> ReadQuestion:
        """Tokenize a text that `clean_question` gave, and choices of `clean_choices`.

        Where the model reads options, the text may be empty: they are read alone then. What is said of its tokens is
        said of the option that the model knows least, and of the one that is cut most.
        """
        tokens, choices = self._tokenize(text=text), choices or []
        step = next((step for step in self._texts if hasattr(step, 'tokenizer')), None)
        texts = [(text, tokens)] if text else []
        if self._reads_options:
            options = [self._tokenize(text=text, option=one) if text else self._tokenize(text=one) for one in choices]
            tokens = tokens | {'options': options}
            texts = [(f'{text} {choice}', option) for choice, option in zip(choices, options, strict=True)]
        if step is None:
            return ReadQuestion(tokens, None, [], choices)
        counted = [
            (one, count_tokens(step.tokenizer, [one]), int((read['word_ids'] >= 0).sum())) for one, read in texts
        ]
        least_known = max(counted, key=lambda one: one[1].unknown_share)
        most_cut = max(counted, key=lambda one: one[1].given - one[2])
        korean = getattr(step, 'korean', True)
        warnings = [said for one in (most_cut, least_known) for said in question_warnings(*one, korean=korean)]
        if self._reads_options and (same := _equal_choices(choices, tokens['options'])):
            warnings.append(
                f'{same[0]!r} and {same[1]!r} are the same tokens to the model, so it cannot tell them apart'
            )
        return ReadQuestion(tokens, least_known[1].unknown_share, list(dict.fromkeys(warnings)), choices)

    def _tokenize(self, **texts: str) -> dict[str, Any]:
        results: dict[str, Any] = dict(texts)
        for transform in self._texts:
            results = transform(results)
        return {key: results[key] for key in ('input_ids', 'word_ids', 'pad_id')}

    def token_texts(self, input_ids: Sequence[int]) -> list[str]:
        """The tokens as text; their ids where the model has no tokenizer."""
        step = next((step for step in self._texts if hasattr(step, 'tokenizer')), None)
        return (
            [str(number) for number in input_ids] if step is None else step.tokenizer.convert_ids_to_tokens(input_ids)
        )

    def read_source(self, image: ImageLike | bytes, name: str = 'image') -> tuple[np.ndarray, Part]:
        """The upright image, uint8 (H, W, 3), as the first transform reads it, and the part of it that patches cover.

        That is the whole image, unless a transform has a method `kept_part` as `CropSquare` has.

        Raises:
            KoviltError: as `read_image`; the transforms read no image.
        """
        load, *rest = self._images
        pixels = load(_named(image, name)).get('img')
        if pixels is None:
            raise KoviltError(f'{name}: the transforms of the model do not begin with an image, such as by LoadImage')
        crops = [step.kept_part for step in rest if hasattr(step, 'kept_part')]
        return pixels, crops[0](*image_size(pixels)) if crops else (0.0, 0.0, 1.0, 1.0)

    def read_image(self, image: ImageLike | Member | bytes, name: str = 'image') -> dict[str, Any]:
        """The `patches` and the `grid` of an image; bytes are the content of a file.

        `name` stands in messages for what has no path.

        Raises:
            KoviltError: a file that is missing or damaged, or an image that is too small or too large.
        """
        results = _named(image, name)
        for transform in self._images:
            results = transform(results)
            if 'img' in results and min(size := image_size(results['img'])) < MIN_SIDE:
                shown = f'{results["img_path"]}: {size[0]} x {size[1]} pixels'
                raise KoviltError(f'{shown}; give an image of at least {MIN_SIDE} a side')
        return {'patches': results['patches'], 'grid': results['grid']}


def _equal_choices(choices: list[str], options: list[dict[str, Any]]) -> tuple[str, str] | None:
    """Two choices of the same tokens: of unknown ones, or cut before they differ."""
    first: dict[bytes, str] = {}
    for choice, option in zip(choices, options, strict=True):
        if (other := first.setdefault(option['input_ids'].tobytes(), choice)) != choice:
            return other, choice
    return None


def _named(image: ImageLike | Member | bytes, name: str) -> dict[str, Any]:
    """What the first transform takes."""
    if isinstance(image, (Image.Image, np.ndarray)):
        return {'img_path': name, 'img': image}
    if isinstance(image, bytes):
        return {'img_path': name, 'img_bytes': image}
    return {'img_path': image if isinstance(image, Member) else os.fspath(image)}

"""Fills in a hidden word of a caption about an image, with a pre-trained model."""

from __future__ import annotations

import heapq
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from kovilt.apis.device import check_device, move_to_device
from kovilt.apis.explanation import pixel_box
from kovilt.apis.loading import build_pipelines, load_trained
from kovilt.apis.pair_transforms import ImageLike, PairTransforms, Part
from kovilt.apis.questions import clean_question
from kovilt.datasets.collate import pack
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.models.memory import memory_errors
from kovilt.visualization.explanation import heat_over
from kovilt.visualization.heatmap import above_uniform


@dataclass(frozen=True, eq=False)
class FilledWord:
    """What a pre-trained model puts in the place of a hidden word, and where it finds the word in the image.

    Shapes: W words (eojeols) as far as the model reads them.

    Attributes:
        image: upright, RGB.
        words, hidden: of the caption, and the number of the hidden one among them.
        candidates: texts with their probability, the most probable first.
        word_plan: float32 (W, rows, columns), the mass that each word of the whole caption, with nothing hidden, sends
            to each patch; None for a model without word-patch alignment.
        part: of the image that the patches cover: left, top, right, bottom as shares of its width and height.
    """

    image: Image.Image
    words: list[str]
    hidden: int
    candidates: list[tuple[str, float]]
    word_plan: np.ndarray | None
    part: Part

    def plan_image(self, width: int = 480) -> Image.Image | None:
        """The image coloured by where the mass of the hidden word goes, on one scale for all words; None without
        word-patch alignment.
        """
        if self.word_plan is None:
            return None
        mass = above_uniform(self.word_plan)[self.hidden]
        return heat_over(self.image, pixel_box(self.part, self.image.size), mass, width)


class MaskFiller:
    """Fills in hidden words of captions about images. Threads may share one.

    >>> fill = MaskFiller('rooms_encoder')
    >>> fill('room.jpg', '빨간 소파가 왼쪽에 있다', hidden=1).candidates

    Args:
        model: a model folder or checkpoint of pre-training with masked language modelling, or the name of one that
            kovilt carries.
        config, device, tokenizer: as of `VQAInferencer`.

    Attributes:
        source: the model folder or checkpoint that was loaded.

    Raises:
        KoviltError: no such model, a damaged one, or one that has not learned to fill in masked words.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        tokenizer: str | None = None,
    ) -> None:
        check_device(device)
        kind = ('ViLTForPreTraining', 'METERForPreTraining')
        trained = load_trained(model, config=config, tokenizer=tokenizer, kind=kind)
        if trained.model.mlm_head is None:
            raise KoviltError(
                f'{model}: pre-trained without mlm_head, so it fills in no masked words; name another model'
            )
        self.source = trained.source or str(model)
        self.model = trained.model
        self.device = move_to_device(self.model, device)
        self.transforms = PairTransforms(*build_pipelines(trained))

    def __call__(self, image: ImageLike, caption: str, hidden: int, topk: int = 5) -> FilledWord:
        """Hide a word of a caption from the model and let it guess.

        Each token of the word is guessed independently of its others, so that the probability of a word of several
        tokens is their product.

        Args:
            image: a path, a PIL image or a uint8 array (H, W, 3) or (H, W).
            hidden: the number of the word, what blanks separate, from 0.
            topk: how many candidates to give.

        Warns:
            KoviltWarning: as `VQAInferencer` does for a question.

        Raises:
            KoviltError: an image or caption that cannot be used; no such word, or one that the model does not read.
        """
        text = clean_question(caption, 'caption')
        read = self.transforms.read_question(text)
        for message in read.warnings:
            warnings.warn(f'caption: {message}', KoviltWarning, stacklevel=2)
        pixels, part = self.transforms.read_source(image)
        batch = pack([dict(read.tokens, image=self.transforms.read_image(image), image_id=0, sample_seed=0)])
        words = text.split()[: int(read.tokens['word_ids'].max(initial=-1)) + 1]
        masked = batch['word_ids'] == hidden
        if not masked.any() or hidden < 0:
            raise KoviltError(
                f'word {hidden}: the model reads the words 0 to {len(words) - 1} of the caption; name one'
            )
        with torch.inference_mode(), memory_errors([batch], 'prediction'):
            _, _, ids, probabilities = self.model.fill_masks(batch, masked, topk)
            plan = (
                None if self.model.wpa_head is None else self.model.align(batch)[0][0].float().cpu().numpy()
            )  # (L, P)
        tokens = [self.transforms.token_texts(row) for row in ids.tolist()]
        return FilledWord(
            image=Image.fromarray(pixels),
            words=words,
            hidden=hidden,
            candidates=join_candidates(tokens, probabilities.tolist(), topk),
            word_plan=None if plan is None else _sum_words(plan, read.tokens['word_ids'], batch['grids'][0].tolist()),
            part=part,
        )


def join_candidates(
    tokens: Sequence[Sequence[str]], probabilities: Sequence[Sequence[float]], topk: int
) -> list[tuple[str, float]]:
    """The most probable words from the candidates of each of their tokens, whose probabilities are multiplied.

    Words of the same text count as one.
    """
    words = [('', 1.0)]
    for texts, scores in zip(tokens, probabilities, strict=True):
        longer = [
            (word + text.removeprefix('##'), product * score)
            for word, product in words
            for text, score in zip(texts, scores, strict=True)
        ]
        words = heapq.nlargest(topk, longer, key=lambda one: one[1])
    found: defaultdict[str, float] = defaultdict(float)
    for word, product in words:
        found[word] += product
    return sorted(found.items(), key=lambda one: -one[1])


def _sum_words(plan: np.ndarray, word_ids: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """The mass (W, rows, columns) of words from that of their tokens (L, P)."""
    rows, columns = grid
    count = int(word_ids.max(initial=-1)) + 1
    return np.stack([plan[word_ids == word].sum(axis=0).reshape(rows, columns) for word in range(count)])

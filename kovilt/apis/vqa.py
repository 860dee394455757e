"""Answer questions about images with a trained model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from kovilt.apis.image_cache import EncodedImageCache
from kovilt.apis.loading import build_pipelines, load_trained
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.transforms.load_image import image_size
from kovilt.errors import KoviltError, first_line
from kovilt.modules.int8 import make_int8
from kovilt.modules.prefix_vilt import EncodedImages, PrefixViLT
from kovilt.modules.vilt import ViLT
from kovilt.registry import FUNCTIONS
from kovilt.weights import GraphVQA

Precision = Literal['float32', 'int8']
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

MAX_CHARACTERS = 1000  # of a question; far beyond the 40 tokens that a model reads, so it is a mistake of the caller
MIN_SIDE = 8  # pixels of an image


class VQAInferencer:
    """Answers Korean questions about images.

    >>> answer = VQAInferencer('work_dirs/quickstart/model')
    >>> answer('room.jpg', ['소파는 무슨 색이에요?', '의자가 있어요?'], topk=3)

    A question about an image gets the same answer alone and in a batch. If the model's encoder is a `PrefixViLT`, an
    image is encoded once: further questions about it, in this call or a later one, cost only their tokens.

    Args:
        model: a model folder, also one with a graph (ONNX, .pt2); a training checkpoint (.pth); or a work folder, whose
            latest checkpoint is taken.
        config: config file of a checkpoint; None = the one that the checkpoint carries.
        device: 'cpu', 'cuda', 'cuda:1', ...; None = the GPU if there is one. Graphs compute on the CPU.
        batch_size: pairs that are computed together.
        tokenizer: folder or file of the tokenizer, if it is no longer where the config of a checkpoint says.
        trust: run a graph in a .pt2 file. It is a program: set this only for files of people whom you trust.
        image_cache_size: number of images that a `PrefixViLT` keeps encoded on the device between calls, those used
            last; at base size one takes up to 17 MB. Other models cache none.
        precision: 'float32', or 'int8' to answer two to three times as fast on a CPU: linear layers of the blocks and
            of the patch embedding get int8 weights and inputs (`kovilt.modules.int8`), and some answers change. A
            graph keeps the precision that it was exported with; leave this out.

    Raises:
        KoviltError: no such model, a damaged one, one that does not answer questions, or int8 where it is not
            supported.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        config: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        tokenizer: str | None = None,
        trust: bool = False,
        image_cache_size: int = 16,
        precision: Precision = 'float32',
    ) -> None:
        if batch_size < 1:
            raise KoviltError(f'batch_size={batch_size}: give at least 1')
        if precision not in get_args(Precision):
            raise KoviltError(f'precision={precision!r}: give one of {", ".join(get_args(Precision))}')
        if precision == 'int8':
            if not str(device or 'cpu').startswith('cpu'):
                raise KoviltError(f'precision int8 is for CPUs; leave out the device {device}, or the precision')
            device = 'cpu'
        self.batch_size = batch_size
        kind = ('ViLTForVQA', 'METERForVQA')
        trained = load_trained(model, config=config, tokenizer=tokenizer, kind=kind, graphs=True, trust=trust)
        if precision == 'int8':
            _quantise(trained.model, model)
        self.precision: Precision = trained.info.get('graph', {}).get('precision', precision)
        use_gpu = torch.cuda.is_available() and not isinstance(trained.model, GraphVQA)
        device = device or ('cuda' if use_gpu else 'cpu')
        try:
            self.model = trained.model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise KoviltError(f'device {device}: {first_line(error)}') from error
        self._image_transforms, self._text_transforms = build_pipelines(trained)
        caches = isinstance(getattr(self.model, 'encoder', None), PrefixViLT)
        self._image_cache = EncodedImageCache(image_cache_size) if caches else None
        self._collate: Any = FUNCTIONS.get('PairCollate')

    @property
    def answers(self) -> list[str]:
        """Every answer that the model can give."""
        return list(self.model.answers)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], questions: str | Sequence[str], topk: int = 5
    ) -> list[dict[str, Any]]:
        """Answer each pair of an image and a question, in their order.

        Args:
            images: one or a list of paths, PIL images or uint8 arrays (H, W, 3) or (H, W). An image that is given for
                several questions (the same path, or the same object) is read once.
            questions: one or a list. If one of the two is single, it is paired with all of the other.
            topk: how many answers to list, best first; fewer if the model has fewer.

        Returns:
            For each pair dict(answer=..., score=..., topk=[dict(answer=..., score=...), ...]); a score is the softmax
            probability of the answer among all answers of the model.

        Raises:
            KoviltError: an image or question that cannot be used, by its number in the list; counts that do not match.
        """
        if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
            raise KoviltError(f'topk={topk!r}: give at least 1')
        images = [images] if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray)) else list(images)
        questions = [questions] if isinstance(questions, str) else list(questions)
        first: dict[Any, int] = {}  # number of each distinct image
        numbers = [first.setdefault(_identity(n, image), n) for n, image in enumerate(images)]
        texts = [self._read_question(n, question) for n, question in enumerate(questions)]
        if len(images) != len(questions) and 1 not in (len(images), len(questions)):
            raise KoviltError(
                f'{len(images)} images and {len(questions)} questions: give as many of each, or one of either'
            )
        count = max(len(images), len(questions)) if images and questions else 0
        pairs = [(numbers[i % len(images)], i % len(texts)) for i in range(count)]
        order = sorted(range(count), key=lambda i: pairs[i][0])  # questions about one image stand together

        self.model.topk = topk
        results: list[dict[str, Any]] = [{}] * count
        prepared: dict[int, dict[str, Any]] = {}  # images of the current batch, by number
        for start in range(0, count, self.batch_size):
            chosen = order[start : start + self.batch_size]
            needed = dict.fromkeys(pairs[i][0] for i in chosen)
            prepared = {n: prepared.get(n) or self._prepare_image(n, images[n]) for n in needed}
            samples = [
                dict(texts[text], image=prepared[number], image_id=number, sample_seed=0)
                for number, text in (pairs[i] for i in chosen)
            ]
            (batch,) = self._collate(samples)
            if self._image_cache is not None:
                batch['encoded_images'] = EncodedImages.concatenate([image['encoded'] for image in prepared.values()])
            with torch.inference_mode():
                predictions = self.model(batch, mode='predict')
            for i, prediction in zip(chosen, predictions, strict=True):
                results[i] = {key: prediction[key] for key in ('answer', 'score', 'topk')}
        return results

    def _read_question(self, number: int, question: str) -> dict[str, Any]:
        """The tokens of a question: input_ids, word_ids, pad_id."""
        if not isinstance(question, str):
            raise KoviltError(f'question {number}: {question!r} is a {type(question).__name__}; give text')
        text = normalize_korean(question)
        if not text:
            raise KoviltError(f'question {number}: it is empty; give text')
        if len(text) > MAX_CHARACTERS:
            raise KoviltError(
                f'question {number}: {len(text):,} characters ({text[:20]}...); give at most {MAX_CHARACTERS:,}'
            )
        results: dict[str, Any] = {'text': text}
        for transform in self._text_transforms:
            results = transform(results)
        num_read, num_words = int(results['word_ids'].max()) + 1, len(text.split())
        if num_read < num_words:
            warnings.warn(f'question {number}: only its first {num_read} of {num_words} words are read', stacklevel=3)
        return {key: results[key] for key in ('input_ids', 'word_ids', 'pad_id')}

    def _prepare_image(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image; for a `PrefixViLT` its grid and the encoded image."""
        if self._image_cache is None:
            return self._read_image(number, image)
        return self._image_cache.get(image, lambda: self._read_image(number, image), self._encode)

    @torch.inference_mode()
    def _encode(self, image: dict[str, Any]) -> EncodedImages:
        """Encode one image alone, so that its states are the same to the last bit in every batch, cached or not."""
        batch = self.model.data_preprocessor(dict(patches=torch.from_numpy(image['patches'])))
        images = self.model.encoder.embed_images(batch['patches'], torch.tensor([image['grid']]))
        return images.without_states()

    def _read_image(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image."""
        results: dict[str, Any]
        if isinstance(image, (str, os.PathLike)):
            results, prefix = {'img_path': os.fspath(image)}, f'image {number}: '
        else:
            results, prefix = {'img_path': f'image {number}', 'img': image}, ''
        try:
            for transform in self._image_transforms:
                results = transform(results)
                if 'img' in results and min(size := image_size(results['img'])) < MIN_SIDE:
                    shown = f'{results["img_path"]}: {size[0]} x {size[1]} pixels'
                    raise KoviltError(f'{shown}; give an image of at least {MIN_SIDE} a side')
        except KoviltError as error:
            raise KoviltError(f'{prefix}{error}') from error
        return {'patches': results['patches'], 'grid': results['grid']}


def _quantise(model: Any, source: str | os.PathLike[str]) -> None:
    """Turn the linear layers of a model's blocks and patch embedding into int8; the pooler and the head take no time.

    Raises:
        KoviltError: the model has no such layers, or the processor does not support int8.
    """
    if isinstance(model, GraphVQA):
        raise KoviltError(f'{source}: a graph has the precision that it was exported with; leave out precision int8')
    if not isinstance(model.encoder, ViLT):
        kind = type(model.encoder).__name__
        raise KoviltError(f'{source}: precision int8 is for ViLT and PrefixViLT, not for {kind}; leave it out')
    try:
        for part in (model.encoder.image, *model.encoder.blocks):
            make_int8(part)
    except RuntimeError as error:
        raise KoviltError(f'precision int8: {error}') from error


def _identity(number: int, image: ImageLike) -> Any:
    """A key that is equal for two images only if they are the same file or object."""
    if isinstance(image, (str, os.PathLike)):
        return os.path.abspath(image)
    if isinstance(image, (Image.Image, np.ndarray)):
        return id(image)
    kind = type(image).__name__
    raise KoviltError(f'image {number}: a {kind}; give a path, a PIL image or a uint8 array (H, W, 3)')

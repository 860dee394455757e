"""Ask a trained model: images and questions in, answers with their scores out."""

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
from kovilt.errors import KoviltError
from kovilt.modules.int8 import make_int8
from kovilt.modules.prefix import EncodedImages, PrefixViLT
from kovilt.modules.vilt import ViLT
from kovilt.registry import FUNCTIONS
from kovilt.weights import GraphVQA

Precision = Literal['float32', 'int8']
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ImageLike = str | os.PathLike | Image.Image | np.ndarray

MOST_CHARACTERS = 1000  # far beyond the 40 tokens that a model reads: a file was pasted, or a loop ran away
LEAST_SIDE = 8  # pixels; nothing can be seen on less


class VQAInferencer:
    """Answers Korean questions about images.

    >>> ask = VQAInferencer('work_dirs/quickstart/model')
    >>> ask('room.jpg', ['소파는 무슨 색이에요?', '의자가 있어요?'], topk=3)

    The same question about the same image gets the same answer, alone or among others. A model whose encoder is
    `PrefixViLT` looks at an image once: later questions about it, in this call or the next ones, cost their words.

    Args:
        model: a model folder, also one with a graph (ONNX, .pt2); a checkpoint (.pth) of training; or a work folder,
            whose latest checkpoint is taken.
        config: the config of a checkpoint; None = the one that it carries.
        device: 'cpu', 'cuda', 'cuda:1', ...; None = the GPU if there is one. Graphs compute on the CPU.
        batch_size: pairs that are computed together.
        tokenizer: a tokenizer's folder or file, when a checkpoint's config names one that has moved.
        trust: a graph in a .pt2 file may be run. It is a program: say so only of one from people you trust.
        image_cache_size: how many images, the last that were asked about, a `PrefixViLT` keeps encoded on the device
            between calls; at base size one takes up to 17 MB. Other models keep none.
        precision: 'float32', or 'int8' to answer two to three times as fast on a CPU: the blocks' and the images'
            linear layers get int8 weights and inputs (`kovilt.modules.int8`), and some answers change. Of a graph,
            which has the precision that it was exported with, leave it out.

    Raises:
        KoviltError: no such model, a damaged one, one that does not answer questions, or int8 where there is none.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        config: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        tokenizer: str | None = None,
        trust: bool = False,
        image_cache_size: int = 16,
        precision: Precision = 'float32',
    ) -> None:
        if batch_size < 1:
            raise KoviltError(f'batch_size={batch_size}: at least one pair is computed at a time')
        if precision not in PRECISIONS:
            raise KoviltError(f'precision={precision!r}: give one of {", ".join(PRECISIONS)}')
        if precision == 'int8':
            if not str(device or 'cpu').startswith('cpu'):
                raise KoviltError(f'precision int8 is for CPUs; leave out the device {device}, or the precision')
            device = 'cpu'
        self.batch_size = batch_size
        trained = load_trained(
            model, config=config, tokenizer=tokenizer, kind=('ViLTForVQA', 'METERForVQA'), graphs=True, trust=trust
        )
        if precision == 'int8':
            _make_int8(trained.model, model)
        self.precision: Precision = trained.info.get('graph', {}).get('precision', precision)
        on_gpu = torch.cuda.is_available() and not isinstance(trained.model, GraphVQA)
        device = device or ('cuda' if on_gpu else 'cpu')
        try:
            self.model = trained.model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise KoviltError(f'device {device}: {str(error).splitlines()[0]}') from error
        self._image_steps, self._text_steps = build_pipelines(trained)
        looks_once = isinstance(getattr(self.model, 'encoder', None), PrefixViLT)
        self._kept = EncodedImageCache(image_cache_size) if looks_once else None
        self._collate = FUNCTIONS.get('PairCollate')

    @property
    def answers(self) -> list[str]:
        """Every answer that the model can give."""
        return list(self.model.answers)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], questions: str | Sequence[str], topk: int = 5
    ) -> list[dict[str, Any]]:
        """Answers each pair of an image and a question, in their order.

        Args:
            images: one or a list of paths, PIL encoded or uint8 arrays (H, W, 3) or (H, W). An image that stands for
                several questions (the same path, or the same object) is read once.
            questions: one or a list. Of images and questions, one stands for all of the other's.
            topk: how many answers to list, best first; fewer when the model knows fewer.

        Returns:
            For each pair dict(answer=..., score=..., topk=[dict(answer=..., score=...), ...]); a score is the softmax
            probability of the answer among all answers of the model.

        Raises:
            KoviltError: an image or question that cannot be used, by its number in the list; counts that do not match.
        """
        if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
            raise KoviltError(f'topk={topk!r}: at least the best answer is listed')
        images = [images] if isinstance(images, ImageLike) else list(images)
        questions = [questions] if isinstance(questions, str) else list(questions)
        first: dict[Any, int] = {}
        numbers = [first.setdefault(_identity(n, image), n) for n, image in enumerate(images)]
        texts = [self._read_question(n, question) for n, question in enumerate(questions)]
        if len(images) != len(questions) and 1 not in (len(images), len(questions)):
            raise KoviltError(
                f'{len(images)} images and {len(questions)} questions: give as many of each, or one of either'
            )
        count = max(len(images), len(questions)) if images and questions else 0
        pairs = [(numbers[i % len(images)], i % len(texts)) for i in range(count)]
        order = sorted(range(count), key=lambda i: pairs[i][0])  # an image's questions together

        self.model.topk = topk
        results: list[dict[str, Any]] = [{}] * count
        encoded: dict[int, dict[str, Any]] = {}  # of one batch; the next keeps what it shares
        for start in range(0, count, self.batch_size):
            chosen = order[start : start + self.batch_size]
            needed = dict.fromkeys(pairs[i][0] for i in chosen)
            encoded = {n: encoded.get(n) or self._look(n, images[n]) for n in needed}
            samples = [
                dict(texts[text], image=encoded[number], image_id=number, sample_seed=0)
                for number, text in (pairs[i] for i in chosen)
            ]
            (batch,) = self._collate(samples)
            if self._kept is not None:
                batch['encoded_images'] = EncodedImages.joined([image['encoded'] for image in encoded.values()])
            with torch.inference_mode():
                predictions = self.model(batch, mode='predict')
            for i, prediction in zip(chosen, predictions, strict=True):
                results[i] = {key: prediction[key] for key in ('answer', 'score', 'topk')}
        return results

    def _read_question(self, number: int, question: str) -> dict[str, Any]:
        """The pieces of a question: input_ids, word_ids, pad_id."""
        if not isinstance(question, str):
            raise KoviltError(f'question {number}: {question!r} is a {type(question).__name__}; give text')
        text = normalize_korean(question)
        if not text:
            raise KoviltError(f'question {number}: it is empty; ask something')
        if len(text) > MOST_CHARACTERS:
            raise KoviltError(
                f'question {number}: {len(text):,} characters ({text[:20]}...); ask in at most {MOST_CHARACTERS:,}'
            )
        results = {'text': text}
        for step in self._text_steps:
            results = step(results)
        read, said = int(results['word_ids'].max()) + 1, len(text.split())
        if read < said:
            warnings.warn(f'question {number}: only its first {read} of {said} words are read', stacklevel=3)
        return {key: results[key] for key in ('input_ids', 'word_ids', 'pad_id')}

    def _look(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image; of a model that looks once, its grid and what it was encoded as."""
        if self._kept is None:
            return self._read_image(number, image)
        return self._kept.get(image, lambda: self._read_image(number, image), self._encode)

    @torch.inference_mode()
    def _encode(self, image: dict[str, Any]) -> EncodedImages:
        """Each image alone, so that what else is asked about does not change a bit of it, nor whether it was kept."""
        batch = self.model.data_preprocessor(dict(patches=torch.from_numpy(image['patches'])))
        images = self.model.encoder.embed_images(batch['patches'], torch.tensor([image['grid']]))
        return images.without_states()

    def _read_image(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image."""
        if isinstance(image, (str, os.PathLike)):
            results, name = {'img_path': os.fspath(image)}, f'image {number}: '
        else:
            results, name = {'img_path': f'image {number}', 'img': image}, ''
        try:
            for step in self._image_steps:
                results = step(results)
                _check_side(results)
        except KoviltError as error:
            raise KoviltError(f'{name}{error}') from error
        return {'patches': results['patches'], 'grid': results['grid']}


def _make_int8(model: Any, source: str | os.PathLike) -> None:
    """The linear layers of a model's blocks and patches in int8; pooler and answer head, of little work, as they are.

    KoviltError for what has no such layers, or where the processor cannot.
    """
    if isinstance(model, GraphVQA):
        raise KoviltError(f'{source}: a graph has the precision that it was exported with; leave out precision int8')
    if not isinstance(model.encoder, ViLT):
        kind = type(model.encoder).__name__
        raise KoviltError(f'{source}: precision int8 is for ViLT and PrefixViLT, not for {kind}; leave it out')
    try:
        for part in (model.encoder.image, model.encoder.blocks):
            make_int8(part)
    except RuntimeError as error:
        raise KoviltError(f'precision int8: {error}') from error


def _identity(number: int, image: ImageLike) -> Any:
    """What tells whether two images are one."""
    if isinstance(image, (str, os.PathLike)):
        return os.path.abspath(image)
    if isinstance(image, (Image.Image, np.ndarray)):
        return id(image)
    kind = type(image).__name__
    raise KoviltError(f'image {number}: a {kind}; give a path, a PIL image or a uint8 array (H, W, 3)')


def _check_side(results: dict[str, Any]) -> None:
    image = results.get('img')
    if image is not None and min(size := image_size(image)) < LEAST_SIDE:
        raise KoviltError(
            f'{results["img_path"]}: {size[0]} x {size[1]} pixels; give an image of at least {LEAST_SIDE} a side'
        )

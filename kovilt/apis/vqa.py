"""Answer questions about images with a trained model."""

from __future__ import annotations

import html
import os
import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from kovilt.apis.device import check_device, move_to_device
from kovilt.apis.image_cache import CachedImage, EncodedImageCache
from kovilt.apis.loading import as_choice_model, build_pipelines, load_trained
from kovilt.apis.pair_transforms import ImageLike, PairTransforms, ReadQuestion
from kovilt.apis.precision import Precision, check_precision, set_precision
from kovilt.apis.questions import check_asked, clean_abstention, clean_choices, clean_question
from kovilt.datasets.korean import find_loose_jamo
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.model_names import find_model
from kovilt.models.choice import ViLTForMultipleChoice
from kovilt.models.memory import memory_errors
from kovilt.modules.prefix_vilt import PrefixImages, PrefixViLT
from kovilt.ranges import Share, check_value
from kovilt.registry import FUNCTIONS
from kovilt.weights import GraphVQA
from kovilt.weights.calibration import Calibration
from kovilt.weights.graph import GraphChoice
from kovilt.weights.image_detector import ImageDetector

if TYPE_CHECKING:
    from kovilt.apis.explanation import Explanation
    from kovilt.batch import Batch


class PreparedPair(NamedTuple):
    """A question about an image, as `VQAInferencer.answer_pairs` takes it."""

    image_number: int  # equal for the pairs of one image, which stand together
    image: CachedImage  # of `VQAInferencer.encode_image`
    question: ReadQuestion


class VQAInferencer:
    """Answers Korean questions about images. Threads may share one.

    >>> answer = VQAInferencer('work_dirs/quickstart/model')
    >>> answer('room.jpg', ['소파는 무슨 색이에요?', '의자가 있어요?'], topk=3)

    A model of multiple choice chooses among answers that are given with the question, whatever they are:

    >>> choose = VQAInferencer('work_dirs/choice/model')
    >>> choose('room.jpg', '소파는 무슨 색이에요?', choices=['빨간색', '파란색', '노란색'])

    A question about an image gets the same answer alone and in a batch. If the model's encoder is a `PrefixViLT`, an
    image is encoded once: further questions about it, in this call or a later one, cost only their tokens.

    Args:
        model: a model folder, also one with a graph (ONNX, .pt2), or the name of one that kovilt carries; a training
            checkpoint (.pth); or a work folder, whose best checkpoint is taken, else its latest.
        config: config file of a checkpoint; None = the one that the checkpoint carries.
        device: 'cpu', 'cuda', 'cuda:1', ...; None = the GPU if there is one. Graphs compute on the CPU.
        batch_size: pairs that are computed together.
        tokenizer: folder or file of the tokenizer, if it is no longer where the config of a checkpoint says.
        trust: run a graph in a .pt2 file. It is a program: set this only for files of people whom you trust.
        image_cache_size: number of images that a `PrefixViLT` keeps encoded on the device between calls, those used
            last; at base size one takes up to 17 MB. Other models cache none.
        choices: of calls that give none. A pre-trained model needs them here: it chooses by its matching (ITM) head,
            without any fine-tuning.
        precision: 'float32'; 'int8' to answer two to three times as fast on a CPU; or 'bfloat16', which is faster on
            GPUs and on CPUs with AMX or, of AMD, AVX512-BF16. Some answers change (`kovilt.apis.precision`). A graph
            keeps the precision that it was exported with; leave this out.
        threshold: the probability, 0 to 1, below which the model abstains; 0 = it always answers; None = that of the
            model's calibration, of which only a model folder can have one, else 0.
        abstention: what the model answers then; None = that of its calibration, else 모르겠음.

    Attributes:
        source: the model folder or checkpoint that was loaded; of a checkpoint also its step and kind of weights.
        device, precision: with which it computes.
        chooses: whether it is a model of multiple choice, whose questions need choices.
        transforms: that prepare its images and questions.
        calibration: of the model folder, None = it has none; its temperature is in every score.
        threshold, abstention: in force.
        image_detector: tells images that are unlike those of training, if `kovilt distance` has fitted one.

    Raises:
        KoviltError: no such model, a damaged one, one that does not answer questions, a precision that it does not
            support, or a threshold or an abstention that is none.
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
        choices: Sequence[str] | None = None,
        threshold: float | None = None,
        abstention: str | None = None,
    ) -> None:
        check_value('threshold', threshold, Share | None)
        given_abstention = None if abstention is None else clean_abstention(abstention, 'abstention')
        check_count('batch_size', batch_size)
        check_precision(precision, device)
        device = 'cpu' if precision == 'int8' else device
        check_device(device)
        self.batch_size = batch_size
        kind: tuple[str, ...] = ('ViLTForMultipleChoice', 'METERForMultipleChoice', 'ViLTForVQA', 'METERForVQA')
        if choices is not None:
            kind += ('ViLTForPreTraining', 'METERForPreTraining')
        trained = load_trained(model, config=config, tokenizer=tokenizer, kind=kind, graphs=True, trust=trust)
        if trained.info['model']['type'].endswith('ForPreTraining'):
            trained = as_choice_model(trained, model)
        found = find_model(model)
        self.source: str = trained.source or str(model if found == Path(model) else found)
        self.precision: Precision = (trained.info.get('graph') or {}).get('precision', precision)
        self.model = trained.model
        self.image_detector = trained.image_detector
        self.device = move_to_device(self.model, device or ('cpu' if isinstance(self.model, GraphVQA) else None))
        set_precision(self.model, precision, model)
        self.chooses = isinstance(self.model, ViLTForMultipleChoice | GraphChoice)
        if isinstance(self.model, ViLTForMultipleChoice):
            self.model.pairs_at_once = batch_size
        self.transforms = PairTransforms(*build_pipelines(trained), reads_options=self.chooses)
        caches = isinstance(getattr(self.model, 'encoder', None), PrefixViLT)
        self._image_cache = EncodedImageCache(image_cache_size) if caches else None
        self.calibration = trained.calibration
        if self.calibration is not None:
            self.model.temperature = self.calibration.temperature
        fitted = self.calibration or Calibration()
        self.threshold = fitted.threshold if threshold is None else threshold
        self.abstention = given_abstention or clean_abstention(fitted.abstention, f'{model}: abstention')
        self._collate: Any = FUNCTIONS.get('PairCollate')
        self.choices = None if choices is None else clean_choices(choices, 'choices', self.answers)
        if loose := [answer for answer in self.answers if find_loose_jamo(answer)]:
            message = f'{model}: {len(loose)} answers hold letters that form no syllable, such as {loose[0]!r}'
            warnings.warn(message, KoviltWarning, stacklevel=2)

    def __repr__(self) -> str:
        values = ', '.join(f'{name}={value!r}' for name, value in self._summary().items())
        return f'{type(self).__name__}({values})'

    def _repr_html_(self) -> str:
        """For notebooks."""
        cells = ''.join(
            f'<tr><th>{name}</th><td style="text-align:left">{html.escape(str(value))}</td></tr>'
            for name, value in self._summary().items()
        )
        return f'<table><caption>{type(self).__name__}</caption>{cells}</table>'

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            'source': self.source,
            'model': type(self.model).__name__,
            'answers': len(self.answers) or 'the given choices',
            'precision': self.precision,
            'device': str(self.device),
        }
        if self.calibration is not None:
            summary['temperature'] = self.calibration.temperature
        return summary | ({'threshold': self.threshold, 'abstention': self.abstention} if self.threshold else {})

    @property
    def answers(self) -> list[str]:
        """Every answer that the model can give; empty where it `chooses`."""
        return list(getattr(self.model, 'answers', ()))

    @property
    def encodes_once(self) -> bool:
        """Whether an image is encoded once for all its questions, as by a `PrefixViLT`."""
        return self._image_cache is not None

    def __call__(
        self,
        images: ImageLike | Iterable[ImageLike],
        questions: str | Iterable[str],
        topk: int = 5,
        choices: Sequence[str] | Sequence[Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        """Answer each pair of an image and a question, in their order.

        Args:
            images: one or a list of paths, PIL images or uint8 arrays (H, W, 3) or (H, W). An image that is given for
                several questions (the same path, or the same object) is read once.
            questions: one or a list. If one of the two is single, it is paired with all of the other.
            topk: how many answers to list, best first; fewer if there are fewer.
            choices: the answers among which to choose: a list for all questions, or such a list for each pair. A model
                of multiple choice takes any texts, also for an empty question, which reads the choices alone, as
                descriptions of the image; another model takes some of its `answers`.

        Returns:
            For each pair dict(answer=..., score=..., topk=[dict(answer=..., score=...), ...], unknown_token_share=...);
            a score is the softmax probability of the answer among all answers of the model, and unknown_token_share (0
            to 1) the share of the question's tokens that the model does not know, None if it has no tokenizer. With
            choices a score is the probability among these, and `choice` the number of the answer, counted from 0.
            A calibrated model gives calibrated probabilities. Where a threshold is in force, `abstained` says whether
            the best answer is less probable: then `answer` is the abstention and `choice` None, while score and topk
            are those of what the model would have said. A model that has `answers` never abstains among choices: no
            threshold was fitted for these.
            With an `image_detector` also image_distance=..., the Mahalanobis distance of the image from those of
            training, and unlike_training=..., whether it is above that of 99 % of them; neither changes an answer.

        Warns:
            KoviltWarning: a question that is cut, has no Hangul, or has more than 30 % unknown tokens.

        Raises:
            KoviltError: an image or question that cannot be used, by its number in the list; counts that do not match.
        """
        check_count('topk', topk)
        images = _listed(images, (str, os.PathLike, Image.Image, np.ndarray), 'images')
        questions = _listed(questions, (str,), 'questions')
        first: dict[Any, int] = {}  # number of each distinct image
        numbers = [first.setdefault(_identity(n, image), n) for n, image in enumerate(images)]
        if len(images) != len(questions) and 1 not in (len(images), len(questions)):
            raise KoviltError(
                f'{len(images)} images and {len(questions)} questions: give as many of each, or one of either'
            )
        count = max(len(images), len(questions)) if images and questions else 0
        given = self._listed_choices(choices, count)
        read: dict[tuple[str, int], ReadQuestion] = {}  # each distinct question is read once
        texts: list[ReadQuestion] = []
        for i in range(max(count, len(questions))):
            number, own = i % len(questions), given[i % len(given)]
            check_asked(own, chooses=self.chooses)
            key = clean_question(questions[number], f'question {number}', may_be_empty=self.chooses), id(own)
            if key not in read:
                read[key] = self._read_question(number, key[0], *([own] if own else []))
            texts.append(read[key])
        pairs = [(numbers[i % len(images)], i) for i in range(count)]
        order = sorted(range(count), key=lambda i: pairs[i][0])  # questions about one image stand together

        results: list[dict[str, Any]] = [{}] * count
        prepared: dict[int, dict[str, Any]] = {}  # images of the current batch, by number
        for start in range(0, count, self.batch_size):
            chosen = order[start : start + self.batch_size]
            needed = dict.fromkeys(pairs[i][0] for i in chosen)
            prepared = {n: prepared.get(n) or self._prepare_image(n, images[n]) for n in needed}
            asked = [PreparedPair(number, prepared[number], texts[text]) for number, text in (pairs[i] for i in chosen)]
            for i, result in zip(chosen, self.answer_pairs(asked, topk), strict=True):
                results[i] = result
        return results

    def answer_pairs(self, pairs: Sequence[PreparedPair], topk: int) -> list[dict[str, Any]]:
        """Answer at least one prepared pair, all in one batch; returns for each what `__call__` does.

        A server prepares images and questions by `transforms` in other threads than that of the model.
        """
        samples = [
            dict(pair.question.tokens, image=pair.image, image_id=pair.image_number, sample_seed=0) for pair in pairs
        ]
        (batch,) = self._collate(samples)
        if self._image_cache is not None:
            images = {pair.image_number: pair.image['encoded'] for pair in pairs}
            batch['encoded_images'] = PrefixImages.concatenate(list(images.values()))
        with torch.inference_mode(), memory_errors([batch], 'prediction'):
            answers = self.rank(batch, [pair.question.choices for pair in pairs], topk)
        shares = [pair.question.unknown_token_share for pair in pairs]
        return [one | {'unknown_token_share': share} for one, share in zip(answers, shares, strict=True)]

    def rank(self, batch: Batch, choices: Sequence[Sequence[str]], topk: int) -> list[dict[str, Any]]:
        """The answers to the questions of a batch, each among its choices, or among all that the model has.

        They are what `__call__` returns, but for `unknown_token_share`.
        """
        answers = self._rank(batch, choices, topk)
        if self.image_detector is not None:
            answers = self._add_distances(batch, answers, self.image_detector)
        if not self.threshold:
            return answers
        return [
            one if own and not self.chooses else self._answer_or_abstain(one)
            for own, one in zip(choices, answers, strict=True)
        ]

    def _add_distances(
        self, batch: Batch, answers: list[dict[str, Any]], detector: ImageDetector
    ) -> list[dict[str, Any]]:
        offsets = batch.get('option_offsets')  # the options of a question are pairs with its image
        images = batch['image_index'] if offsets is None else batch['image_index'][offsets[:-1]]
        features = self.model.image_features(self.model.data_preprocessor(batch))
        distances = detector.distances(features)[images].tolist()
        return [
            one | {'image_distance': distance, 'unlike_training': distance > detector.threshold}
            for one, distance in zip(answers, distances, strict=True)
        ]

    def _answer_or_abstain(self, best: dict[str, Any]) -> dict[str, Any]:
        if best['score'] >= self.threshold:
            return best | {'abstained': False}
        no_choice = {'choice': None} if 'choice' in best else {}
        return best | no_choice | {'answer': self.abstention, 'abstained': True}

    def _rank(self, batch: Batch, choices: Sequence[Sequence[str]], topk: int) -> list[dict[str, Any]]:
        if not any(choices):
            return self.model.answer(batch, topk)
        if all(choices):
            return self.model.answer(batch, topk, choices)
        every = self.model.answer(batch, topk)  # some questions of a batch of a server may have choices, others none
        given = self.model.answer(batch, topk, [own or self.answers for own in choices])
        return [one if own else other for own, one, other in zip(choices, given, every, strict=True)]

    def explain(self, image: ImageLike, question: str, answer: str | None = None) -> Explanation:
        """Show where the model looks: what speaks for its answer to a question, or for another answer.

        The relevance of each patch and each token is that of Chefer, Gur and Wolf (ICCV 2021); beside it stands the
        transport plan of word-patch alignment. The pair is computed alone, in float32; nothing of it stays behind.

        >>> explanation = answer.explain('room.jpg', '소파는 무슨 색이에요?')
        >>> explanation.save('work_dirs/explanation')  # PNG, HTML, arrays; in a notebook it shows itself

        Args:
            image, question: one of each, as of a call.
            answer: one of `answers`; None = the one that the model gives, or would give if it did not abstain.

        Warns:
            KoviltWarning: as a call.

        Raises:
            KoviltError: an image or question that cannot be used; not an answer of the model; a graph, another
                precision than float32, or an encoder for which no rule of relevance is known.
        """
        from kovilt.apis.explanation import explain_answer  # which draws, as answering does not

        return explain_answer(self, image, question, answer)

    def _listed_choices(self, choices: Any, count: int) -> Sequence[list[str] | None]:
        """The choices of each pair, or those of all."""
        if choices is None:
            return [self.choices]
        if isinstance(choices, Sequence) and choices and not any(isinstance(one, str) for one in choices):
            if len(choices) != count:
                raise KoviltError(f'choices: {len(choices)} lists for {count} questions; give a list for each, or one')
            return [clean_choices(own, f'choices {number}', self.answers) for number, own in enumerate(choices)]
        return [clean_choices(choices, 'choices', self.answers)]

    def _read_question(self, number: int, text: str, choices: list[str] | None = None) -> ReadQuestion:
        question = self.transforms.read_question(text, choices)
        for message in question.warnings:
            warnings.warn(f'question {number}: {message}', KoviltWarning, stacklevel=3)
        return question

    def _prepare_image(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image; for a `PrefixViLT` its grid and the encoded image."""
        if self._image_cache is None:
            return self._read_image(number, image)
        return self._image_cache.get(image, lambda: self._read_image(number, image), self.encode_image)

    @torch.inference_mode()
    def encode_image(self, image: CachedImage) -> CachedImage:
        """An image of `transforms.read_image` as `answer_pairs` takes it: encoded for a `PrefixViLT`, else as it is.

        It is encoded alone, so that its states are the same to the last bit in every batch, cached or not.
        """
        if self._image_cache is None:
            return image
        batch = self.model.data_preprocessor(dict(patches=torch.from_numpy(image['patches'])))
        encoder: PrefixViLT = self.model.encoder
        with self.model.answer_context():
            images = encoder.embed_images(batch['patches'], torch.tensor([image['grid']]))
            encoded = encoder.encode_images(images).without_inputs()
        return dict(patches=image['patches'][:0], grid=image['grid'], encoded=encoded)

    def _read_image(self, number: int, image: ImageLike) -> dict[str, Any]:
        """The patches and the grid of an image."""
        try:
            return self.transforms.read_image(image, f'image {number}')
        except KoviltError as error:
            prefix = f'image {number}: ' if isinstance(image, (str, os.PathLike)) else ''
            raise KoviltError(f'{prefix}{error}') from error


def _identity(number: int, image: ImageLike) -> Any:
    """A key that is equal for two images only if they are the same file or object."""
    if isinstance(image, (str, os.PathLike)) and isinstance(path := os.fspath(image), str):
        if '\0' in path:
            raise KoviltError(f'image {number}: {path!r} is no path; give one without NUL')
        return os.path.abspath(path)
    if isinstance(image, (Image.Image, np.ndarray)):
        return id(image)
    kind = type(image).__name__
    raise KoviltError(f'image {number}: a {kind}; give a path, a PIL image or a uint8 array (H, W, 3)')


def _listed(values: Any, single: tuple[type, ...], name: str) -> list[Any]:
    """The values as a list: one alone is a list of one. KoviltError for what holds none, such as None or bytes."""
    if isinstance(values, single):
        return [values]
    if isinstance(values, (bytes, bytearray, Mapping)) or not isinstance(values, Iterable):
        raise KoviltError(f'{name}: {reprlib.repr(values)} is a {type(values).__name__}; give one or a list')
    return list(values)


def check_count(name: str, value: object) -> None:
    """KoviltError unless `value`, the argument `name`, is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise KoviltError(f'{name}={value!r}: give a whole number of at least 1')

"""A loaded model and the images that it has prepared last."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from kovilt.apis.image_cache import CachedImage
from kovilt.apis.pair_transforms import Part, ReadQuestion
from kovilt.apis.questions import check_asked, clean_choices, clean_question
from kovilt.apis.vqa import PreparedPair
from kovilt.serving.metrics import Metrics
from kovilt.serving.settings import ServerSettings


@dataclass(eq=False)
class PreparedImage:
    """An image that requests share: read in one of several threads, then encoded in that of the model."""

    content: CachedImage
    is_encoded: bool = False


@dataclass(eq=False)
class Job:
    """A question about an image, whose answer somebody awaits."""

    engine: Engine
    image: PreparedImage
    question: ReadQuestion
    topk: int
    answer: asyncio.Future[dict[str, Any]]


class Engine:
    """A model as the service uses it.

    Args:
        readers: threads that read images.
    """

    def __init__(self, settings: ServerSettings, readers: Executor, metrics: Metrics) -> None:
        # Encoded images are kept here, among other models' prepared ones.
        self.inferencer = settings.open_model(batch_size=settings.max_batch, image_cache_size=0)
        self._readers, self._metrics, self._max_images = readers, metrics, settings.cache_images
        self._images: OrderedDict[bytes, asyncio.Future[PreparedImage]] = OrderedDict()

    def read_questions(self, questions: list[str], choices: list[str] | None = None) -> list[ReadQuestion]:
        """The questions with the choices of each. Raises KoviltError for texts that cannot be used."""
        inferencer, chooses = self.inferencer, self.inferencer.chooses
        own = None if choices is None else clean_choices(choices, 'choices', inferencer.answers)
        check_asked(own, chooses=chooses)
        cleaned = [
            clean_question(text, f'question {number}', may_be_empty=chooses) for number, text in enumerate(questions)
        ]
        return [inferencer.transforms.read_question(text, own) for text in cleaned]

    async def prepare_image(self, content: bytes, digest: bytes) -> PreparedImage:
        """The image in a file. Requests that come together or one after the other with the same file share it.

        Args:
            digest: of the content.

        Raises:
            KoviltError: an image that cannot be used.
        """
        found = self._images.get(digest)
        self._metrics.images.labels('read' if found is None else 'cache').inc()
        if found is None:
            found = asyncio.ensure_future(self._read(content))
            self._images[digest] = found
            found.add_done_callback(lambda done: self._forget_failed(digest, done))
        self._images.move_to_end(digest)
        while len(self._images) > max(1, self._max_images):
            self._images.popitem(last=False)
        try:
            return await asyncio.shield(found)  # others may wait for it when this request is given up
        finally:
            if not self._max_images:
                self._images.pop(digest, None)

    async def _read(self, content: bytes) -> PreparedImage:
        read = self.inferencer.transforms.read_image
        return PreparedImage(await asyncio.get_running_loop().run_in_executor(self._readers, read, content))

    def _forget_failed(self, digest: bytes, done: asyncio.Future[PreparedImage]) -> None:
        if (done.cancelled() or done.exception()) and self._images.get(digest) is done:
            del self._images[digest]

    def answer(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Answer jobs of this engine in one batch, in the thread of the model; results in the order of the jobs."""
        images = {job.image: number for number, job in enumerate(jobs)}
        order = sorted(range(len(jobs)), key=lambda i: images[jobs[i].image])
        for image in images:
            if not image.is_encoded:
                image.content, image.is_encoded = self.inferencer.encode_image(image.content), True
        pairs = [PreparedPair(images[jobs[i].image], jobs[i].image.content, jobs[i].question) for i in order]
        results: list[dict[str, Any]] = [{}] * len(jobs)
        for i, found in zip(order, self.inferencer.answer_pairs(pairs, max(job.topk for job in jobs)), strict=True):
            warnings = jobs[i].question.warnings
            results[i] = found | {'topk': found['topk'][: jobs[i].topk], 'warnings': warnings}
        return results

    def read_whole(self, content: bytes) -> tuple[CachedImage, Part]:
        """The image in a file as an explanation needs it, not encoded, and the part of it that its patches cover."""
        pixels, part = self.inferencer.transforms.read_source(content)
        return self.inferencer.transforms.read_image(pixels), part

    def explain(self, image: CachedImage, question: ReadQuestion, answer: str) -> dict[str, Any]:
        """What speaks for an answer, in the thread of the model: the keys of `Relevance` but for the part.

        Raises:
            KoviltError: a model that cannot be explained (`find_relevance`).
        """
        from kovilt.apis.explanation import find_relevance  # which can also draw, as answering does not

        answers = self.inferencer.answers  # none of a model of multiple choice, which `find_relevance` refuses
        label = answers.index(answer) if answers else None
        found = find_relevance(self.inferencer, image, question, label)
        return {
            'tokens': self.inferencer.transforms.token_texts(question.tokens['input_ids'].tolist()),
            'token_relevance': [_short(value) for value in found.tokens.tolist()],
            'patch_relevance': [[_short(value) for value in row] for row in found.patches.tolist()],
        }


def _short(value: float) -> float:
    """The number with four digits: an answer has hundreds of them."""
    return float(f'{value:.4g}')

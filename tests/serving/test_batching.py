"""Questions of several requests are answered together, an image is prepared once, and no request harms another."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from kovilt.errors import KoviltError
from tests.serving.conftest import QUESTIONS, image_file, make_folder


@asynccontextmanager
async def running(app):
    async with app.router.lifespan_context(app):
        yield app.state.service


class Gate:
    """Holds the thread of the model back at its first batch, and notes the batches."""

    def __init__(self, service, monkeypatch):
        self.opened, self.reached, self.batches = threading.Event(), threading.Event(), []
        answer = service.engine.answer
        monkeypatch.setattr(service.engine, 'answer', lambda jobs: self.hold(jobs) or answer(jobs))

    def hold(self, jobs):
        self.batches.append(len(jobs))
        self.reached.set()
        assert self.opened.wait(30)

    async def wait_until_reached(self):
        assert await asyncio.to_thread(self.reached.wait, 30)


def test_what_waits_together_is_one_batch_and_answered_as_if_alone(idle_app, monkeypatch):
    async def ask_all():
        async with running(idle_app) as service:
            images = [image_file(seed) for seed in (0, 1, 0, 2, 1)]
            topks = [1, 5, 3, 2, 4]
            alone = [await service.answer(image, QUESTIONS, topk) for image, topk in zip(images, topks, strict=True)]
            gate = Gate(service, monkeypatch)
            first = asyncio.create_task(service.answer(images[0], QUESTIONS[:1], 1))
            await gate.wait_until_reached()
            others = [
                asyncio.create_task(service.answer(image, QUESTIONS, topk))
                for image, topk in zip(images, topks, strict=True)
            ]
            while service._batcher._jobs.qsize() < 15:
                await asyncio.sleep(0)
            gate.opened.set()
            together = await asyncio.gather(*others)
            assert gate.batches == [1, 15] and (await first)[0]['answer'] == alone[0][0]['answer']
            for ours, theirs, topk in zip(together, alone, topks, strict=True):
                for one, other in zip(ours, theirs, strict=True):
                    assert one['answer'] == other['answer'] and len(one['topk']) == topk
                    assert one['score'] == pytest.approx(other['score'], abs=1e-5)

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_an_image_is_read_and_encoded_once_for_all_requests(make_app, tmp_path, monkeypatch):
    app = make_app(model=str(make_folder(tmp_path / 'prefix', type='PrefixViLT')), cache_images=2)
    inferencer = app.state.service.engine.inferencer
    read, encoded = [], []
    read_image, encode_image = inferencer.transforms.read_image, inferencer.encode_image
    monkeypatch.setattr(inferencer.transforms, 'read_image', lambda *image: read.append(1) or read_image(*image))
    monkeypatch.setattr(inferencer, 'encode_image', lambda image: encoded.append(1) or encode_image(image))

    async def ask_all():
        async with running(app) as service:
            one, *others = (image_file(seed) for seed in range(3))
            expected = inferencer([service_image(one)], QUESTIONS)
            read.clear(), encoded.clear()
            answers = await asyncio.gather(*(service.answer(one, [text], 5) for text in QUESTIONS))
            assert [answer[0]['answer'] for answer in answers] == [row['answer'] for row in expected]
            await service.answer(one, QUESTIONS, 5)
            assert (len(read), len(encoded)) == (1, 1)
            for other in others:
                await service.answer(other, QUESTIONS, 5)
            await service.answer(one, QUESTIONS, 5)  # two others came since: it was forgotten
            assert (len(read), len(encoded)) == (4, 4) and len(service.engine._images) == 2
            (image, _) = [task.result() for task in service.engine._images.values()]
            assert image.content['patches'].nbytes == 0  # encoded, it needs them no more

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def service_image(content):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(content))


def test_a_broken_image_is_told_to_all_who_wait_and_not_remembered(idle_app):
    async def ask_all():
        async with running(idle_app) as service:
            broken = image_file()[:100]
            for _ in range(2):
                results = await asyncio.gather(
                    *(service.answer(broken, QUESTIONS, 5) for _ in range(3)), return_exceptions=True
                )
                assert all(isinstance(result, KoviltError) for result in results)
                assert not any(task.done() and task.exception() for task in service.engine._images.values())

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_a_pair_that_the_model_refuses_fails_alone(idle_app, monkeypatch):
    async def ask_all():
        async with running(idle_app) as service:
            inferencer = service.engine.inferencer
            answer_pairs = inferencer.answer_pairs
            marked = len(inferencer.transforms.read_question('책').tokens['input_ids'])

            def answer_or_refuse(pairs, topk):
                if any(len(pair.question.tokens['input_ids']) == marked for pair in pairs):
                    raise KoviltError('refused')
                return answer_pairs(pairs, topk)

            monkeypatch.setattr(inferencer, 'answer_pairs', answer_or_refuse)
            asked = [service.answer(image_file(), [text], 5) for text in (QUESTIONS[0], '책', QUESTIONS[1])]
            good, bad, other = await asyncio.gather(*asked, return_exceptions=True)
            assert str(bad) == 'refused' and good[0]['answer'] and other[0]['answer']

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_a_request_that_is_given_up_is_not_computed(idle_app, monkeypatch):
    async def ask_all():
        async with running(idle_app) as service:
            gate = Gate(service, monkeypatch)
            first = asyncio.create_task(service.answer(image_file(), QUESTIONS[:1], 1))
            await gate.wait_until_reached()
            given_up = asyncio.create_task(service.answer(image_file(), QUESTIONS, 1))
            while not service._batcher._jobs.qsize():
                await asyncio.sleep(0)
            given_up.cancel()
            last = asyncio.create_task(service.answer(image_file(), QUESTIONS[:2], 1))
            while service._batcher._jobs.qsize() < 5:
                await asyncio.sleep(0)
            gate.opened.set()
            await asyncio.gather(first, last)
            assert gate.batches == [1, 2]

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_a_batch_waits_for_one_explanation_at_most(idle_app, monkeypatch):
    async def ask_all():
        async with running(idle_app) as service:
            order, begun, may_end = [], threading.Event(), threading.Event()
            answer, explain = service.engine.answer, service.engine.explain

            def explain_slowly(*asked):
                order.append('explanation')
                begun.set()
                assert may_end.wait(30)
                return explain(*asked)

            monkeypatch.setattr(service.engine, 'answer', lambda jobs: order.append('batch') or answer(jobs))
            monkeypatch.setattr(service.engine, 'explain', explain_slowly)
            explained = asyncio.create_task(service.answer(image_file(), QUESTIONS, 1, explain=True))
            assert await asyncio.to_thread(begun.wait, 30)
            other = asyncio.create_task(service.answer(image_file(), QUESTIONS, 1))
            while not service._batcher._thread._work_queue.qsize():
                await asyncio.sleep(0)
            may_end.set()
            assert len(await other) == 3 and all('explanation' in one for one in await explained)
            assert order == ['batch', 'explanation', 'batch', 'explanation', 'explanation']

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_a_reload_answers_all_and_a_failed_one_keeps_the_model(idle_app, monkeypatch, caplog):
    async def ask_all():
        async with running(idle_app) as service:
            old = service.engine
            gate = Gate(service, monkeypatch)
            before = asyncio.create_task(service.answer(image_file(), QUESTIONS, 1))
            await gate.wait_until_reached()
            await service.reload()
            assert service.engine is not old
            after = asyncio.create_task(service.answer(image_file(), QUESTIONS, 1))
            gate.opened.set()
            assert await before == await after
            kept = service.engine
            for error, said in ((KoviltError('damaged'), 'damaged'), (OSError('no disk'), "OSError('no disk')")):
                monkeypatch.setattr(service, '_load', lambda error=error: (_ for _ in ()).throw(error))
                await service.reload()
                assert service.engine is kept and f'the old one goes on: {said}' in caplog.text
            assert await service.answer(image_file(), QUESTIONS, 1)

    asyncio.run(asyncio.wait_for(ask_all(), 60))


def test_a_slow_service_gives_up(make_app, monkeypatch):
    app = make_app(timeout=0.05)

    async def ask_all():
        async with running(app) as service:
            gate = Gate(service, monkeypatch)
            with pytest.raises(TimeoutError):
                await service.answer(image_file(), QUESTIONS, 1)
            gate.opened.set()

    asyncio.run(asyncio.wait_for(ask_all(), 60))

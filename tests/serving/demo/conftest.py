"""The demo with the packaged models and a file of predictions, which the tests of this folder share."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('gradio', reason="kovilt demo needs pip install 'kovilt[demo]'")

from kovilt.serving.demo.settings import DemoSettings
from kovilt.serving.demo.tabs import Demo, draw_examples


@pytest.fixture(scope='session', autouse=True)
def _folder_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Made before a demo that runs takes all temporary files of this process, and removes them at its end."""
    tmp_path_factory.getbasetemp()


@pytest.fixture(scope='session')
def examples(tmp_path_factory: pytest.TempPathFactory) -> list:
    return draw_examples(tmp_path_factory.mktemp('examples'), count=3)


@pytest.fixture(scope='session')
def predictions(tmp_path_factory: pytest.TempPathFactory, examples: list) -> Path:
    """Four predictions: two answer types, two wrong; the image of the last one is absent."""
    rows = [
        ('소파는 무슨 색이에요?', '색', '빨간색', '빨간색', 0.9, examples[0].image),
        ('의자는 무슨 색이에요?', '색', '갈색', '검은색', 0.8, examples[1].image),
        ('컵이 있어요?', '존재', '예', '아니요', 0.6, examples[2].image),
        ('공이 있어요?', '존재', '예', '예', 0.7, '/absent/room.jpg'),
    ]
    path = tmp_path_factory.mktemp('predictions') / 'predictions.jsonl'
    with path.open('w', encoding='utf-8') as file:
        for number, (question, kind, correct_answer, answer, score, image) in enumerate(rows):
            line = dict(
                question_id=str(number),
                image=image,
                question=question,
                ground_truth=correct_answer,
                answer=answer,
                answer_type=kind,
                score=score,
                correct=correct_answer == answer,
                tolerant_correct=correct_answer == answer,
                topk=[{'answer': answer, 'score': score}, {'answer': '2', 'score': 0.01}],
            )
            file.write(json.dumps(line, ensure_ascii=False) + '\n')
    return path


@pytest.fixture(scope='session')
def settings(predictions: Path) -> DemoSettings:
    return DemoSettings(compare='rooms', predictions=str(predictions), device='cpu')


@pytest.fixture(scope='session')
def demo(settings: DemoSettings) -> Demo:
    return Demo(settings)


@pytest.fixture
def event() -> type:
    """What a click on a part of a component tells: `index`, `value`, `row_value`."""
    return SimpleNamespace

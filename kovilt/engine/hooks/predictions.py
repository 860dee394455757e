"""What a model answered, question by question, as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import collect_results
from mmengine.hooks import Hook

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import answer_score, most_frequent, record_answers, tolerant_score
from kovilt.registry import HOOKS


@HOOKS.register_module()
class PredictionsHook(Hook):
    """Writes one JSON object a line for each question of a test, in the data's order, from rank 0.

    Keys: question_id, image, question, answer (the model's), score (its softmax probability), truth, answers (where
    people gave several; truth is then the most frequent), answer_type, correct and tolerant_correct, topk. What is
    correct is told by `answer_score` and `tolerant_score`: true or false with one human answer, 0 to 1 with several; a
    broken image is never correct. The file appears when it is complete.

    Args:
        out: path of the file; its folder is made.
    """

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        if self.out.is_dir():
            raise KoviltError(f'--out {self.out}: this is a folder; name a file, such as {self.out}/predictions.jsonl')

    def before_test_epoch(self, runner) -> None:
        self.lines: list[tuple[int, dict[str, Any]]] = []

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        for prediction in outputs or ():
            if 'record' not in prediction:
                raise KoviltError(
                    '--out: this model gives no answers to write down; test a VQA model with keep_record=True'
                )
            self.lines.append((prediction['record']['row'], prediction_line(prediction)))

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        lines = collect_results(self.lines, len(runner.test_dataloader.dataset), device='cpu')
        if lines is None:  # not rank 0
            return
        part = self.out.with_name(f'.{self.out.name}.part')
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            with open(part, 'w', encoding='utf-8') as file:
                for _, line in sorted(lines, key=lambda item: item[0]):
                    file.write(json.dumps(line, ensure_ascii=False) + '\n')
            os.replace(part, self.out)
        except OSError as error:
            raise KoviltError(f'--out {self.out}: cannot be written ({error.strerror})') from error
        runner.logger.info(f'{len(lines):,} predictions written to {self.out}')


def prediction_line(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of a prediction {'record', 'answer', 'score', 'topk'}; see `PredictionsHook`."""
    record = prediction['record']
    answer, truths = normalize_korean(prediction['answer']), record_answers(record)
    return {
        'question_id': record.get('question_id'),
        'image': record.get('image'),
        'question': record.get('question'),
        'answer': prediction['answer'],
        'score': round(prediction['score'], 6),
        'truth': most_frequent(truths),
        **({'answers': truths} if len(truths) > 1 else {}),
        'answer_type': record.get('answer_type'),
        'correct': _points(answer_score(answer, truths), record, truths),
        'tolerant_correct': _points(tolerant_score(answer, truths), record, truths),
        'topk': [{**guess, 'score': round(guess['score'], 6)} for guess in prediction['topk']],
    }


def _points(score: float, record: dict[str, Any], truths: list[str]) -> bool | float:
    """What the file says of a score."""
    score = 0.0 if record.get('broken', False) else score
    return bool(score) if len(truths) == 1 else round(score, 6)

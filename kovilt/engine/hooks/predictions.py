"""What a model answered, question by question, as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmengine.dist import collect_results
from mmengine.hooks import Hook

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.registry import HOOKS


@HOOKS.register_module()
class PredictionsHook(Hook):
    """Writes one JSON object a line for each question of a test, in the data's order, from rank 0.

    Keys: question_id, image, question, answer (the model's), score (its softmax probability), truth, answer_type,
    correct (exact match after `normalize_korean`; a broken picture is never correct), topk. The file appears when it
    is complete.

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
            record = prediction['record']
            correct = normalize_korean(prediction['answer']) == normalize_korean(record['answer'])
            self.lines.append(
                (
                    record['row'],
                    {
                        'question_id': record.get('question_id'),
                        'image': record.get('image'),
                        'question': record.get('question'),
                        'answer': prediction['answer'],
                        'score': round(prediction['score'], 6),
                        'truth': record['answer'],
                        'answer_type': record.get('answer_type'),
                        'correct': correct and not record.get('broken', False),
                        'topk': [{**guess, 'score': round(guess['score'], 6)} for guess in prediction['topk']],
                    },
                )
            )

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

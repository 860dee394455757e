"""Writes the predictions of a test, or of the best validation of a training, into a file, one line a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import collect_results
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError
from kovilt.evaluation.scoring import GroundTruth, answer_score, ground_truth_answers, most_frequent, tolerant_score
from kovilt.files import write_json_lines
from kovilt.registry import HOOKS


@HOOKS.register_module()
class PredictionsHook(Hook):
    """Writes one JSON object a line for each question of a test, in the order of the data, from rank 0.

    In a training it writes the predictions of the validation whose checkpoint is the best so far or, where no best one
    is kept, of the latest validation: those of the checkpoint that `choose_checkpoint` takes. They cost no computation.

    Keys: question_id, image, question, answer (the model's), score (its softmax probability), ground_truth (of
    several answers the most frequent or the one of greatest weight), answers (a list where there are several, an object
    where they have weights), answer_type, correct and tolerant_correct, topk, and `unanswerable` of a model that has a
    class for it (`ViLTForVQA.predict`). The two `correct` keys come from `answer_score` and `tolerant_score`: true or
    false with one answer in the ground truth, 0 to 1 with several or with weights; a question whose image is broken is
    never correct. The file appears when it is complete.

    Args:
        out: path of the file; its folder is created.
        is_asked: the user has asked for the file (`--out`): a model that predicts no answers, and a file that cannot
            be written, are errors. Otherwise the first writes nothing and the second is a warning.
    """

    priority = 'LOWEST'  # after CheckpointHook, which decides what is best

    def __init__(self, out: str, *, is_asked: bool = True) -> None:
        self.out, self.is_asked = Path(out), is_asked
        if is_asked and self.out.is_dir():
            raise KoviltError(f'--out {self.out}: this is a folder; name a file, such as {self.out}/predictions.jsonl')
        self.lines: list[tuple[int, dict[str, Any]]] = []  # row of the table, line of the file

    def before_test_epoch(self, runner: Runner) -> None:
        self.lines = []

    before_val_epoch = before_test_epoch

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[dict[str, Any]] | None = None
    ) -> None:
        for prediction in outputs or ():
            if 'record' in prediction:
                self.lines.append((prediction['record']['row'], prediction_line(prediction)))
            elif self.is_asked:
                raise KoviltError('--out: this model predicts no answers; test a VQA model with keep_record=True')

    after_val_iter = after_test_iter

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        self._write(runner, len(runner.test_dataloader.dataset))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        if _is_best(runner):
            self._write(runner, len(runner.val_dataloader.dataset))
        self.lines = []

    def _write(self, runner: Runner, questions: int) -> None:
        lines = collect_results(self.lines, questions, device='cpu')
        if lines is None:  # not rank 0
            return
        if not lines:  # no answers; an older file would belong to another model
            with suppress(OSError):
                self.out.unlink(missing_ok=True)
            return
        try:
            write_json_lines(self.out, [line for _, line in sorted(lines, key=lambda item: item[0])])
        except OSError as error:
            message = f'{self.out}: cannot be written ({error.strerror})'
            if self.is_asked:
                raise KoviltError(f'--out {message}') from error
            with suppress(OSError):
                self.out.unlink(missing_ok=True)  # it would belong to another checkpoint
            runner.logger.warning(f'{message}; the run goes on without it')
        else:
            runner.logger.info(f'{len(lines):,} predictions written to {self.out}')


def _is_best(runner: Runner) -> bool:
    """Whether the checkpoint of the current step, which has just been validated, is the best so far."""
    best = [value for key, value in runner.message_hub.runtime_info.items() if key.startswith('best_ckpt') and value]
    names = f'_iter_{runner.iter}.pth', f'_epoch_{runner.epoch}.pth'
    return not best or any(str(path).endswith(names) for path in best)


def prediction_line(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The line of the file for a prediction {'record', 'answer', 'score', 'topk'}; see `PredictionsHook`."""
    record = prediction['record']
    predicted, answers = normalize_korean(prediction['answer']), ground_truth_answers(record)
    return {
        'question_id': record.get('question_id'),
        'image': record.get('image'),
        'question': record.get('question'),
        'answer': prediction['answer'],
        'score': round(prediction['score'], 6),
        'ground_truth': most_frequent(answers),
        **({} if _is_one(answers) else {'answers': answers}),
        'answer_type': record.get('answer_type'),
        'correct': _round_score(answer_score(predicted, answers), record, answers),
        'tolerant_correct': _round_score(tolerant_score(predicted, answers), record, answers),
        'topk': [{**guess, 'score': round(guess['score'], 6)} for guess in prediction['topk']],
        **({'unanswerable': round(share, 6)} if (share := prediction.get('unanswerable')) is not None else {}),
    }


def _round_score(score: float, record: Mapping[str, Any], answers: GroundTruth) -> bool | float:
    """A score as the file holds it: a bool with one answer in the ground truth, else a number."""
    score = 0.0 if record.get('broken', False) else score
    return bool(score) if _is_one(answers) else round(score, 6)


def _is_one(answers: GroundTruth) -> bool:
    """Whether a ground truth is one answer without a weight."""
    return len(answers) == 1 and not isinstance(answers, Mapping)

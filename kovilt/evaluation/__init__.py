"""Evaluates models: accuracy of answers, metrics of pre-training, alignment of words and patches."""

from kovilt.evaluation.alignment import score_alignment, score_word_alignments
from kovilt.evaluation.pretraining import PretrainingMetrics
from kovilt.evaluation.vqa import VQAAccuracy

__all__ = ['PretrainingMetrics', 'VQAAccuracy', 'score_alignment', 'score_word_alignments']

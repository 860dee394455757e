"""How good a model is: scores of answers, what pre-training is watched by, alignment of words and patches."""

from kovilt.evaluation.alignment import alignment_score, score_alignment
from kovilt.evaluation.pretraining import PretrainingMetrics
from kovilt.evaluation.vqa import VQAAccuracy

__all__ = ['PretrainingMetrics', 'VQAAccuracy', 'alignment_score', 'score_alignment']

"""How good a model is: scores of answers, what pre-training is watched by, alignment of words and patches."""

from .alignment import alignment_score, score_alignment
from .pretraining import PretrainingMetrics
from .vqa import VQAAccuracy

__all__ = ['PretrainingMetrics', 'VQAAccuracy', 'alignment_score', 'score_alignment']

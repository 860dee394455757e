"""kovilt from Python: a trained model that answers."""

from .vqa import VQAInferencer

__all__ = ['VQAInferencer']

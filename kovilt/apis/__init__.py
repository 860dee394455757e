"""kovilt from Python: load a trained model, answer questions with it, export it."""

from kovilt.apis.export import export_checkpoint
from kovilt.apis.loading import build_pipelines, load_trained
from kovilt.apis.vqa import VQAInferencer

__all__ = ['VQAInferencer', 'build_pipelines', 'export_checkpoint', 'load_trained']

"""kovilt from Python: load, export and ask a trained model."""

from kovilt.apis.export import export_checkpoint
from kovilt.apis.loading import build_pipelines, load_trained
from kovilt.apis.vqa import VQAInferencer

__all__ = ['VQAInferencer', 'build_pipelines', 'export_checkpoint', 'load_trained']

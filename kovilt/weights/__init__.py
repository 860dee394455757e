"""Weights in other people's layouts, and the folder in which a trained model travels."""

from .checkpoint import build_pipelines, export_checkpoint, load_trained
from .folder import TrainedModel, load_model_folder, save_model_folder
from .hf import from_huggingface, to_huggingface
from .importing import ImportReport, import_weights

__all__ = [
    'ImportReport',
    'TrainedModel',
    'build_pipelines',
    'export_checkpoint',
    'from_huggingface',
    'import_weights',
    'load_model_folder',
    'load_trained',
    'save_model_folder',
    'to_huggingface',
]

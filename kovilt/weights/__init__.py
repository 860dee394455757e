"""Weights in other people's layouts, and the folder in which a trained model travels."""

from .folder import ModelFolder, load_model_folder, save_model_folder
from .hf import from_huggingface, to_huggingface

__all__ = ['ModelFolder', 'from_huggingface', 'load_model_folder', 'save_model_folder', 'to_huggingface']

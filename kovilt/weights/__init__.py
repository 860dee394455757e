"""Weights in other people's layouts, and the folder in which a trained model travels."""

from kovilt.weights.folder import TrainedModel, load_model_folder, save_model_folder
from kovilt.weights.graph import GraphVQA
from kovilt.weights.graph_files import write_graph
from kovilt.weights.importing import ImportReport, import_weights

__all__ = [
    'GraphVQA',
    'ImportReport',
    'TrainedModel',
    'import_weights',
    'load_model_folder',
    'save_model_folder',
    'write_graph',
]

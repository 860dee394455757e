"""Model folders: save and load a trained model, export it as a graph, import public weights."""

from kovilt.formats.report import ImportReport
from kovilt.weights.folder import TrainedModel, load_model_folder, save_model_folder
from kovilt.weights.graph import GraphVQA
from kovilt.weights.graph_files import write_graph
from kovilt.weights.importing import import_weights

__all__ = [
    'GraphVQA',
    'ImportReport',
    'TrainedModel',
    'import_weights',
    'load_model_folder',
    'save_model_folder',
    'write_graph',
]

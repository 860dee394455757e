"""Models that MMEngine's Runner trains, and the parts they are composed of, under the scope `kovilt`."""

from kovilt import modules
from kovilt.models.meter import METER, METERForPreTraining, METERForVQA, TextEncoder
from kovilt.models.preprocessor import METERPreprocessor, ViLTPreprocessor
from kovilt.models.pretraining import ViLTForPreTraining
from kovilt.models.vqa import ViLTForVQA
from kovilt.registry import MODELS

for part in modules.__all__:
    MODELS.register_module(module=getattr(modules, part))

__all__ = [
    'METER',
    'METERForPreTraining',
    'METERForVQA',
    'METERPreprocessor',
    'TextEncoder',
    'ViLTForPreTraining',
    'ViLTForVQA',
    'ViLTPreprocessor',
    *modules.__all__,
]

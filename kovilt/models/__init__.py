"""Models that MMEngine's Runner trains, and the components they are built of, registered under the scope `kovilt`."""

from kovilt import modules
from kovilt.models.choice import ViLTForMultipleChoice
from kovilt.models.meter import METER, METERForMultipleChoice, METERForPreTraining, METERForVQA, TextEncoder
from kovilt.models.preprocessor import METERPreprocessor, ViLTPreprocessor
from kovilt.models.pretraining import ViLTForPreTraining
from kovilt.models.vqa import ViLTForVQA
from kovilt.registry import MODELS

# modules needs torch alone, so its classes are registered here.
for name in modules.__all__:
    MODELS.register_module(module=getattr(modules, name))

__all__ = [
    'METER',
    'METERForMultipleChoice',
    'METERForPreTraining',
    'METERForVQA',
    'METERPreprocessor',
    'TextEncoder',
    'ViLTForMultipleChoice',
    'ViLTForPreTraining',
    'ViLTForVQA',
    'ViLTPreprocessor',
    *modules.__all__,
]

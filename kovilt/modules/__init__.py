"""The layers, encoders and heads. They need torch and nothing else, so that each can be built and tested alone."""

from kovilt.modules.embeddings import PatchEmbedder, TextEmbedder
from kovilt.modules.heads.choice import ChoiceHead
from kovilt.modules.heads.itm import ITMHead
from kovilt.modules.heads.mlm import MLMHead
from kovilt.modules.heads.vqa import VQAHead
from kovilt.modules.heads.wpa import WPAHead
from kovilt.modules.prefix_vilt import PrefixViLT
from kovilt.modules.vilt import ViLT

__all__ = [
    'ChoiceHead',
    'ITMHead',
    'MLMHead',
    'PatchEmbedder',
    'PrefixViLT',
    'TextEmbedder',
    'VQAHead',
    'ViLT',
    'WPAHead',
]

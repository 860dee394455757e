"""The tensor work of kovilt. Needs torch and nothing else: each part can be built and tested on its own."""

from kovilt.modules.embeddings import PatchEmbedder, TextEmbedder
from kovilt.modules.heads.itm import ITMHead
from kovilt.modules.heads.mlm import MLMHead
from kovilt.modules.heads.vqa import VQAHead
from kovilt.modules.heads.wpa import WPAHead
from kovilt.modules.prefix import PrefixViLT
from kovilt.modules.vilt import ViLT

__all__ = ['ITMHead', 'MLMHead', 'PatchEmbedder', 'PrefixViLT', 'TextEmbedder', 'VQAHead', 'ViLT', 'WPAHead']

"""Convert state dicts of the original ViLT code (github.com/dandelin/ViLT), and so of timm's ViT, to kovilt's names.

kovilt's blocks have timm's names and one matrix for queries, keys and values, as these files do.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.formats.huggingface import to_kovilt_shape

# Prefix of a name there -> here. The masked-word decoder's bias is a parameter of its own there.
_PREFIXES = {
    'text_embeddings.word_embeddings.': 'encoder.text.word_embed.',
    'text_embeddings.position_embeddings.': 'encoder.text.pos_embed.',
    'text_embeddings.token_type_embeddings.': 'encoder.text.segment_embed.',
    'text_embeddings.LayerNorm.': 'encoder.text.norm.',
    'token_type_embeddings.': 'encoder.modality_embed.',
    'transformer.patch_embed.proj.': 'encoder.image.proj.',
    'transformer.cls_token': 'encoder.image.cls_token',
    'transformer.pos_embed': 'encoder.image.pos_embed',
    'transformer.blocks.': 'encoder.blocks.',
    'transformer.norm.': 'encoder.norm.',
    'pooler.dense.': 'encoder.pooler.',
    'mlm_score.transform.dense.': 'mlm_head.fc.',
    'mlm_score.transform.LayerNorm.': 'mlm_head.norm.',
    'mlm_score.decoder.': 'mlm_head.decoder.',
    'mlm_score.bias': 'mlm_head.decoder.bias',
    'itm_score.fc.': 'itm_head.fc.',
    'vqa_classifier.0.': 'vqa_head.fc1.',
    'vqa_classifier.1.': 'vqa_head.norm.',
    'vqa_classifier.3.': 'vqa_head.fc2.',
}


def from_original(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """The original code's state dict under kovilt's names and shapes. `source` names the file in errors.

    Raises:
        KoviltError: a name is unknown.
    """
    out = {}
    for key, tensor in state.items():
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            raise KoviltError(f'{source}: {key} is no parameter of a ViLT; is this the file of another model?')
        name = _PREFIXES[prefix] + key.removeprefix(prefix)
        out[name] = to_kovilt_shape(name, tensor)
    return out

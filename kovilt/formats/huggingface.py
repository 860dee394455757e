"""Names and shapes of a ViLT's parameters in HuggingFace's files, in those of the original code, and here.

Besides the names three things differ: kovilt's patch embedding is a linear layer over flattened patches, elsewhere it
is a convolution; HuggingFace has three matrices for queries, keys and values, kovilt one; two parameters have a leading
axis of 1 elsewhere. HuggingFace has no class with a matching (ITM) head; its tensors get names of kovilt's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.formats.layouts import HUGGINGFACE_VIT, Layout, NameTable, join_names, split_block_number

# kovilt's names -> timm's, of the parameters that a ViT has, too.
TIMM_NAMES = {
    'encoder.image.cls_token': 'cls_token',
    'encoder.image.pos_embed': 'pos_embed',
    'encoder.image.proj': 'patch_embed.proj',
    **{f'encoder.{name}': name for name in HUGGINGFACE_VIT if name.startswith('blocks.')},
    'encoder.norm': 'norm',
}
_EMBEDDINGS = {
    'encoder.text.word_embed': 'text_embeddings.word_embeddings',
    'encoder.text.pos_embed': 'text_embeddings.position_embeddings',
    'encoder.text.segment_embed': 'text_embeddings.token_type_embeddings',
    'encoder.text.norm': 'text_embeddings.LayerNorm',
    'encoder.modality_embed': 'token_type_embeddings',
}
_HEADS: NameTable = {
    'encoder.pooler': ('pooler.dense',),
    'mlm_head.fc': ('mlm_score.transform.dense',),
    'mlm_head.norm': ('mlm_score.transform.LayerNorm',),
    'mlm_head.decoder': ('mlm_score.decoder',),
}
_POSITION_IDS = 'position numbers, no weight'
HUGGINGFACE_VILT = Layout(
    'HuggingFace ViLT',
    known_by=r'(vilt\.)?embeddings\.text_embeddings\.',
    names={
        **join_names(TIMM_NAMES, HUGGINGFACE_VIT),
        **{name: (f'embeddings.{theirs}',) for name, theirs in _EMBEDDINGS.items()},
        **_HEADS,
        'itm_head.fc': ('kovilt.itm_score.fc',),
        'choice_head.fc': ('rank_output',),
        'vqa_head.fc1': ('classifier.0',),
        'vqa_head.norm': ('classifier.1',),
        'vqa_head.fc2': ('classifier.3',),
    },
    prefix='vilt.',
    dropped={
        r'(vilt\.)?embeddings\.text_embeddings\.position_ids': _POSITION_IDS,
        r'rank_output\.': 'retrieval head',
    },
)
ORIGINAL_VILT = Layout(  # github.com/dandelin/ViLT, whose blocks are timm's
    'original ViLT',
    known_by=r'transformer\.(patch_embed|blocks)\.',
    names={
        **{name: (f'transformer.{timm}',) for name, timm in TIMM_NAMES.items()},
        **{name: (theirs,) for name, theirs in _EMBEDDINGS.items()},
        **_HEADS,
        'mlm_head.decoder.bias': ('mlm_score.bias',),
        'itm_head.fc': ('itm_score.fc',),
        'vqa_head.fc1': ('vqa_classifier.0',),
        'vqa_head.norm': ('vqa_classifier.1',),
        'vqa_head.fc2': ('vqa_classifier.3',),
    },
    dropped={
        r'text_embeddings\.position_ids': _POSITION_IDS,
        r'rank_output\.': 'retrieval head',
        r'nlvr2_classifier\.': 'head for two images (NLVR2)',
        r'mp(p|pd|fr)_score\.': 'masked-patch head',
    },
)


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A kovilt model's state dict under HuggingFace's names and shapes. Tensors are copied only if their shape changes.

    Raises:
        KoviltError: HuggingFace's ViLT has no such parameter.
    """
    names, out = HUGGINGFACE_VILT.names, {}
    for key, tensor in state.items():
        template, number = split_block_number(key)
        module, _, suffix = template.rpartition('.')
        prefix = HUGGINGFACE_VILT.prefix if key.startswith('encoder.') else ''
        if template in names:  # image CLS and positions
            out[f'{prefix}{names[template][0]}'] = tensor[None]
            continue
        if module not in names:
            raise KoviltError(f'{key}: a parameter that no ViLT layout has a name for; save this model as a checkpoint')
        if key == 'encoder.image.proj.weight':  # (D, 3*p*p) -> (D, 3, p, p)
            side = round((tensor.shape[1] / 3) ** 0.5)
            tensor = tensor.unflatten(1, (3, side, side))
        for name, part in zip(names[module], tensor.chunk(len(names[module])), strict=True):
            out[f'{prefix}{name.format(number)}.{suffix}'] = part.contiguous()
    return out


def from_huggingface(
    state: Mapping[str, Tensor], *, source: str, layout: Layout = HUGGINGFACE_VILT
) -> dict[str, Tensor]:
    """The inverse of `to_huggingface`, also for other layouts. `source` names the file in errors.

    Raises:
        KoviltError: a name is unknown, or one of query, key and value is missing or of another size.
    """
    renamed = layout.rename(state, source=source, model='ViLT')
    for name in renamed.keys() & {'encoder.image.cls_token', 'encoder.image.pos_embed'}:
        renamed[name] = renamed[name].squeeze(0)
    if 'encoder.image.proj.weight' in renamed:  # (D, 3, p, p) -> (D, 3*p*p)
        renamed['encoder.image.proj.weight'] = renamed['encoder.image.proj.weight'].flatten(1)
    return renamed

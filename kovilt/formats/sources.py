"""Other people's weights, read without running anything: which layout a file has, and its numbers by kovilt's names.

| layout | known by |
|---|---|
| HuggingFace ViLT | `vilt.embeddings.text_embeddings.*`, in a bare `ViltModel` without `vilt.` |
| original ViLT | `transformer.patch_embed.*` (github.com/dandelin/ViLT, Lightning files) |
| HuggingFace ViT | `vit.embeddings.patch_embeddings.*`, in a bare `ViTModel` without `vit.` |
| timm ViT | `patch_embed.*` |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.files import file_sha256, read_json
from kovilt.formats.huggingface import from_huggingface
from kovilt.formats.original_vilt import from_original

WORDS = 'encoder.text.word_embed.weight'
WORD_TABLES = (WORDS, 'mlm_head.decoder.weight', 'mlm_head.decoder.bias')  # one row a token
IMAGE_POSITIONS, TEXT_POSITIONS = 'encoder.image.pos_embed', 'encoder.text.pos_embed.weight'
_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
_TRAINERS = ('pytorch_lightning.', 'lightning.', 'lightning_fabric.', 'sacred.', 'argparse.')
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')  # of DistributedDataParallel, torch.compile
_MOST = 65504.0  # of float16; trained weights are far below, one flipped bit may be far above
_COUNTS = ('position_ids', 'relative_position_index')  # whole numbers that are no weights
_MOST_PADDING = 127  # rows: tables are padded to multiples of up to 128
_HEAD_SIZE = 64  # of every public ViT and ViLT

_VILT, _ORIGINAL, _VIT, _TIMM, _BERT, _KOVILT = (
    'HuggingFace ViLT',
    'original ViLT',
    'HuggingFace ViT',
    'timm ViT',
    'HuggingFace BERT',
    'kovilt',
)
_LAYOUTS = {
    _VILT: r'(vilt\.)?embeddings\.text_embeddings\.',
    _ORIGINAL: r'transformer\.(patch_embed|blocks)\.',
    _VIT: r'(vit\.)?embeddings\.patch_embeddings\.',
    _TIMM: r'(patch_embed|blocks)\.',
    _BERT: r'(bert\.)?embeddings\.word_embeddings\.',
    _KOVILT: r'encoder\.(image|blocks)\.',
}
# Parameters for which kovilt has no use, by layout.
_DROPPED = {
    _VILT: {
        r'(vilt\.)?embeddings\.text_embeddings\.position_ids': 'counts positions, no weight',
        r'rank_output\.': 'retrieval head',
    },
    _ORIGINAL: {
        r'text_embeddings\.position_ids': 'counts positions, no weight',
        r'rank_output\.': 'retrieval head',
        r'nlvr2_classifier\.': 'head for two images (NLVR2)',
        r'mp(p|pd|fr)_score\.': 'masked-patch head',
    },
    _VIT: {
        r'classifier\.': 'ImageNet head',
        r'(vit\.)?pooler\.': 'pooler of the image CLS',
        r'(vit\.)?embeddings\.mask_token': 'masked-patch token',
    },
    _TIMM: {r'head\.': 'ImageNet head', r'pre_logits\.': 'pooler of the image CLS'},
}
# Other names that HuggingFace's classes have had, or that have no place in them.
_RENAMED = {
    'mlm_score.bias': 'mlm_score.decoder.bias',
    'itm_score.fc.weight': 'kovilt.itm_score.fc.weight',
    'itm_score.fc.bias': 'kovilt.itm_score.fc.bias',
}
# The same number in HuggingFace's config.json and in the original code's settings, by the name of ViLT's argument.
_IN_CONFIG = dict(
    hidden_size='hidden_size',
    num_layers='num_hidden_layers',
    num_heads='num_attention_heads',
    mlp_size='intermediate_size',
    patch_size='patch_size',
    image_size='image_size',
    vocab_size='vocab_size',
    max_text_len='max_position_embeddings',
    activation='hidden_act',
    drop_rate='hidden_dropout_prob',
    norm_eps='layer_norm_eps',
    init_std='initializer_range',
)
_IN_SETTINGS = dict(
    hidden_size='hidden_size',
    num_layers='num_layers',
    num_heads='num_heads',
    vocab_size='vocab_size',
    max_text_len='max_text_len',
    drop_rate='drop_rate',
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, and the tables that hold a row for each of them.

    pieces: id of each token; empty where nobody says. tables: by kovilt's names, (V, D) or (V,).
    """

    pieces: Mapping[str, int]
    tables: Mapping[str, Tensor]


@dataclass(frozen=True)
class PublicWeights:
    """Foreign weights, float32, under kovilt's names, and what is known of them."""

    name: str
    layout: str
    state: dict[str, Tensor]
    encoder: dict[str, Any]  # arguments of `ViLT`; those of words only where there are words
    pieces: dict[str, int]  # of its own tokenizer; empty where there is none
    short: int | None  # pixels of the shorter side of its images, where its files say so
    labels: dict[str, str] | None  # answers by class, where its files say them
    sha256: str
    dropped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.pieces, {key: self.state[key] for key in WORD_TABLES if key in self.state})


@dataclass(frozen=True)
class Files:
    """What a file or folder holds, as it stands there."""

    path: Path
    state: dict[str, Tensor]
    config: dict[str, Any]  # config.json; empty where there is none
    sizes: dict[str, Any]  # what its settings say, by ViLT's names
    labels: dict[str, str] | None
    processor: dict[str, Any]
    tokenizer: Path | None
    sha256: str
    notes: tuple[str, ...]


def read_source(path: str | Path, *, tokenizer: str | None = None, num_heads: int | None = None) -> PublicWeights:
    """Reads a ViLT or a ViT in one of the layouts above.

    Args:
        path: a file of weights (safetensors, or a pickle of plain values), or a folder of HuggingFace with one.
        tokenizer: that of its training, what `load_tokenizer` takes; None = the one in the folder.
        num_heads: heads of attention; None = what its settings say, else one for each 64 of the hidden size.

    Raises:
        KoviltError: not readable, another model, damaged numbers, or sizes that contradict one another.
    """
    files = read_files(Path(path).expanduser())
    name = str(path)
    layout = _layout(files.state, name)
    if layout == _BERT:
        raise KoviltError(f'{name}: a BERT has no part for images; give it by --bert, beside a ViLT or ViT')
    if layout == _KOVILT:
        raise KoviltError(f'{name}: weights of kovilt; tools/weights/export.py makes a model folder of a checkpoint')
    state, dropped = _split_off(files.state, layout)
    state = _convert(state, layout, name)
    modality = state.get('encoder.modality_embed.weight')
    if modality is not None and modality.ndim == 2 and len(modality) > 2:
        state['encoder.modality_embed.weight'] = modality[:2]
        dropped['modality rows from 2 on'] = 'further images'
    if 'mlm_head.fc.weight' in state and 'mlm_head.decoder.weight' not in state and WORDS in state:
        state['mlm_head.decoder.weight'] = state[WORDS]  # HuggingFace ties them and saves one
    encoder = _encoder(state, files.sizes, num_heads, name)
    for key in ('image_mean', 'image_std'):
        if any(value != 0.5 for value in files.processor.get(key) or ()):
            raise KoviltError(
                f'{name}: its {key} is {files.processor[key]}, but kovilt scales images to -1..1 (0.5); take another'
            )
    own, notes, size = tokenizer or files.tokenizer, files.notes, files.processor.get('size')
    if WORDS in state and own is None:
        notes += ('its tokenizer is not known, so no word is kept; --source-tokenizer names it',)
    return PublicWeights(
        name=files.path.name,
        layout=layout,
        state=state,
        encoder=encoder,
        pieces=_pieces(own, encoder['vocab_size']) if own and WORDS in state else {},
        short=size.get('shortest_edge') if isinstance(size, dict) else size,  # older files: a number
        labels=files.labels,
        sha256=files.sha256,
        dropped=dropped,
        notes=notes,
    )


def read_bert(path: str | Path) -> Vocabulary:
    """The word embeddings of a HuggingFace BERT, and the decoder of its masked words (tied to them, as BERT's is).

    Raises:
        KoviltError: no BERT, no tokenizer beside it, damaged numbers.
    """
    files = read_files(Path(path).expanduser())
    if _layout(files.state, str(path)) != _BERT:
        raise KoviltError(f'{path}: no BERT, but a {_layout(files.state, str(path))}; give it as the source')
    if files.tokenizer is None:
        raise KoviltError(f'{path}: no tokenizer in it (tokenizer.json or vocab.txt); give the folder of a BERT')
    state = {key.removeprefix('bert.'): tensor for key, tensor in files.state.items()}
    words = state.get('embeddings.word_embeddings.weight')
    if words is None or words.ndim != 2:
        raise KoviltError(f'{path}: it has no table of word embeddings; is the file whole?')
    tables = {WORDS: words, 'mlm_head.decoder.weight': state.get('cls.predictions.decoder.weight', words)}
    bias = state.get('cls.predictions.bias', state.get('cls.predictions.decoder.bias'))
    if bias is not None:
        tables['mlm_head.decoder.bias'] = bias
    for key, table in tables.items():
        expected = words.shape[: table.ndim]
        if table.shape != expected:
            raise KoviltError(f'{path}: the table for {key} is {tuple(table.shape)} instead of {tuple(expected)}')
    return Vocabulary(_pieces(files.tokenizer, len(words)), tables)


def read_files(path: Path) -> Files:
    """A file of weights, or a folder of HuggingFace with one, as it stands; no code that it may hold is run.

    Raises:
        KoviltError: not readable, or damaged numbers.
    """
    from kovilt.formats.checkpoint import load_checkpoint_file

    file, config, processor, tokenizer = path, {}, {}, None
    if path.is_dir():
        if (path / 'kovilt.json').is_file():
            raise KoviltError(f'{path}: a model folder of kovilt already; train and predict with it as it is')
        file = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
        if file is None:
            raise KoviltError(f'{path}: it holds neither {" nor ".join(_WEIGHTS)}; name the file of weights')
        config, processor = (
            read_json(path / name) if (path / name).is_file() else {}
            for name in ('config.json', 'preprocessor_config.json')
        )
        tokenizer = path if any((path / name).is_file() for name in ('tokenizer.json', 'vocab.txt')) else None
    content = load_checkpoint_file(file, blanked=_TRAINERS)
    state, notes = _plain_floats(content['state_dict'], file)
    return Files(
        path=path,
        state=state,
        config=config,
        sizes=_sizes(config, _IN_CONFIG) | _sizes(_settings(content), _IN_SETTINGS),
        labels=config.get('id2label'),
        processor=processor,
        tokenizer=tokenizer,
        sha256=file_sha256(file),
        notes=notes,
    )


def _settings(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a Lightning file says of its model; the original code keeps it under 'config'."""
    settings = content.get('hyper_parameters')
    settings = settings.get('config', settings) if isinstance(settings, Mapping) else {}
    return settings if isinstance(settings, Mapping) else {}


def _sizes(said: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    sizes = {our: said[their] for our, their in names.items() if said.get(their) is not None}
    if isinstance(sizes.get('image_size'), list) and len(set(sizes['image_size'])) == 1:
        sizes['image_size'] = sizes['image_size'][0]
    return sizes


def _plain_floats(state: Mapping[str, Any], file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors as float32 without what DistributedDataParallel and torch.compile put before names, and notes."""
    out, types = {}, set()
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise KoviltError(f'{file}: {key} is a {type(tensor).__name__}, not a tensor; save the state_dict alone')
        name = _WRAPPERS.sub('', key)
        if name in out:
            raise KoviltError(f"{file}: two tensors are called {name}; which one is the model's?")
        if not tensor.is_floating_point() and not name.endswith(_COUNTS):
            raise KoviltError(f'{file}: {key} holds {_type(tensor)}; quantised weights are not read')
        out[name] = tensor.float()
        if out[name].numel() and not out[name].abs().max() <= _MOST:
            raise KoviltError(f'{file}: {key} holds NaN, infinity or numbers beyond {_MOST:,.0f}; get the file again')
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            types.add(_type(tensor))
    return out, tuple(f'numbers of {name}, read as float32' for name in sorted(types))


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix('torch.')


def _layout(state: Mapping[str, Tensor], source: str) -> str:
    for layout, pattern in _LAYOUTS.items():
        if any(re.match(pattern, key) for key in state):
            return layout
    raise KoviltError(f'{source}: neither a ViLT, a ViT nor a BERT; it holds {", ".join(list(state)[:3]) or "nothing"}')


def _split_off(state: Mapping[str, Tensor], layout: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What is kept, and why each of the others is not."""
    patterns = dict(_DROPPED[layout])
    first = state.get('classifier.0.weight')
    if first is not None and first.ndim == 2 and first.shape[0] == first.shape[1]:  # an answer head is 2D x D
        patterns[r'classifier\.'] = 'head for several images (NLVR2)'
    dropped = {}
    for key in state:
        reason = next((reason for pattern, reason in patterns.items() if re.match(pattern, key)), None)
        if reason:
            dropped[key] = reason
    return {key: tensor for key, tensor in state.items() if key not in dropped}, dropped


def _convert(state: dict[str, Tensor], layout: str, source: str) -> dict[str, Tensor]:
    if layout == _ORIGINAL:
        return from_original(state, source=source)
    if layout == _TIMM:
        return from_original({f'transformer.{key}': tensor for key, tensor in state.items()}, source=source)
    prefix = 'vit.' if layout == _VIT else 'vilt.'
    bare = not any(key.startswith(prefix) for key in state)
    renamed = {}
    for key, tensor in state.items():
        name = f'vilt.{key}' if bare else re.sub(r'^vit\.', 'vilt.', key)
        renamed[_RENAMED.get(name, name)] = tensor
    biases = [state[key] for key in ('mlm_score.bias', 'mlm_score.decoder.bias') if key in state]
    if len(biases) == 2 and not torch.equal(*biases):
        raise KoviltError(f'{source}: mlm_score.bias and mlm_score.decoder.bias differ; they are one parameter')
    return from_huggingface(renamed, source=source)


def _encoder(
    state: Mapping[str, Tensor], said: Mapping[str, Any], num_heads: int | None, source: str
) -> dict[str, Any]:
    """The arguments of a `ViLT` of these weights: sizes from the tensors, compared with what its settings say."""

    def shape(key: str) -> tuple[int, int]:
        if key not in state or state[key].ndim != 2:
            found = tuple(state[key].shape) if key in state else 'missing'
            raise KoviltError(f'{source}: {key} is {found}, so the size of the model is unknown; is the file whole?')
        return tuple(state[key].shape)

    (hidden_size, numbers), (positions, _) = shape('encoder.image.proj.weight'), shape(IMAGE_POSITIONS)
    patch_size, grid = math.isqrt(numbers // 3), math.isqrt(positions - 1)
    if 3 * patch_size**2 != numbers or grid**2 != positions - 1:
        raise KoviltError(
            f'{source}: patches of {numbers} numbers and {positions} positions; kovilt has square RGB patches, '
            'positions of a square grid, and one CLS'
        )
    blocks = {int(number[1]) for key in state if (number := re.match(r'encoder\.blocks\.(\d+)\.', key))}
    found = dict(
        hidden_size=hidden_size,
        num_layers=max(blocks, default=0) + 1,
        mlp_size=shape(f'encoder.blocks.{min(blocks, default=0)}.mlp.fc1.weight')[0],
        patch_size=patch_size,
        image_size=grid * patch_size,
    )
    if WORDS in state:
        found |= dict(vocab_size=shape(WORDS)[0], max_text_len=shape(TEXT_POSITIONS)[0])
    for key, value in found.items():
        stated = said.get(key, value)
        if key == 'num_layers' and isinstance(stated, int):
            found[key] = value = max(value, stated)  # blocks that are missing are counted as missing
        if stated != value:
            raise KoviltError(f'{source}: its settings say {key} {stated}, its tensors {value}; is the file whole?')
    heads = num_heads or said.get('num_heads') or hidden_size // _HEAD_SIZE
    if not heads or hidden_size % heads:
        raise KoviltError(f'{source}: {heads} heads do not divide hidden_size {hidden_size}; give --num-heads')
    optional = {key: said[key] for key in ('activation', 'norm_eps', 'drop_rate', 'init_std') if key in said}
    mlp_ratio = found.pop('mlp_size') / hidden_size
    return dict(type='ViLT', num_heads=heads, mlp_ratio=mlp_ratio, **found, **optional)


def _pieces(tokenizer: str | Path, rows: int) -> dict[str, int]:
    """The id of each token, after comparing their number with the rows of the word table."""
    from kovilt.datasets.transforms.text import load_tokenizer

    tokens = load_tokenizer(tokenizer, korean=False)
    if not 0 <= rows - len(tokens) <= _MOST_PADDING:
        raise KoviltError(
            f'tokenizer {tokenizer}: {len(tokens):,} tokens, but the word table of the weights has {rows:,} rows; name '
            'the tokenizer that they were trained with'
        )
    return tokens.get_vocab()

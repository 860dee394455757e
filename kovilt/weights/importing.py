"""Foreign weights as a model folder of kovilt: fitted to images, texts and a vocabulary of the user's choice.

What goes where, and what happens to tensors that are missing, left over or of another size: docs/weights.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kovilt.datasets.korean import normalize_korean
from kovilt.errors import KoviltError, config_errors
from kovilt.formats.report import ImportReport
from kovilt.formats.sources import (
    IMAGE_POSITIONS,
    WORD_TABLES,
    WORDS,
    PublicWeights,
    Vocabulary,
    read_bert,
    read_source,
)
from kovilt.formats.vocabulary import exchange_table
from kovilt.modules.embeddings import PatchEmbedder
from kovilt.registry import MODELS
from kovilt.weights.folder import answers_by_class, save_model_folder

_MAX_TEXT_LEN = 40  # ViLT 4.1
_LONG_OVER_SHORT = 1333 / 800  # of an image's sides; ViLT's rule
_NAMES_SHOWN = 16


def import_weights(
    source: str | Path,
    out: str | Path,
    *,
    tokenizer: str | None = None,
    source_tokenizer: str | None = None,
    bert: str | Path | None = None,
    answers: str | Path | None = None,
    image_size: int | None = None,
    max_text_len: int | None = None,
    num_heads: int | None = None,
    force: bool = False,
    overwrite: bool = False,
) -> ImportReport:
    """Writes foreign weights as the model folder `out`.

    An answer head becomes a `ViLTForVQA`; everything else a `ViLTForPreTraining`, whose heads are new where the source
    has none.

    Args:
        source: what `read_source` takes.
        out: folder to make.
        tokenizer: the Korean one, what `load_tokenizer` takes; None = the BERT's, else the source's own. The words that
            the source does not know come from the BERT or are drawn.
        source_tokenizer: the one that the source was trained with, when it does not lie in its folder.
        bert: folder of a BERT that gives word embeddings and decoder rows.
        answers: JSON file of the answers in the order of the answer head; None = those that the source says.
        image_size: pixels of the square image whose grid the position table is made for; None = the source's.
        max_text_len: longest text in tokens; None = the source's, 40 where it has none.
        num_heads: heads of attention, where the source does not say them.
        force: also when less than 95 % of the encoder come from the source.
        overwrite: replace an older model folder.

    Raises:
        KoviltError: what `read_source`, `read_bert`, `load_tokenizer` and `save_model_folder` refuse; tensors of other
            sizes; answers that do not fit; too little of an encoder.
    """
    from kovilt.datasets.transforms.text import load_tokenizer, tokenizer_sizes
    from kovilt.formats.checkpoint import MIN_ENCODER_COVERAGE

    found = read_source(source, tokenizer=source_tokenizer, num_heads=num_heads)
    words = None if bert is None else read_bert(bert)
    width = found.encoder['hidden_size']
    if words and words.tables[WORDS].shape[1] != width:
        raise KoviltError(f'{bert}: words of {words.tables[WORDS].shape[1]} numbers, but {source} has {width}')
    chosen = tokenizer or bert or source_tokenizer or (source if found.pieces else None)
    if chosen is None:
        raise KoviltError(f'{source}: it carries no tokenizer; name the Korean one by --tokenizer')
    tokens = load_tokenizer(chosen)
    named = _answers(found, answers, str(source))
    encoder = dict(
        found.encoder,
        image_size=image_size or found.encoder['image_size'],
        max_text_len=max_text_len or found.encoder.get('max_text_len', _MAX_TEXT_LEN),
        vocab_size=len(tokens),
    )
    model_cfg = _model_config(encoder, named, tokenizer_sizes(tokens))
    _check_sizes(found, model_cfg, str(source))
    model = _build(model_cfg, str(source))
    fates = _fit(model, found, tokens.get_vocab(), words)
    report = _report(found, fates)
    if report.encoder_coverage < MIN_ENCODER_COVERAGE and not force:
        missing = _names(fate.key for fate in fates if fate.word == 'new' and fate.key.startswith('encoder.'))
        raise KoviltError(
            f'{source}: gives {report.encoder_coverage:.1%} of the encoder, less than {MIN_ENCODER_COVERAGE:.0%}; '
            f'missing: {missing}; --force imports it all the same'
        )
    if named is not None:
        model.answers = named
    short = image_size or found.short or encoder['image_size']
    save_model_folder(
        model,
        tokens,
        out,
        model_cfg=model_cfg,
        image_pipeline=_image_pipeline(short, encoder['patch_size']),
        max_text_len=encoder['max_text_len'],
        training=report.rows,
        overwrite=overwrite,
    )
    return report


def _answers(source: PublicWeights, file: str | Path | None, name: str) -> list[str] | None:
    """The answers in the order of the answer head; None where there is no such head."""
    head = source.state.get('vqa_head.fc2.weight')
    if head is None:
        if file is not None:
            raise KoviltError(f'{name}: it has no answer head; leave out --answers')
        return None
    labels, origin = (source.labels, f'{name}: id2label') if file is None else (_read_labels(Path(file)), str(file))
    if not labels or all(label == f'LABEL_{number}' for number, label in labels.items()):
        raise KoviltError(f'{name}: it does not say its {len(head):,} answers; give them by --answers')
    answers = [normalize_korean(answer) for answer in answers_by_class(labels, len(head), source=origin)]
    twice = next((answer for i, answer in enumerate(answers) if answer in answers[:i]), None)
    if twice is not None:
        raise KoviltError(f'{origin}: {twice!r} stands for two classes; every answer has one')
    return answers


def _read_labels(file: Path) -> dict[str, str]:
    """Answers by class from JSON: a list, {class: answer}, {answer: class}, or what `AnswerVocabulary` saves."""
    try:
        content = json.loads(file.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError) as error:
        raise KoviltError(f'{file}: cannot be read as JSON ({error})') from error
    if isinstance(content, dict) and isinstance(content.get('answers'), list):
        content = content['answers']
    if isinstance(content, list):
        content = dict(enumerate(content))
    elif isinstance(content, dict) and all(isinstance(number, int) for number in content.values()):
        content = {number: answer for answer, number in content.items()}
    if not isinstance(content, dict) or not all(isinstance(answer, str) for answer in content.values()):
        raise KoviltError(f'{file}: neither a list of answers nor an object of classes and answers')
    return {str(number): answer for number, answer in content.items()}


def _model_config(encoder: dict[str, Any], answers: list[str] | None, sizes: Mapping[str, Any]) -> dict[str, Any]:
    if answers is not None:
        head = dict(type='VQAHead', num_answers=len(answers), loss='bce')  # what ViLT's answer heads are trained with
        return dict(type='ViLTForVQA', encoder=encoder, vqa_head=head)
    tokens = {key: sizes[key] for key in ('mask_token_id', 'special_token_ids')}
    return dict(
        type='ViLTForPreTraining',
        encoder=encoder,
        mlm_head=dict(type='MLMHead', **tokens),
        itm_head=dict(type='ITMHead'),
        wpa_head=dict(type='WPAHead'),
    )


def _image_pipeline(short: int, patch_size: int) -> list[dict[str, Any]]:
    return [
        dict(type='LoadImage'),
        dict(type='ResizeViLT', short=short, long=int(_LONG_OVER_SHORT * short), divisor=patch_size),
        dict(type='Patchify', patch_size=patch_size),
    ]


def _build(model_cfg: Mapping[str, Any], source: str) -> nn.Module:
    """The model with new weights, the same on every call."""
    with torch.random.fork_rng(devices=[]), config_errors(source):
        torch.manual_seed(0)
        return MODELS.build(dict(model_cfg))


def _check_sizes(source: PublicWeights, model_cfg: Mapping[str, Any], name: str) -> None:
    """KoviltError for tensors that a model of the source's own sizes has no place for, or misses in a head."""
    from kovilt.formats.checkpoint import differences

    with torch.device('meta'):
        whole = _build(dict(model_cfg, encoder=model_cfg['encoder'] | source.encoder), name)
    expected = dict(whole.named_parameters())
    parts = {key.split('.')[0] for key in source.state} - {'encoder'}
    needed = {key: expected[key] for key in expected if key in source.state or key.split('.')[0] in parts}
    found = differences(needed, source.state)
    if found:
        more = f' and {len(found) - 3} more' if len(found) > 3 else ''
        raise KoviltError(f'{name}: not a whole {source.layout}: {"; ".join(found[:3])}{more}')


@dataclass(frozen=True)
class _Fate:
    """What became of a parameter: 'kept', 'resized', 're-made' or 'new'; what the source gave of it; how."""

    key: str
    numbers: int
    word: str
    taken: int = 0
    how: str = ''


@torch.no_grad()
def _fit(model: nn.Module, source: PublicWeights, pieces: Mapping[str, int], bert: Vocabulary | None) -> list[_Fate]:
    """Fills `model` from the source and the BERT; what neither gives keeps its new weights."""
    generator = torch.Generator().manual_seed(0)
    fates = []
    for key, parameter in model.named_parameters():
        theirs, numbers, taken, how = source.state.get(key), parameter.numel(), parameter.numel(), ''
        word, table = 'kept', theirs
        if key in WORD_TABLES and any(given and key in given.tables for given in (source.vocabulary, bert)):
            table, word, taken, how = _words(key, pieces, source.vocabulary, bert, generator)
        elif theirs is None:
            word, table, taken = 'new', parameter, 0
        elif theirs.shape != parameter.shape:
            word = 'resized'
            if key == IMAGE_POSITIONS:
                table = _resized(theirs, parameter)
            else:
                table, taken = _lengthened(theirs, parameter, generator)
            how = f'{key}: {len(theirs)} to {len(table)} positions'
        parameter.copy_(table)
        fates.append(_Fate(key, numbers, word, taken, how))
    return fates


def _words(
    key: str, pieces: Mapping[str, int], own: Vocabulary, bert: Vocabulary | None, generator: torch.Generator
) -> tuple[Tensor, str, int, str]:
    """The table `key` for the tokens `pieces`, its fate in a word, how many numbers are the source's, and how."""
    donors = [given for given in (own, bert) if given and key in given.tables]
    table, given = exchange_table(key, pieces, donors, generator)
    kept = given[0] if key in own.tables else 0
    drawn = len(table) - sum(given)
    how = f'{key}: {kept:,} of {len(table):,} tokens kept, {sum(given) - kept:,} from the BERT, {drawn:,} drawn'
    word = 're-made' if kept < len(table) else 'kept' if len(own.tables[key]) == kept else 'resized'
    return table, word, kept * table[0].numel(), how


def _resized(table: Tensor, like: Tensor) -> Tensor:
    """Image positions (1 + g*g, D) for another grid, as the encoder itself would interpolate them there."""
    grids = [math.isqrt(len(rows) - 1) for rows in (table, like)]
    embedder = PatchEmbedder(hidden_size=table.shape[1], patch_size=1, image_size=grids[0], drop_rate=0.0)
    embedder.pos_embed.data = table
    return torch.cat([table[:1], embedder.positions(grids[1], grids[1])])


def _lengthened(table: Tensor, like: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
    """The first text positions, further ones drawn as words are, and how many numbers were there before."""
    places = [{str(place): place for place in range(len(rows))} for rows in (table, like)]
    rows, (given,) = exchange_table('', places[1], [Vocabulary(places[0], {'': table})], generator)
    return rows, given * table.shape[1]


def _report(source: PublicWeights, fates: list[_Fate]) -> ImportReport:
    body = [fate for fate in fates if fate.key.startswith('encoder.') and fate.key != WORDS]
    whole = sum(fate.numbers for fate in body)
    share = sum(fate.taken for fate in body) / whole
    by_reason: dict[str, list[str]] = {}
    for name, reason in source.dropped.items():
        by_reason.setdefault(reason, []).append(name)
    said = {word: [fate for fate in fates if fate.word == word] for word in ('kept', 'resized', 're-made', 'new')}
    rows = {
        'imported from': f'{source.name} ({source.layout}, sha256 {source.sha256})',
        'kept': _counts(said['kept']),
        'resized': '; '.join(fate.how for fate in said['resized']),
        're-made': '; '.join(fate.how for fate in said['re-made']),
        'new': said['new'] and f'{_counts(said["new"])}: {_names(fate.key for fate in said["new"])}',
        'dropped': '; '.join(f'{reason} ({len(names)}: {_names(names)})' for reason, names in by_reason.items()),
        'notes': '; '.join(source.notes),
        'body': f'{100 * share:.1f} % of {whole:,} numbers, without the word table',
    }
    return ImportReport(share, {key: value for key, value in rows.items() if value})


def _counts(fates: list[_Fate]) -> str:
    return f'{len(fates):,} tensors, {sum(fate.numbers for fate in fates):,} numbers'


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f' and {len(names) - _NAMES_SHOWN} more' if len(names) > _NAMES_SHOWN else ''
    return ', '.join(names[:_NAMES_SHOWN]) + more

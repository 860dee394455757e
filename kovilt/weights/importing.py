"""Import public weights as a model folder, fitted to an image size, a text length and a tokenizer of the user's choice.

docs/en/weights.md says which tensors go where, and what happens to those that are missing, unknown or of another size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.transforms.text import load_tokenizer, tokenizer_sizes
from kovilt.errors import KoviltError, config_errors
from kovilt.files import read_json, read_text
from kovilt.formats.checkpoint import MIN_ENCODER_COVERAGE, weight_differences
from kovilt.formats.public_weights import TOKEN_TABLES, WORD_EMBEDDINGS, PublicWeights, read_bert, read_public_weights
from kovilt.formats.report import ImportReport, shorten_list
from kovilt.hub import find_hub_model
from kovilt.json_text import parse_json
from kovilt.models.sizes import build_model
from kovilt.ranges import Size, check_arguments
from kovilt.weights.fitting import MAX_NAMES, fill_model, make_report
from kovilt.weights.folder import TrainedModel, save_model_folder
from kovilt.weights.folder_info import INFO, answers_by_class
from kovilt.weights.token_tables import TokenTables, read_token_ids

_MAX_TEXT_LEN = 40  # tokens; ViLT, section 4.1
_LONG_OVER_SHORT = 1333 / 800  # limit of the longer image side, over the shorter one; ViLT's rule


class FittedWeights(NamedTuple):
    """A model made of public weights and what belongs to it, before anything is written.

    image_pipeline: transforms of an image, as configs. report: which tensors were kept, resized, new or dropped.
    """

    model: Any
    tokenizer: Any
    model_cfg: dict[str, Any]
    image_pipeline: list[dict[str, Any]]
    max_text_len: int
    report: ImportReport


@check_arguments
def import_weights(
    source: str | Path,
    out: str | Path,
    *,
    tokenizer: str | None = None,
    source_tokenizer: str | None = None,
    bert: str | Path | None = None,
    answers: str | Path | None = None,
    image_size: Size | None = None,
    max_text_len: Size | None = None,
    num_heads: Size | None = None,
    force: bool = False,
    overwrite: bool = False,
) -> ImportReport:
    """Write public weights as the model folder `out`; arguments and errors are those of `fit_weights`."""
    fitted = fit_weights(
        source,
        tokenizer=tokenizer,
        source_tokenizer=source_tokenizer,
        bert=bert,
        answers=answers,
        image_size=image_size,
        max_text_len=max_text_len,
        num_heads=num_heads,
        force=force,
    )
    save_model_folder(
        fitted.model,
        fitted.tokenizer,
        out,
        model_cfg=fitted.model_cfg,
        image_pipeline=fitted.image_pipeline,
        max_text_len=fitted.max_text_len,
        training=fitted.report.details,
        overwrite=overwrite,
    )
    return fitted.report


def is_public_model(folder: Path) -> bool:
    """Whether a folder holds a HuggingFace ViLT that kovilt has not written."""
    config = folder / 'config.json'
    return not (folder / INFO).exists() and config.is_file() and read_json(config).get('model_type') == 'vilt'


def open_public_model(folder: str | Path) -> TrainedModel:
    """A HuggingFace ViLT that answers questions, used as it is: with its own tokenizer, of whatever language.

    Raises:
        KoviltError: as `fit_weights`.
    """
    fitted = fit_weights(folder, korean=False)
    text_pipeline = [dict(type='TokenizeKorean', tokenizer=str(folder), max_text_len=fitted.max_text_len, korean=False)]
    info = {
        'model': fitted.model_cfg,
        'max_text_len': fitted.max_text_len,
        'answer_counts': None,
        'training': fitted.report.details,
    }
    return TrainedModel(fitted.model.eval(), fitted.image_pipeline, text_pipeline, info, str(folder))


@check_arguments
def fit_weights(
    source: str | Path,
    *,
    tokenizer: str | None = None,
    source_tokenizer: str | None = None,
    bert: str | Path | None = None,
    answers: str | Path | None = None,
    image_size: Size | None = None,
    max_text_len: Size | None = None,
    num_heads: Size | None = None,
    force: bool = False,
    korean: bool = True,
) -> FittedWeights:
    """Make a model of public weights.

    A source with an answer head becomes a `ViLTForVQA`, every other one a `ViLTForPreTraining` whose heads are new if
    the source has none.

    Args:
        source: what `read_public_weights` takes, or the name of a model on HuggingFace's hub.
        tokenizer: the Korean one, what `load_tokenizer` takes; None = the BERT's, else the source's own. Rows of tokens
            that the source does not have come from the BERT or are random.
        source_tokenizer: the one that the source was trained with, if its folder does not hold it.
        bert: folder, or name on the hub, of a BERT that gives word embeddings and decoder rows.
        answers: JSON file of the answers in the order of the answer head; None = those that the source states.
        image_size: side in pixels of the square image whose grid the position embeddings are made for; None = the
            source's.
        max_text_len: longest text in tokens; None = the source's, 40 if it has none.
        num_heads: attention heads, if the source does not state them.
        force: import also when less than 95 % of the encoder come from the source.
        korean: check that the tokenizer can read Korean.

    Raises:
        KoviltError: what `find_hub_model`, `read_public_weights`, `read_bert` and `load_tokenizer` refuse; tensors of
            other sizes; answers that do not fit; too little of an encoder.
    """
    notes: list[str] = []
    name = Path(source).name
    if (of_hub := find_hub_model(source)) is not None:
        source, name = of_hub.folder, str(of_hub)
    if bert is not None and (of_hub := find_hub_model(bert)) is not None:
        bert = of_hub.folder
        notes.append(f'BERT: {of_hub}')
    weights = read_public_weights(source, num_heads=num_heads)
    notes += weights.files.notes
    source_tables = _source_tables(weights, source_tokenizer, notes)
    bert_tables = None if bert is None else _bert_tables(bert, weights, str(source))
    chosen = tokenizer or bert or source_tokenizer or (source if source_tables.token_ids else None)
    if chosen is None:
        raise KoviltError(f'{source}: it carries no tokenizer; name the Korean one by --tokenizer')
    tokens = load_tokenizer(chosen, korean=korean)
    head_answers = _read_answers(weights, answers, str(source))
    encoder = dict(
        weights.encoder,
        image_size=image_size or weights.encoder['image_size'],
        max_text_len=max_text_len or weights.encoder.get('max_text_len', _MAX_TEXT_LEN),
        vocab_size=len(tokens),
    )
    model_cfg = _model_config(encoder, head_answers, tokenizer_sizes(tokens))
    _check_complete(weights, model_cfg, str(source))
    model = _build_seeded(model_cfg, str(source), head_answers)
    results = fill_model(model, weights, tokens.get_vocab(), source_tables, bert_tables)
    report = make_report(weights, results, notes, name)
    if report.encoder_coverage < MIN_ENCODER_COVERAGE and not force:
        missing = [result.name for result in results if result.status == 'new' and result.name.startswith('encoder.')]
        raise KoviltError(
            f'{source}: gives {report.encoder_coverage:.1%} of the encoder, less than {MIN_ENCODER_COVERAGE:.0%}; '
            f'missing: {shorten_list(missing, MAX_NAMES)}; --force imports it all the same'
        )
    size = weights.files.processor.get('size')  # a number in older files
    stated_side = size.get('shortest_edge') if isinstance(size, dict) else size
    short, patch_size = image_size or stated_side or encoder['image_size'], encoder['patch_size']
    image_pipeline = [
        dict(type='LoadImage'),
        dict(type='ResizeViLT', short=short, long=int(_LONG_OVER_SHORT * short), divisor=patch_size),
        dict(type='Patchify', patch_size=patch_size),
    ]
    return FittedWeights(model, tokens, model_cfg, image_pipeline, encoder['max_text_len'], report)


def _source_tables(weights: PublicWeights, tokenizer: str | None, notes: list[str]) -> TokenTables:
    """The source's tables with its tokens; without a known tokenizer they have no tokens, and `notes` says so."""
    tables = {key: weights.state[key] for key in TOKEN_TABLES if key in weights.state}
    path, token_ids = tokenizer or weights.files.tokenizer, {}
    if path is not None and WORD_EMBEDDINGS in tables:
        token_ids = read_token_ids(path, weights.encoder['vocab_size'])
    elif WORD_EMBEDDINGS in tables:
        notes.append('its tokenizer is not known, so no word embedding is kept; --source-tokenizer names it')
    return TokenTables(token_ids, tables)


def _bert_tables(bert: str | Path, weights: PublicWeights, source: str) -> TokenTables:
    tables, tokenizer = read_bert(bert)
    num_rows, width = tables[WORD_EMBEDDINGS].shape
    if width != weights.encoder['hidden_size']:
        raise KoviltError(
            f'{bert}: its word embeddings have {width} dimensions, but {source} has {weights.encoder["hidden_size"]}'
        )
    return TokenTables(read_token_ids(tokenizer, num_rows), tables)


def _read_answers(weights: PublicWeights, file: str | Path | None, source: str) -> list[str] | None:
    """The answers in the order of the answer head; None if there is no such head."""
    head = weights.state.get('vqa_head.fc2.weight')
    if head is None:
        if file is not None:
            raise KoviltError(f'{source}: it has no answer head; leave out --answers')
        return None
    if file is None:
        labels, origin = weights.files.config.get('id2label'), f'{source}: id2label'
    else:
        labels, origin = _read_labels(Path(file)), str(file)
    if not labels or all(label == f'LABEL_{number}' for number, label in labels.items()):
        raise KoviltError(f'{source}: it does not state its {len(head):,} answers; give them by --answers')
    answers = [normalize_korean(answer) for answer in answers_by_class(labels, len(head), source=origin)]
    duplicate = next((answer for i, answer in enumerate(answers) if answer in answers[:i]), None)
    if duplicate is not None:
        raise KoviltError(f'{origin}: {duplicate!r} stands for two classes; every class needs an answer of its own')
    return answers


def _read_labels(file: Path) -> dict[str, str]:
    """Answers by class from JSON: a list, {class: answer}, {answer: class}, or a file that `AnswerVocabulary` saved."""
    content = parse_json(read_text(file, 'JSON'), file)
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
        head = dict(type='VQAHead', num_answers=len(answers), loss='bce')  # the loss that ViLT trains answer heads with
        return dict(type='ViLTForVQA', encoder=encoder, vqa_head=head)
    tokens = {key: sizes[key] for key in ('mask_token_id', 'special_token_ids')}
    return dict(
        type='ViLTForPreTraining',
        encoder=encoder,
        # The objectives of configs/kovilt_pretrain_coco.py.
        mlm_head=dict(type='MLMHead', mask_ratio=0.15, whole_word=True, loss_weight=1.0, **tokens),
        itm_head=dict(type='ITMHead', loss_weight=1.0),
        wpa_head=dict(type='WPAHead', loss_weight=0.5, mismatched='ignore', beta=0.5, iterations=50),
    )


def _build_seeded(model_cfg: Mapping[str, Any], source: str, answers: list[str] | None = None) -> Any:
    """The model with random weights, the same on every call."""
    with torch.random.fork_rng(devices=[]), config_errors(source):
        torch.manual_seed(0)
        return build_model(model_cfg, answers=answers)


def _check_complete(weights: PublicWeights, model_cfg: Mapping[str, Any], source: str) -> None:
    """Compare the source with a model of its own sizes.

    Raises:
        KoviltError: the model has no such tensor, or a tensor is of another size or missing from a head.
    """
    with torch.device('meta'):
        model = _build_seeded(dict(model_cfg, encoder=model_cfg['encoder'] | weights.encoder), source)
    expected = dict(model.named_parameters())
    heads = {key.split('.')[0] for key in weights.state} - {'encoder'}
    needed = {key: expected[key] for key in expected if key in weights.state or key.split('.')[0] in heads}
    if found := weight_differences(needed, weights.state):
        raise KoviltError(f'{source}: not a complete {weights.layout}: {shorten_list(found, separator="; ")}')

"""Fill a new model from public weights: copy, resize or rebuild each parameter, and report what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kovilt.formats.public_weights import IMAGE_POSITIONS, TOKEN_TABLES, WORD_EMBEDDINGS, PublicWeights
from kovilt.formats.report import ImportReport, shorten_list
from kovilt.modules.embeddings import PatchEmbedder
from kovilt.weights.token_tables import TokenTables, build_token_table, random_rows

MAX_NAMES = 16  # of parameters that a report or an error lists

Status = Literal['kept', 'resized', 'rebuilt', 'new']


@dataclass(frozen=True)
class ParameterResult:
    """What became of one parameter.

    size: its number of values. from_source: how many of them the source gave. how: details of a resized or rebuilt one.
    """

    name: str
    size: int
    status: Status
    from_source: int
    how: str = ''


@torch.no_grad()
def fill_model(
    model: nn.Module,
    weights: PublicWeights,
    token_ids: Mapping[str, int],
    source_tables: TokenTables,
    bert_tables: TokenTables | None,
) -> list[ParameterResult]:
    """Copy public weights into `model`; parameters that no source has keep their random weights.

    Args:
        model: in the sizes that are wanted.
        weights: the source. Its tensors have the model's shapes, position embeddings apart.
        token_ids: id of each token of the model's tokenizer.
        source_tables: the source's tables with its tokens.
        bert_tables: tables of a BERT for tokens that the source does not have.
    """
    generator = torch.Generator().manual_seed(0)
    results = []
    for name, parameter in model.named_parameters():
        tables = [given for given in (source_tables, bert_tables) if given and name in given.tables]
        old, value, how = weights.state.get(name), parameter.data, ''
        status: Status = 'new'
        kept = 0  # rows that come from the source
        if name in TOKEN_TABLES and tables:
            value, counts = build_token_table(name, token_ids, tables, generator)
            kept = counts[0] if name in source_tables.tables else 0
            status = 'rebuilt'
            if kept == len(value):
                status = 'kept' if len(source_tables.tables[name]) == kept else 'resized'
            from_bert, random = sum(counts) - kept, len(value) - sum(counts)
            how = f'{name}: {kept:,} of {len(value):,} tokens kept, {from_bert:,} from the BERT, {random:,} random'
        elif old is not None and old.shape == parameter.shape:
            value, status, kept = old, 'kept', len(old)
        elif old is not None:
            status, how = 'resized', f'{name}: {len(old)} to {len(parameter)} positions'
            if name == IMAGE_POSITIONS:
                value, kept = _resize_image_positions(old, parameter), len(parameter)
            else:  # positions of tokens: cut, or with random ones at the end
                value, kept = random_rows(old, len(parameter), generator), min(len(old), len(parameter))
                value[:kept] = old[:kept]
        parameter.copy_(value)
        results.append(ParameterResult(name, parameter.numel(), status, kept * parameter[0].numel(), how))
    return results


def _resize_image_positions(table: Tensor, like: Tensor) -> Tensor:
    """Position embeddings (1 + g*g, D) for another grid, interpolated as the encoder itself does for larger images."""
    old, new = (math.isqrt(len(positions) - 1) for positions in (table, like))
    embedder = PatchEmbedder(hidden_size=table.shape[1], patch_size=1, image_size=old, drop_rate=0.0)
    embedder.pos_embed.data = table
    return torch.cat([table[:1], embedder.positions(new, new)])


def make_report(weights: PublicWeights, results: list[ParameterResult], notes: list[str], source: str) -> ImportReport:
    """The report on an import of the weights that it calls `source`.

    The coverage leaves out word embeddings, which another tokenizer changes by design.
    """
    encoder = [result for result in results if result.name.startswith('encoder.') and result.name != WORD_EMBEDDINGS]
    total = sum(result.size for result in encoder)
    coverage = sum(result.from_source for result in encoder) / total
    dropped: dict[str, list[str]] = {}
    for name, reason in weights.dropped.items():
        dropped.setdefault(reason, []).append(name)
    by_status = {status: [result for result in results if result.status == status] for status in get_args(Status)}
    new = [result.name for result in by_status['new']]
    details = {
        'imported from': f'{source} ({weights.layout}, sha256 {weights.files.sha256})',
        'kept': _count(by_status['kept']),
        'resized': '; '.join(result.how for result in by_status['resized']),
        'rebuilt': '; '.join(result.how for result in by_status['rebuilt']),
        'new': f'{_count(by_status["new"])}: {shorten_list(new, MAX_NAMES)}' if new else '',
        'dropped': '; '.join(
            f'{reason} ({len(names)}: {shorten_list(names, MAX_NAMES)})' for reason, names in dropped.items()
        ),
        'notes': '; '.join(notes),
        'coverage': f'{100 * coverage:.1f} % of {total:,} encoder parameters, word embeddings apart',
    }
    return ImportReport(coverage, {heading: text for heading, text in details.items() if text})


def _count(results: list[ParameterResult]) -> str:
    return f'{len(results):,} tensors, {sum(result.size for result in results):,} parameters'

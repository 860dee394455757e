"""Word embeddings and decoder rows for another tokenizer: a token takes the row of the same text, else a random one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kovilt.errors import KoviltError

_MAX_PADDING_ROWS = 127  # word embeddings are padded to multiples of up to 128


@dataclass(frozen=True)
class TokenTables:
    """Tables that have one row for each token of a tokenizer.

    token_ids: id of each token; empty if the tokenizer is not known.
    tables: by kovilt's parameter names, (V, D) or (V,).
    """

    token_ids: Mapping[str, int]
    tables: Mapping[str, Tensor]


def read_token_ids(tokenizer: str | Path, num_rows: int) -> dict[str, int]:
    """The id of each token of the tokenizer that word embeddings of `num_rows` rows were trained with.

    Raises:
        KoviltError: the tokenizer cannot be loaded, or has another number of tokens.
    """
    from kovilt.datasets.transforms.text import load_tokenizer

    tokens = load_tokenizer(tokenizer, korean=False)
    if not 0 <= num_rows - len(tokens) <= _MAX_PADDING_ROWS:
        raise KoviltError(
            f'tokenizer {tokenizer}: {len(tokens):,} tokens, but the word embeddings have {num_rows:,} rows; name '
            'the tokenizer that they were trained with'
        )
    return tokens.get_vocab()


def build_token_table(
    name: str, token_ids: Mapping[str, int], sources: Sequence[TokenTables], generator: torch.Generator
) -> tuple[Tensor, list[int]]:
    """Build a table for other tokens; also returns how many rows each source gave.

    A row comes from the first source that has the token; each source has the table `name`. Rows of the first source
    are copied bit for bit, since the encoder was trained with them. Rows of further sources are shifted and scaled (by
    one factor, so that angles between words stay) to the mean and standard deviation of the first source. Tokens that
    no source has get `random_rows` of the first.
    """
    first = sources[0].tables[name]
    mean, std = first.mean(dim=0), _centered_std(first)
    table = random_rows(first, len(token_ids), generator)
    counts, left = [], dict(token_ids)
    for number, source in enumerate(sources):
        rows = source.tables[name]
        if number:
            rows = mean + (rows - rows.mean(dim=0)) * (std / _centered_std(rows).clamp(min=1e-12))
        shared = [token for token in left if token in source.token_ids]
        table[[left.pop(token) for token in shared]] = rows[[source.token_ids[token] for token in shared]]
        counts.append(len(shared))
    return table, counts


def random_rows(table: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """Random rows of a normal distribution with the mean and standard deviation of the rows of `table`."""
    return table.mean(dim=0) + _centered_std(table) * torch.randn(num_rows, *table.shape[1:], generator=generator)


def _centered_std(table: Tensor) -> Tensor:
    """Standard deviation of all numbers after the mean row is subtracted."""
    return (table - table.mean(dim=0)).std()

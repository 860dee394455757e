"""Another vocabulary for the same body: word embeddings and decoder rows found by their token's text, else drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kovilt.formats.sources import Vocabulary


def exchange_table(
    name: str, pieces: Mapping[str, int], donors: Sequence[Vocabulary], generator: torch.Generator
) -> tuple[Tensor, list[int]]:
    """A table for the tokens `pieces`, and how many of its rows each donor gave.

    A row is the first donor's that knows the token. The body is used to the first donor's rows: those of the others
    are moved and stretched (by one factor, so that angles between words stay) to their mean and spread, and tokens
    that nobody knows are drawn from a normal distribution with that mean and spread.

    Args:
        name: of the table, by kovilt's names; every donor has it.
        pieces: id of each token.
        donors: in order of preference, at least one.
        generator: for the rows that are drawn.
    """
    first = donors[0].tables[name]
    mean, spread = first.mean(dim=0), _spread(first)
    out = mean + spread * torch.randn(len(pieces), *first.shape[1:], generator=generator)
    counts, left = [], dict(pieces)
    for number, donor in enumerate(donors):
        table = donor.tables[name]
        if number:  # the first donor's rows stay as they are, bit for bit
            table = mean + (table - table.mean(dim=0)) * (spread / _spread(table).clamp(min=1e-12))
        shared = [piece for piece in left if piece in donor.pieces]
        out[[left.pop(piece) for piece in shared]] = table[[donor.pieces[piece] for piece in shared]]
        counts.append(len(shared))
    return out, counts


def _spread(table: Tensor) -> Tensor:
    return (table - table.mean(dim=0)).std()

"""A token takes the row of the same text from the first table that has it, or a random one of the same spread."""

import torch
from torch import Tensor

from kovilt.weights.token_tables import TokenTables, build_token_table


def tables(tokens: str, table: Tensor) -> TokenTables:
    return TokenTables({token: i for i, token in enumerate(tokens.split())}, {'words': table})


def build(tokens: str, *sources: TokenTables) -> tuple[Tensor, list[int]]:
    token_ids = {token: i for i, token in enumerate(tokens.split())}
    return build_token_table('words', token_ids, sources, torch.Generator().manual_seed(0))


def test_rows_of_the_first_table_are_copied_exactly_by_text():
    first = torch.randn(4, 8)
    table, counts = build('라 가 새', tables('가 나 다 라', first))
    assert torch.equal(table[:2], first[[3, 0]]) and counts == [2]


def test_rows_of_further_tables_get_the_mean_and_spread_of_the_first():
    first, second = torch.randn(200, 8) * 0.1 + 3, torch.randn(100, 8) * 5 - 1
    tokens = ' '.join(f'토{i}' for i in range(100))
    table, counts = build(tokens, tables(' '.join(f'글{i}' for i in range(200)), first), tables(tokens, second))
    assert counts == [0, 100]
    torch.testing.assert_close(table.mean(dim=0), first.mean(dim=0))
    torch.testing.assert_close((table - table.mean(dim=0)).std(), (first - first.mean(dim=0)).std())
    centered = [rows - rows.mean(dim=0) for rows in (table, second)]
    torch.testing.assert_close(centered[0] / centered[0].norm(), centered[1] / centered[1].norm())  # one factor for all


def test_a_token_of_several_tables_takes_the_row_of_the_first():
    first, second = torch.randn(2, 8), torch.randn(2, 8)
    table, counts = build('가 나', tables('가 나', first), tables('가 나', second))
    assert torch.equal(table, first) and counts == [2, 0]


def test_other_tokens_get_random_rows_with_the_mean_and_spread_of_the_first():
    first = torch.randn(500, 8) * 0.1 + 3
    tokens = ' '.join(f'새{i}' for i in range(500))
    table, counts = build(tokens, tables(' '.join(f'글{i}' for i in range(500)), first))
    assert counts == [0] and len(table.unique(dim=0)) == 500
    torch.testing.assert_close(table.mean(dim=0), first.mean(dim=0), atol=0.02, rtol=0)
    assert 0.9 < (table - table.mean(dim=0)).std() / (first - first.mean(dim=0)).std() < 1.1
    assert torch.equal(table, build(tokens, tables(' '.join(f'글{i}' for i in range(500)), first))[0])


def test_a_table_of_one_number_per_token_is_built_likewise():
    bias = torch.tensor([1.0, 2.0, 3.0])
    table, _ = build('다 가 새', tables('가 나 다', bias))
    assert table.shape == (3,) and table[:2].tolist() == [3.0, 1.0]

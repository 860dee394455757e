"""The padded model computes what the packed model computes, whatever values are in the padding."""

import pytest
import torch
from tiny_models import ANSWERS, tiny_model

from kovilt.errors import KoviltError
from kovilt.weights.graph import GraphVQA, PaddedVQA

GRIDS = [(4, 4), (4, 6), (6, 4), (1, 6), (3, 5)]


def make_batch():
    """Six texts of all lengths about four images of different grids, two of them with two questions."""
    generator = torch.Generator().manual_seed(0)
    grids = torch.tensor([(3, 5), (1, 6), (6, 4), (4, 4)])
    lengths = torch.tensor([12, 2, 7, 3, 12, 5])
    return dict(
        patches=torch.randint(0, 256, (int(grids.prod(dim=1).sum()), 192), generator=generator, dtype=torch.uint8),
        grids=grids,
        image_index=torch.tensor([1, 0, 3, 2, 2, 1]),
        input_ids=torch.randint(0, 25, (6, 12), generator=generator),
        text_mask=torch.arange(12) < lengths[:, None],
    )


@torch.no_grad()
@pytest.mark.parametrize('encoder', [dict(), dict(activation='relu'), dict(type='PrefixViLT')], ids=str)
def test_scores_are_those_of_the_packed_model(encoder):
    model, batch = tiny_model(**encoder), make_batch()
    graph = GraphVQA(lambda inputs: PaddedVQA(model, GRIDS)(**inputs), GRIDS, ANSWERS)
    expected = model.scores(model.data_preprocessor(batch))
    assert expected.std() > 0.1
    torch.testing.assert_close(graph.scores(batch), expected, atol=1e-5, rtol=1e-5)
    ours, theirs = graph(batch), model(batch, mode='predict')
    assert [row['answer'] for row in ours] == [row['answer'] for row in theirs]
    assert all(len(row['topk']) == len(ANSWERS) and row['topk'][0]['score'] == row['score'] for row in ours)


@torch.no_grad()
def test_padding_does_not_change_the_scores():
    padded = PaddedVQA(tiny_model(), GRIDS)
    inputs = GraphVQA(padded, GRIDS, ANSWERS).pad(make_batch())
    wider = {name: tensor.clone() for name, tensor in inputs.items()}
    wider['input_ids'][~inputs['text_mask']] = 7
    wider['patches'] = torch.cat([inputs['patches'], torch.full((6, 9, 192), 255, dtype=torch.uint8)], dim=1)
    torch.testing.assert_close(padded(**wider), padded(**inputs), atol=1e-6, rtol=1e-6)


def test_every_pair_gets_its_own_image():
    batch = make_batch()
    inputs = GraphVQA(lambda inputs: inputs, GRIDS, ANSWERS).pad(batch)
    assert inputs['patches'].shape == (6, 24, 192)
    assert [GRIDS[i] for i in inputs['grid_index']] == [(1, 6), (3, 5), (4, 4), (6, 4), (6, 4), (1, 6)]
    assert torch.equal(inputs['patches'][0, :6], batch['patches'][15:21])
    assert torch.equal(inputs['patches'][4], batch['patches'][21:45])


def test_other_grids_and_devices_are_refused():
    graph = GraphVQA(lambda inputs: inputs, GRIDS[1:], ANSWERS)
    with pytest.raises(KoviltError, match='an image of 4 x 4 patches: the graph was made for 4 other grids'):
        graph.pad(make_batch())
    assert graph.to('cpu') is graph
    with pytest.raises(RuntimeError, match='computes on the CPU'):
        graph.to('cuda')

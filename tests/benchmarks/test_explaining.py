"""The benchmark finds a planted explainer, and measures random patches and deletion on Rooms."""

import json

import numpy as np
import pytest
import torch
from tiny_models import tiny_checkpoint

from benchmarks import explaining
from kovilt.apis import VQAInferencer


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp('model'))


def test_all_figures_are_printed_and_written(call_benchmark, rooms, model, tmp_path):
    code, out, error = call_benchmark(
        'explaining', model, rooms, '--limit', 12, '--deletion', 3, '--json', tmp_path / 'figures.json'
    )
    assert code == 0, error
    figures = json.loads((tmp_path / 'figures.json').read_text('utf-8'))
    points = {row['point']: row for row in figures['pointing game']}
    assert points['relevance']['questions'] == points['random patch']['questions'] == 12
    assert points['random patch']['times random'] == '1.00'
    assert 0 < float(points['random point of the image']['in the box (%)']) < 100
    assert sum(row['questions'] for row in figures['pointing game by type']) == 12
    areas = {row['deleted first']: row for row in figures['deletion of 3']}
    assert list(areas) == list(explaining.DELETED.values())
    assert areas['random']['less random'] == areas['relevance']['less relevance'] == '0.0'
    assert '| relevance |' in out and '12 questions about ' in out


def test_an_explainer_that_knows_the_boxes_wins_both_games(rooms, model, monkeypatch):
    """Its most relevant patches are those of the named objects; the model answers by their brightness."""
    inferencer = VQAInferencer(model, device='cpu')
    questions = explaining.read_questions(rooms, 8, seed=0)
    explained = list(explaining.explain_questions(inferencer, questions))
    planted = [one._replace(maps=one.maps | {'relevance': one.inside.astype(float)}) for one in explained]
    scores = explaining.score_pointing(planted)
    assert np.array_equal(scores['relevance'], scores['possible']) and scores['relevance'].mean() > 0.4
    assert (scores['swapped'][~np.isnan(scores['swapped'])] <= 1).all()
    for one in planted:
        patches = np.full_like(one.sample['image']['patches'], 90)
        patches[one.inside.ravel()] = 200
        one.sample['image'] = dict(one.sample['image'], patches=patches)
    part = [one for one in planted if one.inside.any()]

    def answer_by_brightness(batch):
        parts = batch['patches'].split(batch['grids'].prod(dim=1).tolist())
        scores = torch.zeros(len(parts), len(inferencer.answers))
        label = torch.tensor([float((patches > 0.4).float().mean()) for patches in parts])
        scores[:, part[0].relevance.label] = 20 * label
        return scores

    monkeypatch.setattr(inferencer.model, 'scores', answer_by_brightness)
    same = [one for one in part if one.relevance.label == part[0].relevance.label]
    areas = explaining.score_deletion(inferencer, same, seed=0)
    assert areas['relevance'].mean() < areas['random'].mean() < areas['relevance, least first'].mean()


def test_the_questions_name_objects_that_are_there(rooms):
    questions = explaining.read_questions(rooms, None, seed=0)
    again = explaining.read_questions(rooms, 5, seed=0)
    assert [one.text for one in again] == [one.text for one in questions[:5]]
    assert len({one.image for one in questions}) == 4
    for one in questions:
        assert all(any(name in word for word in one.text.split()) for name in one.names)
        assert len(one.boxes) >= len(one.names) and ((one.boxes >= 0) & (one.boxes <= 1.01)).all()


def test_a_folder_without_boxes_is_named(call_benchmark, model, tmp_path):
    code, _, error = call_benchmark('explaining', model, tmp_path)
    assert code == 2 and error.startswith(f'error: {tmp_path}/boxes.jsonl: no boxes file')
    code, _, error = call_benchmark('explaining', model, tmp_path, '--seed', -1)
    assert (code, error) == (2, 'error: argument --seed: must be at least 0, not -1\n')

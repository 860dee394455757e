"""kovilt's scores and gradients equal those of transformers in float32, and stay close in every precision and option.

On a CPU the models are tiny; the tests marked gpu compare models of base size on CUDA.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks.against_hf_models import BothBatches, BothModels, ModelSize, kovilt_options, make_both_batches
from benchmarks.timing import autocast
from kovilt.formats.huggingface import from_huggingface

TINY = ModelSize(hidden_size=64, num_layers=2, vocab_size=50, num_answers=9)
LOSS_SCALE = {'float16': 1024.0}  # smaller gradients would vanish

CUDA = pytest.param('cuda', marks=pytest.mark.gpu)


class Result(NamedTuple):
    scores: Tensor  # (B, answers)
    gradients: dict[str, Tensor]  # by the name of kovilt's parameter


class Setup(NamedTuple):
    models: BothModels
    batch: BothBatches
    float32: Result  # kovilt's, without options


@pytest.fixture(scope='module', params=['cpu', CUDA])
def setup(request) -> Setup:
    device = request.param
    size, num_pairs = (TINY, 2) if device == 'cpu' else (ModelSize(), 32)
    models, batch = BothModels(size, device), make_both_batches(num_pairs, size, device, seed=1)
    return Setup(models, batch, kovilt_result(models, batch, 'float32'))


def kovilt_result(models: BothModels, batch: BothBatches, precision: str) -> Result:
    model, scale = models.kovilt, LOSS_SCALE.get(precision, 1.0)
    model.zero_grad(set_to_none=True)
    with autocast(models.device, precision):
        inputs = model.data_preprocessor(batch.kovilt)
        scores = model.scores(inputs)
        loss = model.losses(inputs)['vqa_loss']
    (loss * scale).backward()
    gradients = {name: p.grad.float() / scale for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return Result(scores.detach(), gradients)


def relative_difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """|expected - found| / |expected| over all tensors together."""
    assert expected.keys() == found.keys()
    squares = sum((expected[name].double() - found[name].double()).square().sum().item() for name in expected)
    return (squares / sum(value.double().square().sum().item() for value in expected.values())) ** 0.5


def test_scores_and_gradients_are_those_of_transformers(setup, monkeypatch):
    # transformers embeds patches by a convolution, which may round to tf32
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    theirs = setup.models.transformers
    theirs.zero_grad(set_to_none=True)
    output = theirs(**setup.batch.transformers)
    output.loss.backward()
    gradients = from_huggingface({name: p.grad for name, p in theirs.named_parameters()}, source='gradients')
    theirs.zero_grad(set_to_none=True)
    assert setup.float32.scores.std() > 0.1
    torch.testing.assert_close(setup.float32.scores, output.logits.detach(), atol=1e-4, rtol=0)
    assert relative_difference(setup.float32.gradients, gradients) <= 1e-3


@pytest.mark.parametrize(
    ('precision', 'options', 'score_tolerance', 'gradient_tolerance'),
    [
        pytest.param('float32', {'checkpointed': True}, 1e-6, 1e-5, id='checkpointed'),
        pytest.param('bfloat16', {}, 2e-2, 6e-2, id='bfloat16'),
    ],
)
def test_precisions_and_options_stay_close_to_float32(setup, precision, options, score_tolerance, gradient_tolerance):
    check_closeness(setup, precision, options, score_tolerance, gradient_tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize('setup', [CUDA], indirect=True)
@pytest.mark.parametrize(
    ('precision', 'options', 'score_tolerance', 'gradient_tolerance'),
    [
        pytest.param('float16', {}, 4e-3, 1e-2, id='float16'),  # few CPUs have arithmetic for it
        pytest.param('bfloat16', {'grouped': True}, 2e-2, 6e-2, id='grouped'),
        pytest.param('bfloat16', {'compiled': True}, 2e-2, 6e-2, id='compiled'),
        pytest.param('bfloat16', {'compiled': True, 'checkpointed': True}, 2e-2, 6e-2, id='compiled-checkpointed'),
    ],
)
def test_what_a_gpu_offers_stays_close_to_float32(setup, precision, options, score_tolerance, gradient_tolerance):
    check_closeness(setup, precision, options, score_tolerance, gradient_tolerance)


def check_closeness(
    setup: Setup, precision: str, options: dict[str, bool], score_tolerance: float, gradient_tolerance: float
) -> None:
    """The tolerances are relative to the size of all scores, and of all gradients, together."""
    with kovilt_options(setup.models.kovilt, **options):
        found = kovilt_result(setup.models, setup.batch, precision)
    assert relative_difference({'': setup.float32.scores}, {'': found.scores}) <= score_tolerance
    assert relative_difference(setup.float32.gradients, found.gradients) <= gradient_tolerance

"""Validation of pre-training weighs captions alike, however they were batched."""

import pytest

from kovilt.evaluation import PretrainingMetrics
from kovilt.registry import METRICS


def test_every_caption_weighs_the_same():
    metric = METRICS.build(dict(type='PretrainingMetrics'))
    assert isinstance(metric, PretrainingMetrics)
    metric.process(None, [dict(mlm_accuracy=1.0, mlm_loss=2.0, num_pairs=1)])
    metric.process(None, [dict(mlm_accuracy=0.5, mlm_loss=1.0, num_pairs=3)])
    assert metric.evaluate(4) == dict(mlm_accuracy=62.5, mlm_loss=1.25, captions=4)


def test_nothing_evaluated_is_an_error():
    with pytest.raises(ValueError, match='no caption'):
        PretrainingMetrics().evaluate(0)

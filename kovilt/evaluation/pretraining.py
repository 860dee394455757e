"""Metrics of pre-training on images it was not trained on: losses, accuracies and distances."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from kovilt.evaluation.table import format_table
from kovilt.registry import METRICS


@METRICS.register_module()
class PretrainingMetrics(BaseMetric):
    """Means over the captions of a set: losses, accuracies of masked tokens and matching, distances of both classes.

    Reads the output of `ViLTForPreTraining` for each batch: means over its captions, and `rows`, the number of its
    captions, by which the batch is weighted. Accuracies are returned in percent, losses and distances as they are,
    with `captions`, the number of all captions.

    Args:
        prefix: put before each key with a slash; None = bare keys.
        others: as in MMEngine's BaseMetric.
    """

    default_prefix = ''  # bare keys: of a prefix None MMEngine warns

    @staticmethod
    def metric_names(model: Mapping[str, Any]) -> list[str]:
        """What the evaluation of a config's `model` gives: the values of its heads."""
        values = {
            'mlm_head': ['mlm_loss', 'mlm_accuracy'],
            'itm_head': ['itm_loss', 'itm_accuracy'],
            'wpa_head': ['wpa_loss', 'wpa_matched_distance', 'wpa_mismatched_distance'],
        }
        return [name for head, names in values.items() if model.get(head) for name in names] + ['captions']

    def process(self, data_batch: object, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results.extend(data_samples)

    def evaluate(self, size: int) -> dict[str, float | int]:
        """All batches count: `size` is the number of captions, and must not limit the number of batches."""
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float | int]:
        pairs = sum(batch['num_pairs'] for batch in results)
        if not pairs:
            raise ValueError('no caption was evaluated')
        sums: dict[str, float] = defaultdict(float)
        for batch in results:
            for name, value in batch.items():
                if name != 'num_pairs':
                    sums[name] += value * batch['num_pairs'] * (100 if name.endswith('_accuracy') else 1)
        metrics = {**{name: value / pairs for name, value in sums.items()}, 'captions': pairs}
        _log_table(metrics)
        return metrics


def _log_table(metrics: Mapping[str, float | int]) -> None:
    """Log a row of figures for each objective, accuracies in percent."""
    figures = ('loss', 'accuracy', 'matched_distance', 'mismatched_distance')
    rows = [
        [name.upper(), *(f'{metrics[key]:.4g}' if (key := f'{name}_{figure}') in metrics else '' for figure in figures)]
        for name in ('mlm', 'itm', 'wpa')
        if f'{name}_loss' in metrics
    ]
    if rows:
        header = ['objective', *(figure.replace('_', ' ') for figure in figures)]
        MMLogger.get_current_instance().info(f'{metrics["captions"]:,} captions\n{format_table(header, rows)}')

"""What is watched of pre-training on images it has not seen: losses, accuracies and distances."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from kovilt.registry import METRICS


@METRICS.register_module()
class PretrainingMetrics(BaseMetric):
    """Means over the captions of a set: losses, masked-word and matching accuracy, matched and mismatched distance.

    Reads what `ViLTForPreTraining` says of each batch: the means over its captions under the names of its losses, and
    `rows`, its number of captions. Each batch weighs by its captions. Accuracies are returned in percent, losses
    and distances as they are, with `captions`, the number of captions.

    Args:
        prefix: put before each key with a slash; none by default.
        collect_device, collect_dir: as in MMEngine's BaseMetric.
    """

    def __init__(
        self, *, prefix: str | None = None, collect_device: str = 'cpu', collect_dir: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix or 'pretraining', collect_dir=collect_dir)
        self.prefix = prefix  # BaseMetric warns when it is given none, and bare keys are meant here

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        self.results.extend(data_samples)

    def evaluate(self, size: int) -> dict:
        """All batches count: `size`, the number of captions, is no number of batches to cut off at."""
        return super().evaluate(sys.maxsize)

    def compute_metrics(self, results: list[dict]) -> dict[str, float | int]:
        rows = sum(batch['rows'] for batch in results)
        if not rows:
            raise ValueError('no caption was evaluated')
        sums: dict[str, float] = defaultdict(float)
        for batch in results:
            for name, value in batch.items():
                if name != 'rows':
                    sums[name] += value * batch['rows'] * (100 if name.endswith('_accuracy') else 1)
        return {**{name: value / rows for name, value in sums.items()}, 'captions': rows}

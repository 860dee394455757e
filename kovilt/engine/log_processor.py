"""The line of the console after an evaluation."""

from __future__ import annotations

import re
from typing import Any

from mmengine.runner import LogProcessor, Runner

from kovilt.registry import LOG_PROCESSORS

SUBSET_METRIC = re.compile(r'(?:\w+/)?(?:accuracy|questions)\w*/.*: ')


@LOG_PROCESSORS.register_module()
class BriefLogProcessor(LogProcessor):
    """MMEngine's LogProcessor, but its line after an evaluation holds only the metrics of the whole set.

    The metrics of subsets (`accuracy/색`, `questions_by_length/4-6`) would fill the screen. They are in metrics.jsonl,
    metrics.json and TensorBoard.
    """

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        metrics, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        return metrics, '  '.join(item for item in line.split('  ') if not SUBSET_METRIC.match(item))

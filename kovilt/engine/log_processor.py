"""The line that the console shows after an evaluation."""

from __future__ import annotations

import re

from mmengine.runner import LogProcessor

from kovilt.registry import LOG_PROCESSORS

_PART = re.compile(r'(?:\w+/)?(?:accuracy|questions)\w*/.*: ')


@LOG_PROCESSORS.register_module()
class BriefLogProcessor(LogProcessor):
    """MMEngine's LogProcessor, whose line after an evaluation holds the figures of the whole set only.

    Those of its parts (`accuracy/색`, `questions_by_length/4-6`) would fill the screen. They go where the others go but
    for that line: metrics.jsonl, metrics.json, TensorBoard.
    """

    def get_log_after_epoch(self, runner, batch_idx: int, mode: str, with_non_scalar: bool = False) -> tuple[dict, str]:
        figures, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        return figures, '  '.join(item for item in line.split('  ') if not _PART.match(item))

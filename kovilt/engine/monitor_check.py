"""Finds the hooks and schedules of a config that wait for a metric which no evaluation of the run gives.

MMEngine finds it when the first evaluation is over, after an epoch of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from kovilt import registry as reg
from kovilt.engine.component_check import find_type
from kovilt.errors import KoviltError, nearest


def check_monitors(config: Mapping[str, Any]) -> None:
    """Raise KoviltError for a name of a metric that the evaluators of the validation do not give.

    Evaluators list theirs by `metric_names`; where one does not, as MMEngine's or a plugin's, every name passes.
    """
    given = list(given_metrics(config))
    if None in given:
        return
    names = [name for name in given if name is not None]
    for path, monitor in _monitors(config):
        if monitor == 'auto' and names:
            continue
        if not names:
            raise KoviltError(f'{path} is {monitor!r}, but the run has no validation that could give it; leave it out')
        if not any(fnmatch(monitor, name) for name in names):
            whole = [name for name in names if '_by_' not in name and '*' not in name]  # without groups of questions
            guess = nearest(monitor, names) or f'; it gives {", ".join(whole)}'
            raise KoviltError(f'{path} is {monitor!r}, which the evaluation does not give{guess}')


def given_metrics(config: Mapping[str, Any]) -> Iterator[str | None]:
    """The names of the metrics of a validation, `*` for any text; None where an evaluator does not list its own."""
    evaluators = config.get('val_evaluator') or ()
    if isinstance(evaluators, Mapping):
        evaluators = evaluators.get('metrics', evaluators)
    for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
        list_names = getattr(find_type(evaluator['type'], 'val_evaluator', reg.METRICS), 'metric_names', None)
        if list_names is None:
            yield None
            return
        prefix = evaluator.get('prefix')
        for name in list_names(config.get('model') or {}):
            yield f'{prefix}/{name}' if prefix else name


def _monitors(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The full key and the name of every metric that something waits for."""
    for path, hook in hooks_of(config):
        kind = find_type(hook['type'], path, reg.HOOKS)
        if not isinstance(kind, type):
            continue
        if issubclass(kind, CheckpointHook) and hook.get('save_best'):
            names = hook['save_best']
            for name in [names] if isinstance(names, str) else names:
                yield f'{path}.save_best', name
        if issubclass(kind, EarlyStoppingHook):
            yield f'{path}.monitor', hook['monitor']
    schedulers = config.get('param_scheduler') or ()
    for number, scheduler in enumerate([schedulers] if isinstance(schedulers, Mapping) else schedulers):
        path = 'param_scheduler' if isinstance(schedulers, Mapping) else f'param_scheduler.{number}'
        if getattr(find_type(scheduler['type'], path, reg.PARAM_SCHEDULERS), 'need_val_args', False):
            yield f'{path}.monitor', scheduler.get('monitor', 'loss')


def hooks_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The full key and the config of every hook."""
    for name, hook in (config.get('default_hooks') or {}).items():
        if hook is not None:
            yield f'default_hooks.{name}', hook
    custom: Iterable[Mapping[str, Any]] = config.get('custom_hooks') or ()
    for number, hook in enumerate(custom):
        yield f'custom_hooks.{number}', hook

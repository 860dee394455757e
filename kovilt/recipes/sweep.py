"""Trains a config with several values of its keys and several seeds: all combinations, or a search by Optuna.

Each run is one `kovilt train` in a folder of its own, `runs/<values>,seed=<seed>`. Repeated, finished runs are kept and
interrupted ones resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from kovilt.engine.changes import describe_changes, find_changes, is_below
from kovilt.engine.config import load_config
from kovilt.engine.monitor_check import given_metrics
from kovilt.engine.run_facts import describe_config
from kovilt.engine.work_dir import lock_work_dir
from kovilt.errors import KoviltError, RunFault, first_line, nearest
from kovilt.evaluation.scoring import is_lower_better
from kovilt.files import read_json, write_json
from kovilt.recipes import commands
from kovilt.recipes.search_space import Dimension, Setting, ValueList, describe, folder_name, grid
from kovilt.recipes.steps import Step, StepFailure, finished_steps, run_steps
from kovilt.recipes.sweep_results import Metric, Outcome, Run, read_run, result_lines, write_results

if TYPE_CHECKING:
    import optuna

_LENGTH = ('train_cfg', 'train_dataloader.batch_size')  # may change when a run is resumed, but not between runs
_RUN = 600.0  # seconds that a run is expected to take; the display corrects it


@dataclass
class Sweep:
    """What a sweep runs.

    Args:
        config: a file or a name, as for `kovilt train`.
        num_seeds: each setting is trained with so many, from the seed of the config on.
        options: `--cfg-options` of all runs. amp, load_from: those of `kovilt train`, '' = not given.
        metric: what the runs are ranked by; '' = the metric that the config saves the best checkpoint by, or the first
            that its validation gives.
        failures: what went wrong, by the folder name of a run.
        lost: why a finished run has no result, by the same name.
    """

    config: str
    dimensions: Sequence[Dimension]
    work_dir: Path
    num_seeds: int = 1
    options: Sequence[str] = ()
    amp: str = ''
    load_from: str = ''
    metric: str = ''
    failures: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = load_config(self.config, self.options)
        self.ranking = choose_metric(config, self.metric, self.config)
        first = (config.get('randomness') or {}).get('seed') or 0
        self.seeds = range(first, first + self.num_seeds)
        self.facts = describe_config(config) | {'--amp': self.amp, '--load-from': self.load_from}
        for dimension in self.dimensions:  # before hours of work: each value must fit the config
            values = dimension.values if isinstance(dimension, ValueList) else (dimension.low, dimension.high)
            for value in values:
                load_config(self.config, [*self.options, f'{dimension.key}={value}'])

    def steps(self, setting: Setting) -> list[Step]:
        """A training for each seed."""
        options = [*self.options, *(f'{key}={value}' for key, value in setting.items())]
        watch = (*commands.VQA_SCALARS, *commands.PRETRAINING_LOSSES)
        steps = []
        for seed in self.seeds:
            name = folder_name(setting, seed)
            folder = self.work_dir / 'runs' / name
            command = commands.train(
                self.config, folder, options, load_from=self.load_from, seed=seed, amp=self.amp, report=True
            )
            # The key is the name: finished runs stay, also with another version or from another current folder.
            title = f'{describe(setting)}, seed {seed}'
            steps.append(Step(name, title, command, folder, _RUN, watch, after=(), key=name))
        return steps

    def run(self, settings: Iterable[Setting]) -> None:
        """Train every setting; a run that fails is noted and stops no other."""
        steps = [step for setting in settings for step in self.steps(setting)]
        for step in steps:
            self.failures.pop(step.name, None)
        try:
            run_steps(steps, self.work_dir)
        except StepFailure as error:
            self.failures |= error.failures

    def outcome(self, setting: Setting) -> Outcome:
        steps = dict(zip(self.seeds, self.steps(setting), strict=True))
        finished = finished_steps(list(steps.values()), self.work_dir)
        runs = []
        for seed, step in steps.items():
            if step.name in finished:
                try:
                    runs.append(read_run(seed, step.folder, self.ranking))
                except KoviltError as error:  # its record is gone or damaged: the others still have results
                    self.lost[step.name] = f'{error}; remove {step.folder} to train it again'
                    runs.append(Run(seed, step.name, error=self.lost[step.name]))
            else:
                runs.append(Run(seed, step.name, error=self.failures.get(step.name, 'not finished')))
        return Outcome(setting, runs)


def run_sweep(sweep: Sweep, *, trials: int = 0, show: Callable[[object], None]) -> list[Outcome]:
    """Run a sweep, or continue it, and write sweep.html and result.json; returns the outcomes, the best first.

    Args:
        trials: settings that Optuna chooses, with those of earlier starts; 0 = all combinations of the values.
        show: prints a line.

    Raises:
        RunFault: runs have failed, or finished ones have lost their records; the others are done.
        KoviltError: the work folder belongs to another sweep, Optuna is missing, or a range is given without it.
    """
    settings = [] if trials else list(grid(sweep.dimensions))
    study = _open_study(sweep) if trials else None
    with lock_work_dir(sweep.work_dir, resume=True):
        _check_same_sweep(sweep)
        outcomes: list[Outcome] = []
        try:
            if study is None:
                sweep.run(settings)
            else:
                _search(sweep, study, trials, show)
        finally:  # an interrupted sweep has results, too
            if study is not None:
                settings = list({repr(setting): setting for setting in map(_setting_of, study.get_trials())}.values())
            outcomes = write_results(map(sweep.outcome, settings), sweep.work_dir, sweep.ranking, sweep.config)
    for line in result_lines(outcomes, sweep.ranking, sweep.work_dir):
        show(line)
    total = sum(len(outcome.runs) for outcome in outcomes)
    if sweep.failures:
        reason = next(iter(sweep.failures.values()))
        raise RunFault(
            f'{len(sweep.failures)} of {total} runs failed ({reason}); the others are done; repeat the command to try '
            'again'
        )
    if sweep.lost:
        raise RunFault(f'{len(sweep.lost)} of {total} runs have no result: {next(iter(sweep.lost.values()))}')
    return outcomes


def choose_metric(config: Config, name: str, source: str) -> Metric:
    """What runs are ranked by: of each run the best validation, if its config keeps the best checkpoint by it, else the
    last.

    Args:
        name: of the metric; '' = chosen by the config. source: the config's name, for messages.
    """
    given = [metric for metric in given_metrics(config) if metric is not None]
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    saved, rules = (
        [value] if isinstance(value, str) else list(value or ()) for value in (hook.get('save_best'), hook.get('rule'))
    )
    rule_of = dict(zip(saved, rules, strict=False))
    chosen = name or next((metric for metric in [*saved, *given] if metric != 'auto'), '')
    if not chosen or not config.get('val_dataloader'):
        raise KoviltError(f'{source}: it has no validation whose result could rank the runs')
    if given and not any(fnmatch(chosen, pattern) for pattern in given):
        raise KoviltError(f'--metric {chosen}: the validation does not give it{nearest(chosen, given)}')
    rule = rule_of.get(chosen, 'less' if is_lower_better(chosen) else 'greater')
    return Metric(chosen, is_lower_better=rule == 'less', takes_best=chosen in saved)


def _check_same_sweep(sweep: Sweep) -> None:
    """Compare config and options with those of the earlier starts, whose runs stand in the same table."""
    file = sweep.work_dir / 'sweep.json'
    if not file.is_file():
        write_json(file, sweep.facts)
        return
    changes = find_changes(read_json(file), sweep.facts)
    changes = [change for change in changes if change.matters or is_below(change.key, _LENGTH)]
    if changes:
        raise KoviltError(
            f'{file}: since this sweep began, {describe_changes(changes)}: restore what it was, or begin another one '
            'with --work-dir'
        )


def _open_study(sweep: Sweep) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise KoviltError("--optuna needs Optuna, which is not installed: pip install 'kovilt[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep.work_dir.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f'sqlite:///{sweep.work_dir.resolve()}/optuna.db',
        study_name='sweep',
        direction='minimize' if sweep.ranking.is_lower_better else 'maximize',
        load_if_exists=True,
    )
    if (metric := study.user_attrs.setdefault('metric', sweep.ranking.name)) != sweep.ranking.name:
        raise KoviltError(
            f'--metric {sweep.ranking.name}: the search in {sweep.work_dir} is for the best {metric}; begin another '
            'with --work-dir'
        )
    study.set_user_attr('metric', metric)
    study.sampler = optuna.samplers.TPESampler(seed=len(study.get_trials()))  # another one at each start
    return study


def _search(sweep: Sweep, study: optuna.Study, trials: int, show: Callable[[object], None]) -> None:
    """Let Optuna choose settings until so many are done. Those that an interruption has left open come first."""
    from optuna.trial import TrialState

    def count(*states: TrialState) -> int:
        return len(study.get_trials(deepcopy=False, states=states))

    chosen = map(_setting_of, study.get_trials(states=(TrialState.COMPLETE,)))
    incomplete = [setting for setting in chosen if not sweep.outcome(setting).is_complete]
    if incomplete:  # --seeds is larger than it was
        sweep.run(incomplete)
    failed_before = count(TrialState.FAIL)
    space = {dimension.key: _distribution(dimension) for dimension in sweep.dimensions}
    waiting = [trial for trial in study.get_trials(states=(TrialState.RUNNING,))]
    while waiting or count(TrialState.COMPLETE, TrialState.FAIL) - failed_before < trials:
        if waiting:
            trial: Any = waiting.pop(0)
            if trial.params.keys() != space.keys():  # killed before it was chosen, or chosen from other keys
                study.tell(trial.number, state=TrialState.FAIL)
                failed_before += 1
                continue
        else:
            try:
                trial = study.ask(space)
            except ValueError as error:
                raise KoviltError(
                    f'{sweep.work_dir}: its search has other values of a key ({first_line(error)}); give those, or '
                    'begin another sweep with --work-dir'
                ) from error
        setting = _setting_of(trial)
        show(f'trial {count(TrialState.COMPLETE) + 1} of {trials}: {describe(setting)}')
        sweep.run([setting])
        outcome = sweep.outcome(setting)
        if outcome.is_complete:
            study.tell(trial.number, outcome.mean)
        else:
            study.tell(trial.number, state=TrialState.FAIL)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if isinstance(dimension, ValueList):
        return distributions.CategoricalDistribution(dimension.values)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return distributions.IntDistribution(dimension.low, dimension.high, log=dimension.log)
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _setting_of(trial: Any) -> Setting:
    return {key: str(value) for key, value in trial.params.items()}

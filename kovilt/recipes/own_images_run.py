"""Runs `kovilt train FOLDER`: prints the plan, trains, evaluates, and says what the images brought."""

from __future__ import annotations

import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from kovilt.datasets.collate import collate_pairs
from kovilt.engine.config import load_config
from kovilt.engine.data_sizes import read_data_sizes
from kovilt.errors import KoviltError
from kovilt.evaluation.comparison import compare_predictions, read_predictions
from kovilt.files import read_json, write_json
from kovilt.models.sizes import build_model, complete_model_config
from kovilt.recipes import commands
from kovilt.recipes.own_images import BATCH_SIZE, Choices, Data, Schedule, Start, make_start, read_data, write_config
from kovilt.recipes.progress import format_duration
from kovilt.recipes.steps import Step, run_steps
from kovilt.registry import DATASETS
from kovilt.verification import sources_of_config, verify
from kovilt.verification.findings import FINDING_KINDS

_START = 8  # seconds that a command takes to start
_EVALUATION = 0.004  # seconds of a question in evaluation, beside a step's share
_MAX_CACHE = 2e9  # bytes of images that are kept decoded; more are read again in each epoch, by worker processes


def train_folder(choices: Choices, work_dir: Path, *, workers: int, show: Callable[[object], None]) -> dict[str, Any]:
    """Plan, check the data, train, evaluate and export; repeated, it continues. Returns the content of result.json.

    Args:
        work_dir: gets `<its name>.py`, plan.json, result.json, and start/, train/, train_test/, model/, and
            question_only.py, question_only/, question_only_test/ of the same without images.
        workers: processes that check images.
        show: prints a line.

    Raises:
        KoviltError: what is wrong with the folder or a choice; the work folder belongs to another run.
    """
    MMLogger.get_current_instance().setLevel('WARNING')  # what is built here is built again, and told, by the steps
    config = work_dir / f'{work_dir.resolve().name}.py'
    if config.name == 'question_only.py':
        raise KoviltError(
            f'{work_dir}: its config would have the name of another file; name another folder by --work-dir'
        )
    plan_file = work_dir / 'plan.json'
    data = read_data(choices)
    wanted = {'choices': asdict(choices) | {'cfg_options': list(choices.cfg_options)}, 'data': data.digest}
    if plan_file.is_file():
        plan = read_json(plan_file)
        if {key: plan.get(key) for key in wanted} != wanted:
            raise KoviltError(
                f'{work_dir}: holds the training of other data or options; name another folder by --work-dir, or '
                'remove it'
            )
    else:
        unplanned = {'start', config.name, 'question_only.py'}  # what a plan leaves that was refused or interrupted
        if work_dir.is_dir() and {file.name for file in work_dir.iterdir() if file.name[0] != '.'} - unplanned:
            raise KoviltError(f'{work_dir}: is not empty; name another folder by --work-dir, or remove it')
        plan = wanted | _make_plan(choices, data, config, workers)
        write_json(plan_file, plan)
    for line in plan['lines']:
        show(line)
    seconds = run_steps(_steps(config, plan), work_dir)
    result = read_result(work_dir) | {'seconds': round(sum(seconds.values()), 1)}
    write_json(work_dir / 'result.json', result)
    for line in result_lines(result, config, work_dir):
        show(line)
    return result


def _make_plan(choices: Choices, data: Data, config: Path, workers: int) -> dict[str, Any]:
    start = make_start(choices, data, config.parent / 'start')
    write_config(config, choices, data, start, Schedule.of(data.questions['train'], start, choices, 0.2), 'Unfinished.')
    findings = _check(config, choices, workers)
    measured = measure_step(config, choices)
    step_seconds = measured.seconds
    schedule = Schedule.of(data.questions['train'], start, choices, step_seconds)
    cached = data.images['train'] * measured.image_bytes
    loading: dict[str, Any] = {}
    if cached > _MAX_CACHE:
        loading = {'cache_images': False, 'num_workers': min(8, workers)}
    memory = measured.memory + (0 if loading else cached)
    evaluations = -(-schedule.steps // schedule.val_interval)
    val_seconds = data.questions['val'] * (_EVALUATION + step_seconds / 100)
    seconds = {
        'train': _START + schedule.steps * step_seconds + evaluations * val_seconds,
        'question_only': _START + schedule.steps * step_seconds / 3 + evaluations * val_seconds / 3,
        'evaluate': 2 * (_START + val_seconds),
    }
    measured = measured._replace(memory=memory)
    lines = plan_lines(choices, data, start, schedule, findings, measured, sum(seconds.values()))
    options = choices.cfg_options
    write_config(config, choices, data, start, schedule, '\n'.join(lines), options=options, **loading)
    return {'lines': lines, 'seconds': seconds, 'schedule': asdict(schedule)}


def _check(config: Path, choices: Choices, workers: int) -> list[str]:
    """The warnings of verification, one line each; its errors are raised."""
    sources = sources_of_config(load_config(config, choices.cfg_options).to_dict(), str(config))
    report = verify(sources, deep=None, workers=workers, progress=lambda done, total: None)
    found = [finding for finding in report.findings if FINDING_KINDS[finding.code].severity == 'error']
    if found:
        more = f' (and {len(found) - 1} more)' if len(found) > 1 else ''
        raise KoviltError(f'{found[0]}{more}; kovilt verify {shlex.quote(choices.folder)} lists all')
    return [str(finding) for finding in report.findings if FINDING_KINDS[finding.code].severity == 'warning']


class Measured(NamedTuple):
    """What an optimizer step on a batch of the data takes.

    seconds: of wall time, the median of three, after one. memory: bytes at the peak, of this process or of the GPU.
    image_bytes: of an image in the cache, on average. parameters: of the model.
    """

    seconds: float
    memory: float
    image_bytes: float
    parameters: int


def measure_step(config: Path, choices: Choices) -> Measured:
    """Take four optimizer steps."""
    cfg = load_config(config, choices.cfg_options)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.random.fork_rng():
        dataset: Any = DATASETS.build(cfg.train_dataloader.dataset.to_dict())
        sizes = read_data_sizes(dataset)
        model_cfg = complete_model_config(cfg.model.to_dict(), data_sizes=sizes)
        model = build_model(model_cfg, answers=dataset.metainfo['answers']).train()
        model = model.to('cuda' if torch.cuda.is_available() else 'cpu')
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper.to_dict())
        size, seconds = cfg.train_dataloader.batch_size, []
        for step in range(4):
            rows = [(step * size + place) % len(dataset) for place in range(size)]
            begin = time.perf_counter()
            (batch,) = collate_pairs(dataset.__getitems__(rows))
            model.train_step([batch], wrapper)
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU computes on after the call
            seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    image_bytes = batch['patches'].numel() / max(1, len(batch['grids']))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Measured(statistics.median(seconds[1:]), memory, image_bytes, parameters)


def plan_lines(
    choices: Choices,
    data: Data,
    start: Start,
    schedule: Schedule,
    findings: list[str],
    measured: Measured,
    seconds: float,
) -> list[str]:
    """The plan, in at most 15 lines."""
    answer, count = data.answers.most_common(1)[0]
    batch_size = min(BATCH_SIZE, data.questions['train'])
    kept = f', {data.val_share:.0%} of the images kept for validation' if data.val_share else ''
    epochs = schedule.steps * batch_size / data.questions['train']
    listed = findings[:3] + (
        [f'... and {len(findings) - 3} more: kovilt verify {shlex.quote(choices.folder)}'] if findings[3:] else []
    )
    return [
        f'plan for {choices.folder}',
        f'  training    {data.questions["train"]:,} questions on {data.images["train"]:,} images',
        f'  validation  {data.questions["val"]:,} questions on {data.images["val"]:,} images{kept}',
        f'  answers     {len(data.answers):,}; {answer} most often ({count / data.answers.total():.0%}); '
        f'{data.coverage:.0%} of the validation answers occur in training',
        f'  model       {measured.parameters:,} parameters',
        f'  start       {start.text}',
        f'  steps       at most {schedule.steps:,} of {batch_size} questions ({epochs:.1f} epochs), '
        f'{measured.seconds:.2f} s each; ends when validation no longer improves',
        f'  time        about {format_duration(seconds)}, with the same training without images',
        f'  memory      about {measured.memory / 1e9:.1f} GB{" of the GPU" if torch.cuda.is_available() else ""}',
        *(f'  warning     {line}' for line in listed),
    ]


def _steps(config: Path, plan: dict[str, Any]) -> list[Step]:
    work_dir = config.parent
    names = {'train': config, 'question_only': config.with_name('question_only.py')}
    titles = {'train': 'fine-tune · 미세조정', 'question_only': 'the same without images · 이미지 없이'}
    seconds = plan['seconds']
    steps = [
        Step(
            name,
            titles[name],
            commands.train(str(file), work_dir / name, report=name == 'train'),
            work_dir / name,
            seconds[name],
            commands.VQA_SCALARS,
        )
        for name, file in names.items()
    ]
    for name, file in names.items():
        folder = work_dir / f'{name}_test'
        test = commands.test(str(file), str(work_dir / name), folder)
        steps.append(Step(f'{name}_test', f'evaluate {name} · 평가', test, folder, seconds['evaluate'] / 2))
    export = commands.export(str(work_dir / 'train'), work_dir / 'model')
    return [*steps, Step('model', 'export the model · 모델 저장', export, work_dir / 'model', _START)]


def read_result(work_dir: Path) -> dict[str, Any]:
    """The accuracies in percent, with and without images, and the interval of their difference."""
    metrics = {
        name: read_json(work_dir / f'{name}_test' / 'metrics.json')['metrics'] for name in ('train', 'question_only')
    }
    blind, seeing = (str(work_dir / f'{name}_test' / 'predictions.jsonl') for name in ('question_only', 'train'))
    found = compare_predictions(read_predictions(blind), read_predictions(seeing), names=(blind, seeing))
    test = metrics['train']
    keys = ('accuracy', 'accuracy_low', 'accuracy_high', 'majority_accuracy', 'ceiling', 'questions')
    return {key: test[key] for key in keys} | {
        'question_only_accuracy': metrics['question_only']['accuracy'],
        'images_bring': found['difference'],
        'images_bring_interval': list(found['difference_interval']),
    }


def result_lines(result: dict[str, Any], config: Path, work_dir: Path) -> list[str]:
    """The result beside its baselines, what the images brought, and the next commands."""
    low, high = result['images_bring_interval']
    if low > 0:
        verdict = f'The images bring {result["images_bring"]:+.1f} points ({low:+.1f} to {high:+.1f}).'
    else:
        what = 'Training with images ended below training without' if high < 0 else 'The images do not help measurably'
        verdict = (
            f'{what} ({low:+.1f} to {high:+.1f} points). What helps: public weights (--model OWNER/NAME or FOLDER of a '
            'ViLT), more images, questions that only the image answers.'
        )
    report = work_dir / 'train' / 'report.html'
    return [
        '',
        f'  accuracy             {result["accuracy"]:6.2f} %  ({result["accuracy_low"]:.2f} to '
        f'{result["accuracy_high"]:.2f}; {result["questions"]:,} questions)',
        f'  without images       {result["question_only_accuracy"]:6.2f} %',
        f'  most frequent answer {result["majority_accuracy"]:6.2f} %',
        f'  possible at most     {result["ceiling"]:6.2f} %  (answers that occur in training)',
        verdict,
        '',
        f'  kovilt predict {shlex.quote(f"{work_dir}/model")} IMAGE "질문"',
        f'  kovilt train {shlex.quote(str(config))}        # the training again, into {work_dir}/again; the config can '
        'be edited',
        f'  predictions: {work_dir}/train_test/predictions.jsonl',
        *([f'  report: {report}'] if report.is_file() else []),
    ]

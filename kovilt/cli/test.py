"""Evaluate a checkpoint: accuracy with its interval, by groups, and beside the majority answer (docs/en/evaluation.md).

kovilt test rooms/vqa work_dirs/vqa/iter_2000.pth --out predictions.jsonl
bash tools/dist_test.sh kovilt_vqa_aihub CHECKPOINT 8
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kovilt.cli.arguments import CommandParser
from kovilt.cli.report import leave_report
from kovilt.errors import KoviltError
from kovilt.model_names import packaged_models
from kovilt.terminal import show

if TYPE_CHECKING:
    from mmengine.config import Config

TRAINING_KEYS = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
TEST_HOOKS = ('runtime_info', 'timer', 'logger')


def add_arguments(parser: CommandParser) -> None:
    parser.add_config('the config that the checkpoint was trained with: a file or a name (rooms/vqa)')
    parser.add_argument(
        'checkpoint', help='a .pth file, a model folder, a work folder, of which the best is taken, or a packaged model'
    )
    parser.add_argument('--out', metavar='FILE', help='write every prediction, one JSON object a line, to this file')
    parser.add_argument(
        '--work-dir',
        help='folder of metrics.json and logs (default: the folder test beside the checkpoint; of a packaged model '
        'work_dirs/NAME_test)',
    )
    parser.add_no_report()
    parser.add_logger()
    parser.add_precision()
    parser.add_cfg_options('val_dataloader.batch_size=64')
    parser.add_launcher('tools/dist_test.sh')


def run(args: argparse.Namespace) -> None:
    from mmengine.hooks import Hook

    from kovilt.apis.precision import set_precision
    from kovilt.engine.config import load_config
    from kovilt.engine.distributed import end_process, follow_launcher
    from kovilt.engine.hooks import NoReportHook, PredictionsHook
    from kovilt.engine.hooks.run_record import describe_data, describe_environment, to_numbers
    from kovilt.engine.log_backends import add_backends
    from kovilt.files import write_json
    from kovilt.formats.checkpoint import choose_checkpoint
    from kovilt.registry import RUNNERS

    checkpoint = choose_checkpoint(args.checkpoint)
    work_dir = args.work_dir or str(default_work_dir(checkpoint))
    overrides = {'launcher': args.launcher, 'work_dir': work_dir, 'load_from': str(checkpoint), 'resume': False}
    config = load_config(args.config, args.cfg_options, overrides)
    make_test_config(config, args.config)
    if args.out:
        config.default_hooks['predictions'] = {'type': 'PredictionsHook', 'out': args.out}
    if args.logger:
        add_backends(config, args.logger)
    follow_launcher()
    runner = RUNNERS.build(config)
    predictions = Path(work_dir, 'predictions.jsonl')
    if args.no_report:
        runner.register_hook(NoReportHook())
    elif not args.out:
        runner.register_hook(PredictionsHook(str(predictions), is_asked=False))

    class PrecisionHook(Hook):
        def before_test(self, runner: Any) -> None:
            model = runner.model  # whose weights have been loaded
            set_precision(getattr(model, 'module', model), args.precision, checkpoint)

    runner.register_hook(PrecisionHook())
    metrics = runner.test()
    if runner.rank == 0:
        report = {
            'config': args.config,
            'checkpoint': str(checkpoint),
            'precision': args.precision,
            'metrics': to_numbers(metrics),
            'data': {'test': describe_data(runner.test_dataloader.dataset)},
            'environment': describe_environment(runner),
        }
        write_json(Path(work_dir) / 'metrics.json', report)
        show(f'{work_dir}/metrics.json')
    has_report = runner.rank == 0 and not args.no_report
    elsewhere = Path(args.out) if args.out and Path(args.out).resolve() != predictions.resolve() else None
    end_process(last=(lambda: leave_report(work_dir, elsewhere)) if has_report else None)


def default_work_dir(checkpoint: Path) -> Path:
    """The folder `test` beside the checkpoint; of a packaged model one of the current folder."""
    is_packaged = checkpoint in packaged_models().values()
    return Path('work_dirs', f'{checkpoint.name}_test') if is_packaged else checkpoint.parent / 'test'


def make_test_config(config: Config, path: str) -> None:
    """Turn a training config into one that only tests, on the validation data unless it has test data.

    Args:
        config: a loaded config; it is changed.
        path: its file, for messages.
    """
    for part in ('dataloader', 'cfg', 'evaluator'):
        if f'test_{part}' not in config and f'val_{part}' in config:
            config[f'test_{part}'] = config[f'val_{part}']
        config.pop(f'val_{part}', None)
        if f'test_{part}' not in config:
            raise KoviltError(f'{path}: it has neither test_{part} nor val_{part}, so there is nothing to test on')
    for key in TRAINING_KEYS:
        config.pop(key, None)
    config.default_hooks = {name: hook for name, hook in config.get('default_hooks', {}).items() if name in TEST_HOOKS}
    config.default_hooks.update(checkpoint=None, param_scheduler=None, sampler_seed=None)  # MMEngine would add them

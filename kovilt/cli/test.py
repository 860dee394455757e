"""Evaluate a checkpoint: accuracy with its interval, by groups, and beside the majority answer (docs/en/evaluation.md).

kovilt test rooms/vqa work_dirs/vqa/iter_2000.pth --out predictions.jsonl
kovilt test rooms/vqa models/rooms --precision-target 0.95     (docs/en/abstention.md)
bash tools/dist_test.sh kovilt_vqa_aihub CHECKPOINT 8
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kovilt.cli.arguments import CommandParser
from kovilt.cli.report import leave_report
from kovilt.errors import KoviltError
from kovilt.model_names import packaged_models
from kovilt.terminal import printable, show

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
    parser.add_argument(
        '--calibrate',
        action='store_true',
        help='fit a temperature on these questions, by which probabilities tell how often answers are right, and store '
        'it in the model folder',
    )
    parser.add_argument(
        '--precision-target',
        type=precision_target,
        metavar='P',
        help='with --calibrate, which it implies: store also the probability below which the model abstains, so that '
        'this share of its answers is right, such as 0.95',
    )
    parser.add_argument('--abstention', metavar='TEXT', help='what it answers then (default: 모르겠음)')
    parser.add_no_report()
    parser.add_logger()
    parser.add_precision()
    parser.add_cfg_options('val_dataloader.batch_size=64')
    parser.add_launcher('tools/dist_test.sh')


def precision_target(text: str) -> float:
    """The `type` of `--precision-target`."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f'must be above 0 and at most 1, such as 0.95, not {text}')
    return value


precision_target.__name__ = 'float'  # argparse names the type in its message: invalid float value: 'x'


def run(args: argparse.Namespace) -> int:
    from mmengine.hooks import Hook

    from kovilt.apis.precision import set_precision
    from kovilt.apis.questions import clean_abstention
    from kovilt.engine.config import load_config
    from kovilt.engine.distributed import end_process, follow_launcher
    from kovilt.engine.hooks import CalibrationHook, NoReportHook, PredictionsHook
    from kovilt.engine.hooks.run_record import describe_data, describe_environment, to_numbers
    from kovilt.engine.log_backends import add_backends
    from kovilt.files import write_json
    from kovilt.formats.checkpoint import choose_checkpoint
    from kovilt.registry import RUNNERS
    from kovilt.weights.calibration import ABSTENTION, store_calibration

    checkpoint = choose_checkpoint(args.checkpoint)
    is_fit = args.calibrate or args.precision_target is not None
    abstention = ABSTENTION if args.abstention is None else clean_abstention(args.abstention, '--abstention')
    if is_fit:
        _check_calibratable(checkpoint)
    if args.abstention is not None and args.precision_target is None:
        raise KoviltError('--abstention is answered below the threshold of --precision-target; give that, too')
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
    calibration = CalibrationHook(
        checkpoint, is_fit=is_fit, precision_target=args.precision_target, abstention=abstention
    )
    runner.register_hook(calibration)
    metrics = runner.test()
    if runner.rank == 0:
        report = {
            'config': args.config,
            'checkpoint': str(checkpoint),
            'precision': args.precision,
            'metrics': to_numbers(metrics),
            **({'calibration': calibration.result} if calibration.result else {}),
            'data': {'test': describe_data(runner.test_dataloader.dataset)},
            'environment': describe_environment(runner),
        }
        write_json(Path(work_dir) / 'metrics.json', report)
        show(f'{work_dir}/metrics.json')
        if is_fit and calibration.calibration is not None:
            store_calibration(checkpoint, calibration.calibration)
            show(f'{checkpoint}/kovilt.json: calibration stored')
    elsewhere = Path(args.out) if args.out and Path(args.out).resolve() != predictions.resolve() else None

    def finish() -> None:
        if runner.rank == 0 and not args.no_report:
            leave_report(work_dir, elsewhere)
        if calibration.failure:
            print(printable(f'error: {calibration.failure}'), file=sys.stderr)

    code = 2 if calibration.failure else 0
    end_process(code, last=finish)
    return code


def _check_calibratable(folder: Path) -> None:
    """KoviltError, before the test, if its calibration could not be stored."""
    from kovilt.weights.calibration import check_calibratable

    check_calibratable(folder)
    if not os.access(folder, os.W_OK):
        raise KoviltError(f'{folder}: cannot be written, so that no calibration can be stored; copy the folder')


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

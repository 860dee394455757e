#!/usr/bin/env python
"""Evaluate a checkpoint: accuracy with its interval, in parts, and beside the majority answer (docs/evaluation.md).

python tools/test.py configs/rooms/vqa.py work_dirs/vqa/iter_2000.pth --out predictions.jsonl
bash tools/dist_test.sh configs/kovilt_vqa_aihub.py CHECKPOINT 8
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402

TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
TEST_HOOKS = ('runtime_info', 'timer', 'logger')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file or a model folder')
    parser.add_argument('--out', metavar='FILE', help='write every prediction, one JSON object a line')
    parser.add_argument('--work-dir', help='where metrics.json and logs go (default: test/ beside the checkpoint)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        action='extend',
        help='override values of the config by their full paths: val_dataloader.batch_size=64',
    )
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help='set by dist_test.sh')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.engine.config import load_config

    work_dir = args.work_dir or str(Path(args.checkpoint).parent / 'test')
    overrides = {'launcher': args.launcher, 'work_dir': work_dir, 'load_from': args.checkpoint, 'resume': False}
    config = load_config(args.config, args.cfg_options, overrides)
    for part in ('dataloader', 'cfg', 'evaluator'):  # a config that says nothing else is tested on its validation data
        if f'test_{part}' not in config and f'val_{part}' in config:
            config[f'test_{part}'] = config[f'val_{part}']
        config.pop(f'val_{part}', None)
        if f'test_{part}' not in config:
            raise KoviltError(
                f'{args.config}: it has neither test_{part} nor val_{part}, so there is nothing to test on'
            )
    for key in TRAINING:
        config.pop(key, None)
    config.default_hooks = {name: hook for name, hook in config.get('default_hooks', {}).items() if name in TEST_HOOKS}
    config.default_hooks.update(checkpoint=None, param_scheduler=None, sampler_seed=None)
    if args.out:
        config.default_hooks['predictions'] = {'type': 'PredictionsHook', 'out': args.out}
    if 'LOCAL_RANK' not in os.environ and args.local_rank is not None:
        os.environ['LOCAL_RANK'] = str(args.local_rank)

    from kovilt.engine.distributed import end_process
    from kovilt.engine.hooks.run_record import describe_environment, to_numbers
    from kovilt.files import write_json
    from kovilt.registry import RUNNERS

    runner = RUNNERS.build(config)
    metrics = runner.test()
    if runner.rank == 0:
        report = {
            'config': args.config,
            'checkpoint': args.checkpoint,
            'metrics': to_numbers(metrics),
            'environment': describe_environment(runner),
        }
        write_json(Path(work_dir) / 'metrics.json', report)
        print(f'{work_dir}/metrics.json')
    end_process()


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

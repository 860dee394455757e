#!/usr/bin/env python
"""Train a config: pre-training, fine-tuning, on one process or many.

python tools/train.py configs/rooms/vqa.py
python tools/train.py configs/rooms/vqa.py --resume --cfg-options train_dataloader.batch_size=64
bash tools/dist_train.sh configs/kovilt_pretrain_coco.py 8
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a file of configs/, or your own')
    parser.add_argument('--work-dir', help='where checkpoints and records go (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT, or from the latest of the work folder; starts afresh if it has none',
    )
    parser.add_argument(
        '--load-from',
        metavar='CHECKPOINT',
        help='start from the weights of a .pth or .safetensors file; of another model, from its encoder',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=('auto', 'bfloat16', 'float16'),
        help='mixed precision; auto is bfloat16, or float16 on GPUs without it',
    )
    parser.add_argument('--seed', type=int, help='seed of the run (the config says 0)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        action='extend',
        help='override values of the config by their full paths: model.encoder.drop_rate=0.0',
    )
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help='set by dist_train.sh')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    args = parser.parse_args()
    if args.resume not in (None, 'auto') and args.load_from:
        parser.error('--resume CHECKPOINT already says what to load; leave out --load-from')
    return args


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.engine.config import load_config

    overrides: dict = {'launcher': args.launcher}
    if args.work_dir:
        overrides['work_dir'] = args.work_dir
    if args.resume:
        overrides['resume'] = 'auto' if args.resume == 'auto' else True
    if args.load_from or args.resume not in (None, 'auto'):
        overrides['load_from'] = args.load_from or args.resume
    if args.seed is not None:
        args.cfg_options.append(f'randomness.seed={args.seed}')
    config = load_config(args.config, args.cfg_options, overrides)
    config.setdefault('work_dir', str(Path('work_dirs', Path(args.config).stem)))
    if 'train_cfg' not in config:
        raise KoviltError(f'{args.config}: it has no train_cfg, so it is nothing to train')
    if args.amp:
        from kovilt.engine.optim import mixed_precision

        config.optim_wrapper = mixed_precision(config.optim_wrapper, args.amp)
    if 'LOCAL_RANK' not in os.environ and args.local_rank is not None:
        os.environ['LOCAL_RANK'] = str(args.local_rank)

    from kovilt.engine.distributed import end_process
    from kovilt.registry import RUNNERS

    RUNNERS.build(config).train()
    end_process()


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

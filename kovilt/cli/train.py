"""Train a config, pre-training or fine-tuning, on one process or several; or a folder of your own images.

kovilt train data/mine
kovilt train rooms/vqa
kovilt train rooms/vqa --resume --cfg-options train_dataloader.batch_size=64
bash tools/dist_train.sh kovilt_pretrain_coco 8
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from kovilt.cli.arguments import CommandParser, at_least, available_cpus, parse_columns
from kovilt.cli.report import leave_report
from kovilt.errors import KoviltError
from kovilt.terminal import show

_OF_FOLDERS = ('model', 'tokenizer', 'bert', 'minutes', 'epochs', 'image_size', 'allow_outside', 'columns')


def add_arguments(parser: CommandParser) -> None:
    parser.add_config(
        "a file or a name of kovilt's configs (rooms/vqa); also the file that a run saved; or a folder with images and "
        'questions: train.jsonl, train.csv, Parquet files, ...'
    )
    parser.add_argument(
        '--work-dir', help='folder of checkpoints and records (default: that of the config, else work_dirs/<its name>)'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT or from the latest one in the work folder; if there is none, start anew',
    )
    parser.add_argument(
        '--allow-change',
        metavar='KEY',
        action='append',
        default=[],
        help='with --resume: go on although this has changed since the checkpoint, such as optim_wrapper.optimizer.lr; '
        'may be repeated',
    )
    parser.add_argument(
        '--load-from',
        metavar='CHECKPOINT',
        help='start from the weights of a .pth or .safetensors file, a model folder or a packaged model; from its '
        'encoder, if it is another model',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help="with --load-from: start also from less than 95 %% of the encoder's tensors",
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=('auto', 'bfloat16', 'float16'),
        help='mixed precision; auto is bfloat16, or float16 on GPUs without bfloat16',
    )
    parser.add_argument('--seed', type=int, help='seed of the run (default: that of the config, 0)')
    parser.add_no_report()
    parser.add_logger()
    parser.add_cfg_options('model.encoder.drop_rate=0.0')
    parser.add_launcher('tools/dist_train.sh')
    folder = parser.add_argument_group('a folder of images')
    folder.add_argument(
        '--model',
        metavar='M',
        help='small, base, a packaged model, a folder of a model or of public weights, or OWNER/NAME of a ViLT or ViT '
        "on HuggingFace's hub (default: small, base on a GPU)",
    )
    folder.add_argument(
        '--tokenizer', help='Korean tokenizer in place of the chosen one: folder, file or name on the hub'
    )
    folder.add_argument(
        '--bert', help='Korean BERT that gives word embeddings for public weights: folder or name on the hub'
    )
    folder.add_argument('--minutes', type=float, help='of the whole command (default: 10 without a GPU)')
    folder.add_argument('--epochs', type=at_least(1), help='of the training (default: by the number of questions)')
    folder.add_argument('--image-size', type=at_least(16), metavar='PIXELS', help="shorter side (default: the model's)")
    folder.add_argument('--allow-outside', action='store_true', help='read images that lie outside the folder')
    parser.add_columns()


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')  # torch: huge pages save 3 % of a small model's step on a CPU
    if Path(args.config).is_dir():
        return _train_folder(args)
    if given := [name for name in _OF_FOLDERS if getattr(args, name)]:
        raise KoviltError(f'--{given[0].replace("_", "-")} is for a folder of images; {args.config} is a config')
    checkpoint = None if args.resume == 'auto' else args.resume
    if checkpoint and args.load_from:
        raise KoviltError('--resume CHECKPOINT names the weights already; leave out --load-from')
    if args.allow_change and not args.resume:
        raise KoviltError('--allow-change is about a run that is continued; add --resume')
    from kovilt.engine.config import load_config
    from kovilt.engine.distributed import end_process, follow_launcher, is_restarted
    from kovilt.engine.hooks import NoReportHook, PredictionsHook
    from kovilt.engine.interruption import Interruption
    from kovilt.engine.log_backends import add_backends
    from kovilt.engine.optim import mixed_precision
    from kovilt.registry import RUNNERS

    overrides: dict[str, Any] = {'launcher': args.launcher}
    if args.work_dir:
        overrides['work_dir'] = args.work_dir
    if args.resume or is_restarted():
        overrides['resume'] = True if checkpoint else 'auto'
    if args.load_from or checkpoint:
        overrides['load_from'] = args.load_from or checkpoint
    if args.seed is not None:
        args.cfg_options.append(f'randomness.seed={args.seed}')
    config = load_config(args.config, args.cfg_options, overrides)
    config.setdefault('work_dir', str(Path('work_dirs', Path(args.config).stem)))
    if 'train_cfg' not in config:
        raise KoviltError(f'{args.config}: it has no train_cfg, so there is nothing to train')
    if args.amp:
        config.optim_wrapper = mixed_precision(config.optim_wrapper, args.amp)
    if args.logger:
        add_backends(config, args.logger)
    follow_launcher()
    try:
        runner = RUNNERS.build(config)
        predictions = PredictionsHook(f'{runner.work_dir}/predictions.jsonl', is_asked=False)
        runner.register_hook(NoReportHook() if args.no_report else predictions)
        runner.train(args.allow_change, force_load=args.force)
    except Interruption as interruption:
        show(str(interruption))
        end_process(interruption.exit_code)
        return interruption.exit_code
    has_report = runner.rank == 0 and not args.no_report
    end_process(last=(lambda: leave_report(runner.work_dir)) if has_report else None)
    return 0


def _train_folder(args: argparse.Namespace) -> int:
    for name in ('resume', 'load_from', 'amp', 'allow_change', 'force'):
        if getattr(args, name):
            raise KoviltError(
                f'--{name.replace("_", "-")} is for a config; a folder needs none, it continues by itself'
            )
    if args.logger:
        raise KoviltError('--logger is for a config; train the one that this writes into the work folder with it')
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise KoviltError(f'--minutes {args.minutes:g}: give a number above 0')
    if args.launcher != 'none':
        raise KoviltError('--launcher: one process trains a folder; several train the config that this writes')
    from kovilt.recipes.own_images import Choices
    from kovilt.recipes.own_images_run import train_folder

    if args.no_report:
        os.environ['KOVILT_NO_REPORT'] = '1'  # by which the steps are told; their commands, and so what is done, stay
    name = Path(args.config).resolve().name
    choices = Choices(
        folder=args.config,
        model=args.model or 'auto',
        seed=args.seed or 0,
        cfg_options=args.cfg_options,
        columns=parse_columns(args.columns),
        **{key: getattr(args, key) for key in _OF_FOLDERS if key not in ('model', 'columns')},
    )
    train_folder(choices, Path(args.work_dir or Path('work_dirs', name)), workers=available_cpus(), show=show)
    return 0

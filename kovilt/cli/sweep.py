"""Train a config with several values of its keys, and rank them: all combinations, or a search by Optuna.

kovilt sweep rooms/vqa_scratch optim_wrapper.optimizer.lr=5e-4,1e-3 model.encoder.drop_rate=0.0,0.1
kovilt sweep rooms/vqa_scratch optim_wrapper.optimizer.lr=1e-4..1e-2:log --optuna 20 --seeds 2

Each run is a `kovilt train` in runs/ of the work folder. Repeated, the command keeps finished runs and continues the
rest; with more values, seeds or trials it adds to them. A run that fails stops no other; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_config()
    parser.add_argument(
        'values',
        nargs='+',
        metavar='KEY=VALUES',
        help='a key of the config with values, a,b,c, or with --optuna also a range: 1e-4..1e-2:log, 0.0..0.3, 2..12',
    )
    parser.add_argument('--optuna', type=at_least(1), metavar='N', help='let Optuna choose N settings')
    parser.add_argument(
        '--seeds', type=at_least(1), default=1, metavar='K', help="each setting with K seeds, from the config's on"
    )
    parser.add_argument(
        '--work-dir', help='folder of runs/, sweep.html and result.json (default: work_dirs/sweep_<name of the config>)'
    )
    parser.add_argument(
        '--metric', default='', help='rank by this one (default: that of the best checkpoint, else the first)'
    )
    parser.add_argument('--load-from', metavar='CHECKPOINT', default='', help='all runs start from these weights')
    parser.add_argument(
        '--amp', nargs='?', const='auto', default='', choices=('auto', 'bfloat16', 'float16'), help='mixed precision'
    )
    parser.add_cfg_options('train_cfg.max_iters=500')


def run(args: argparse.Namespace) -> None:
    from kovilt.recipes.search_space import parse_dimensions
    from kovilt.recipes.sweep import Sweep, run_sweep

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running training, saved, as Ctrl-C does
    sweep = Sweep(
        args.config,
        parse_dimensions(args.values),
        Path(args.work_dir or Path('work_dirs', f'sweep_{Path(args.config).stem}')),
        num_seeds=args.seeds,
        options=args.cfg_options,
        amp=args.amp,
        load_from=args.load_from,
        metric=args.metric,
    )
    run_sweep(sweep, trials=args.optuna or 0, show=show)

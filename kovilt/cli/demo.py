"""Try a model in the browser: ask, see where it looks, fill in masked words, compare two models, browse errors.

    kovilt demo
    kovilt demo work_dirs/quickstart/model --compare rooms
    kovilt demo work_dirs/vqa --pretrained work_dirs/pretrain

The page, in Korean and English, is at http://127.0.0.1:7860, for this machine alone. No other machine is asked for
anything, and uploads are removed at the end. docs/en/demo.md tells the rest.
"""

from __future__ import annotations

import argparse

from kovilt.cli.arguments import CommandParser
from kovilt.cli.environment import require_extra


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'model',
        nargs='?',
        default='rooms',
        help='model folder, checkpoint (.pth), work folder, or name of a packaged model (default: rooms)',
    )
    parser.add_argument('--compare', metavar='MODEL', help='a second model, for the tab that compares two')
    parser.add_argument(
        '--pretrained',
        metavar='MODEL',
        default='rooms_encoder',
        help='pre-trained model with masked language modelling, for the tab of masked words (default: rooms_encoder)',
    )
    parser.add_argument(
        '--predictions',
        metavar='FILE',
        help='of kovilt test, for the tab of errors (default: predictions.jsonl in the work folder MODEL)',
    )
    parser.add_checkpoint_parts()
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_precision()
    parser.add_argument('--trust', action='store_true', help='run a .pt2 file, a program; only from people you trust')
    parser.add_abstention('MODEL')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: 127.0.0.1, this machine)')
    parser.add_argument('--port', type=int, default=7860, help='port, 0 = any that is free (default: 7860)')
    parser.add_argument('--max-image-mb', type=float, default=10, metavar='MB', help='of an uploaded file (10)')


def run(args: argparse.Namespace) -> None:
    require_extra('demo')
    from kovilt.serving.ending import ended_by_signals

    with ended_by_signals():  # before the imports, as those of torch and gradio take seconds
        from mmengine.logging import MMLogger

        from kovilt.serving.demo.server import serve_demo
        from kovilt.serving.demo.settings import DemoSettings

        MMLogger.get_current_instance().setLevel('WARNING')  # it writes to stdout
        serve_demo(DemoSettings(**{name: value for name, value in vars(args).items() if name != 'debug'}))

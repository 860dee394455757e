"""Serve a trained model over HTTP, also in the format of OpenAI's chat API.

    kovilt serve work_dirs/quickstart/model
    kovilt serve models/kovilt-vqa-int8 --host 0.0.0.0 --port 80 --token "$(cat token)"

http://127.0.0.1:8000/docs shows how to ask. SIGTERM ends the service after the running requests, within 10 seconds and
with exit code 0; SIGHUP loads the model anew without losing one. docs/en/serve.md tells the rest.
"""

from __future__ import annotations

import argparse
import os

from kovilt.cli.arguments import CommandParser
from kovilt.cli.environment import require_extra


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('model', help='model folder, also of ONNX; checkpoint (.pth), or work folder of a training run')
    parser.add_checkpoint_parts()
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_precision()
    parser.add_argument('--trust', action='store_true', help='run a .pt2 file, a program; only from people you trust')
    parser.add_abstention()
    parser.add_argument('--name', default='', help='of the model in answers (default: the last part of its path)')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: 127.0.0.1, this machine)')
    parser.add_argument('--port', type=int, default=8000, help='port, 0 = any that is free (default: 8000)')
    parser.add_argument(
        '--token',
        default=os.environ.get('KOVILT_TOKEN', ''),
        help='that requests must bear: Authorization: Bearer TOKEN (default: KOVILT_TOKEN of the environment)',
    )
    parser.add_argument('--workers', type=int, default=1, metavar='W', help='processes with a model each (1)')
    limits = parser.add_argument_group('limits')
    limits.add_argument('--max-batch', type=int, default=32, metavar='B', help='questions of a batch (32)')
    limits.add_argument(
        '--max-wait-ms', type=float, default=5, metavar='MS', help='that a free model waits for more questions (5)'
    )
    limits.add_argument('--max-image-mb', type=float, default=10, metavar='MB', help='of an image file (10)')
    limits.add_argument('--max-queue', type=int, default=128, metavar='N', help='requests at a time (128)')
    limits.add_argument('--timeout', type=float, default=30, metavar='S', help='seconds of a request (30)')
    limits.add_argument('--cache-images', type=int, default=32, metavar='N', help='images that stay prepared (32)')


def run(args: argparse.Namespace) -> None:
    require_extra('serve')
    from kovilt.serving.ending import ended_by_signals

    with ended_by_signals():  # before the imports, as that of torch takes seconds
        from kovilt.serving.server import serve
        from kovilt.serving.settings import ServerSettings

        serve(ServerSettings(**{name: value for name, value in vars(args).items() if name != 'debug'}))

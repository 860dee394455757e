"""Print a config as a run reads it, and the file in which each value was set.

    kovilt config                             # the names of kovilt's configs
    kovilt config rooms/vqa
    kovilt config rooms/vqa_scratch optim_wrapper
    kovilt config rooms/vqa --origins --cfg-options train_cfg.max_iters=100

`kovilt config CONFIG` prints a config file without bases. With a key or --origins it prints one value a line with its
full key, which --cfg-options takes.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from kovilt.cli.arguments import CommandParser
from kovilt.config_names import config_names
from kovilt.errors import KoviltError, nearest
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_config(nargs='?')
    parser.add_argument('key', nargs='?', metavar='KEY', help='print this part only, with origins: model.encoder')
    parser.add_argument('--origins', action='store_true', help='print the file of each value')
    parser.add_cfg_options()


def run(args: argparse.Namespace) -> None:
    if args.config is None:
        print('\n'.join(f'{name:<36}{first_sentence(file)}' for name, file in config_names().items() if name[0] != '_'))
        return
    from mmengine.logging import MMLogger

    from kovilt.engine.config import load_config
    from kovilt.engine.config_files import escape_braces
    from kovilt.engine.config_options import flatten_config
    from kovilt.engine.config_origins import ConfigOrigins

    MMLogger.get_current_instance().setLevel('WARNING')  # it logs to stdout, which holds the config
    config = load_config(args.config, args.cfg_options)
    if args.key is None and not args.origins:
        print(escape_braces(config.pretty_text))
        return
    values = {'.'.join(keys): (keys, value) for keys, value in flatten_config(config.to_dict())}
    chosen = [key for key in values if args.key is None or f'{key}.'.startswith(f'{args.key}.')]
    if not chosen:
        parts = {'.'.join(keys[:depth]) for keys, _ in values.values() for depth in range(1, len(keys) + 1)}
        raise KoviltError(f'{args.config}: no key {args.key!r}{nearest(args.key, parts)}')
    origins = ConfigOrigins(args.config, args.cfg_options)
    lines = [(f'{key} = {values[key][1]!r}', origins.find(values[key][0])) for key in chosen]
    width = min(72, max(len(line) for line, _ in lines))
    for line, origin in lines:
        show(f'{line:<{width}}  # {origin}')


def first_sentence(config: Path) -> str:
    """The first line of a config's docstring, which says what it is for."""
    return (ast.get_docstring(ast.parse(config.read_text(encoding='utf-8'))) or '').partition('\n')[0]

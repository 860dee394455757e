"""Find the faults of a data set before training does: images, texts, answers, ids, splits, leakage.

    kovilt verify kovilt_vqa_aihub --json report.json --html report.html
    kovilt verify data/custom --deep

Exit code: 0 no findings or only notes, 1 warnings, 2 errors, which stop training or falsify its scores (also 2 when
there is nothing to verify).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kovilt.cli.arguments import CommandParser, parse_columns
from kovilt.errors import KoviltError
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'data', metavar='CONFIG_OR_FOLDER', help='a training config, or a folder with a data set that kovilt reads'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write findings, counts and histograms')
    parser.add_argument(
        '--html', type=Path, metavar='FILE', help='write them as a page, with the images of some findings'
    )
    parser.add_argument(
        '--deep',
        action='store_true',
        help='decode every image, also of 10,000 and more, of which else the headers are read',
    )
    parser.add_argument('--tokenizer', help='for a folder: count tokens too (a config names its own tokenizer)')
    parser.add_argument(
        '--allow-outside',
        action='store_true',
        help='for a folder whose paths you trust: read images and follow links that lead out of it',
    )
    parser.add_columns()
    parser.add_workers('check images')
    parser.add_argument('--list', type=int, default=5, metavar='N', help='places shown of each code (default: 5)')
    parser.add_cfg_options('train_dataloader.dataset.reader.data_root=data/aihub')


def run(args: argparse.Namespace) -> int:
    from kovilt.cli.progress import progress_bar
    from kovilt.config_names import config_names
    from kovilt.engine.config import load_config
    from kovilt.files import write_json
    from kovilt.verification import sources_of_config, sources_of_folder, verify, write_verification_page

    if args.data.endswith('.py') or (args.data in config_names() and not Path(args.data).is_dir()):
        parse_columns(args.columns, config=args.data)
        sources = sources_of_config(load_config(args.data, args.cfg_options).to_dict(), args.data)
    else:
        columns = parse_columns(args.columns)
        sources = sources_of_folder(args.data, args.tokenizer, allow_outside=args.allow_outside, columns=columns)
    with progress_bar('checking') as progress:
        report = verify(sources, deep=args.deep or None, workers=args.workers, progress=progress)
    print('\n'.join(report.lines(args.list)))
    title = f'Verification of {args.data}'
    for path, write in (
        (args.json, lambda path: write_json(path, report.as_json())),
        (args.html, lambda path: write_verification_page(path, report, title=title)),
    ):
        if path:
            try:
                write(path)
            except OSError as error:
                raise KoviltError(f'{path}: the report cannot be written ({error.strerror})') from error
            show(path)
    return report.findings.exit_code

#!/usr/bin/env python
"""Find what is wrong with a data set before a training does: images, texts, answers, ids, splits, leakage.

    python tools/data/verify.py configs/kovilt_vqa_aihub.py --json report.json
    python tools/data/verify.py data/custom --deep

Exit code: 0 nothing or only notes, 1 warnings, 2 errors, which stop a training or make its numbers lie (also 2 when
there is nothing to verify).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'data', metavar='CONFIG_OR_FOLDER', help='a config of a training, or a folder with a data set that kovilt reads'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write findings, counts and histograms')
    parser.add_argument('--deep', action='store_true', help='decode every image, instead of reading its header')
    parser.add_argument('--tokenizer', help='of a folder: count its pieces too (a config names its own)')
    parser.add_argument('--workers', type=int, metavar='W', help='processes that look at images (default: one a CPU)')
    parser.add_argument('--list', type=int, default=5, metavar='N', help='places shown of each kind (default: 5)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        action='extend',
        help='override values of the config by their full paths',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    args = parser.parse_args(argv)
    if args.workers is None:
        args.workers = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if args.workers < 1:
        parser.error(f'--workers must be at least 1, not {args.workers}')
    return args


def main(args: argparse.Namespace) -> int:
    from kovilt.cli.environment import check_environment

    check_environment()
    import json

    from kovilt.cli.progress import progress_bar
    from kovilt.verification import sources_of_config, sources_of_folder, verify

    if args.data.endswith('.py'):
        sources = sources_of_config(args.data, args.cfg_options)
    else:
        sources = sources_of_folder(args.data, args.tokenizer)
    with progress_bar('checking') as progress:
        report = verify(sources, deep=args.deep, workers=args.workers, progress=progress)
    print('\n'.join(report.lines(args.list)))
    if args.json:
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report.as_json(), ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
        except OSError as error:
            raise KoviltError(f'{args.json}: the report cannot be written ({error.strerror})') from error
        print(args.json)
    return report.findings.exit_code


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

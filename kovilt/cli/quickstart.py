#!/usr/bin/env python
"""Ko-ViLT on Rooms from data to answers: draw images, pre-train, fine-tune, evaluate, ask.

    python tools/quickstart.py                    # make quickstart: ten minutes on two cores, from the shipped encoder
    python tools/quickstart.py --recipe rooms     # make rooms: pre-trains such an encoder first

Each step is one of kovilt's own tools. Started again, finished steps are skipped and an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.cli.arguments import ToolParser  # noqa: E402
from kovilt.errors import run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('--recipe', choices=('quickstart', 'rooms'), default='quickstart', help='(default: quickstart)')
    parser.add_argument(
        '--scale', choices=('default', 'tiny'), default='default', help='tiny: a minute, learns nothing'
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.files import write_json
    from kovilt.visualization import MISSING_FONT_HINT, korean_font
    from tools.recipes import quickstart_results as results
    from tools.recipes.progress import format_duration
    from tools.recipes.quickstart import SIZES, recipe_steps
    from tools.recipes.steps import run_steps

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running step, as Ctrl-C does
    os.chdir(ROOT)  # the configs and the work folder are here
    size = SIZES[args.recipe, args.scale]
    work_dir = Path('work_dirs', args.recipe if args.scale == 'default' else f'{args.recipe}_{args.scale}')
    os.environ |= {'KOVILT_ROOMS': str(work_dir / 'data'), 'KOVILT_ROOMS_ALONE': str(work_dir / 'data_alone')}
    steps = recipe_steps(args.recipe, size, work_dir)
    expected = format_duration(sum(step.seconds for step in steps))
    print(f'kovilt {args.recipe}: {len(steps)} steps into {work_dir}, about {expected} on 2 cores')
    seconds = run_steps(steps, work_dir)

    start = time.monotonic()
    summary = results.read_summary(work_dir, seconds)
    results.draw_training_curves(work_dir, summary['majority_accuracy'])
    predictions = results.draw_predictions(work_dir)
    encoder = 'the encoder pre-trained here' if args.recipe == 'rooms' else 'the shipped encoder'
    tables = results.summary_tables(summary, encoder)
    print(f'\n{results.format_tables(tables)}\n')
    summary['example'] = results.ask_model(f'{work_dir}/model', predictions[0])
    summary['seconds'] = round(summary['seconds'] + time.monotonic() - start, 1)
    summary['size'] = asdict(size)
    duration = format_duration(summary['seconds'])
    results.write_summary_page(work_dir, tables, f'make {args.recipe}, {duration} (h:mm:ss)')
    write_json(work_dir / 'summary.json', summary)
    if korean_font() is None:
        print(MISSING_FONT_HINT)
    print(f'{duration} in all · 걸린 시간. Results · 결과 보기:')
    for name in ('report.html', 'curves.png', 'contact_sheet.png', 'summary.json'):
        print(f'  {work_dir / name}')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""Ko-ViLT on Rooms from data to answers: draw images, pre-train, fine-tune, evaluate, ask.

    kovilt quickstart                    # make quickstart: ten minutes on two cores, from the shipped encoder
    kovilt quickstart --recipe rooms     # make rooms: pre-trains such an encoder first

Each step is one of kovilt's verbs; work_dirs/ of the current folder gets the results. Started again, finished steps are
skipped and an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from kovilt.cli.arguments import CommandParser


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('--recipe', choices=('quickstart', 'rooms'), default='quickstart', help='(default: quickstart)')
    parser.add_argument(
        '--scale', choices=('default', 'tiny'), default='default', help='tiny: a minute, learns nothing'
    )


def run(args: argparse.Namespace) -> None:
    from kovilt.files import write_json
    from kovilt.recipes import quickstart_results as results
    from kovilt.recipes.progress import format_duration
    from kovilt.recipes.quickstart import SIZES, recipe_steps
    from kovilt.recipes.steps import run_steps
    from kovilt.visualization import MISSING_FONT_HINT, korean_font

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running step, as Ctrl-C does
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
    results.write_summary_page(work_dir, tables, f'kovilt quickstart --recipe {args.recipe}, {duration} (h:mm:ss)')
    write_json(work_dir / 'summary.json', summary)
    if korean_font() is None:
        print(MISSING_FONT_HINT)
    print(f'{duration} in all · 걸린 시간. Results · 결과 보기:')
    for name in ('report.html', 'curves.png', 'contact_sheet.png', 'summary.json'):
        print(f'  {work_dir / name}')

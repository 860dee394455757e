"""Ko-ViLT on Rooms from data to answers: draw images, fine-tune, evaluate, ask.

    kovilt quickstart                    # make quickstart: three minutes on two cores, from the shipped encoder
    kovilt quickstart --compare          # make quickstart COMPARE=1: then also what the model is compared with
    kovilt quickstart --recipe rooms     # make rooms: pre-trains such an encoder first, hours

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
from typing import TYPE_CHECKING

from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError

if TYPE_CHECKING:
    from kovilt.recipes.steps import Step


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('--recipe', choices=('quickstart', 'rooms'), default='quickstart', help='(default: quickstart)')
    parser.add_argument(
        '--scale', choices=('default', 'tiny'), default='default', help='tiny: a minute, learns nothing'
    )
    parser.add_argument(
        '--compare',
        action='store_true',
        help='after the first results also train without images and from random weights, pre-train further, and score '
        'the alignment of words and patches',
    )


def run(args: argparse.Namespace) -> None:
    from kovilt.recipes.progress import format_duration
    from kovilt.recipes.quickstart import SIZES, recipe_steps
    from kovilt.recipes.steps import finished_steps, run_steps
    from kovilt.visualization import MISSING_FONT_HINT, korean_font

    if args.compare and args.recipe == 'rooms':
        raise KoviltError('--compare is for the quickstart; --recipe rooms trains without images in any case')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the running step, as Ctrl-C does
    size = SIZES[args.recipe, args.scale]
    work_dir = Path('work_dirs', args.recipe if args.scale == 'default' else f'{args.recipe}_{args.scale}')
    os.environ |= {'KOVILT_ROOMS': str(work_dir / 'data'), 'KOVILT_ROOMS_ALONE': str(work_dir / 'data_alone')}
    first, everything = (recipe_steps(args.recipe, size, work_dir, compare=compare) for compare in (False, True))

    def is_finished(steps: list[Step]) -> bool:
        return len(finished_steps(steps, work_dir)) == len(steps)

    parts = [first, everything] if args.compare else [first]
    if is_finished(everything) or (args.compare and is_finished(first)):  # then the first results were shown before
        parts = [everything]
    for steps in parts:
        finished = finished_steps(steps, work_dir)
        expected = format_duration(sum(step.seconds for step in steps if step.name not in finished))
        print(f'kovilt {args.recipe}: {len(steps)} steps into {work_dir}, about {expected} on 2 cores')
        _show_results(args, work_dir, run_steps(steps, work_dir), asdict(size))
    if korean_font() is None:
        print(MISSING_FONT_HINT)
    if args.recipe == 'quickstart':
        if parts[-1] is first:
            scale = '' if args.scale == 'default' else f' --scale {args.scale}'
            later = format_duration(sum(step.seconds for step in everything[len(first) :]))
            print(
                f'What the images and pre-training bring, about {later} · 비교: kovilt quickstart{scale} --compare '
                '(make quickstart COMPARE=1)'
            )
        print('Your own images · 내 이미지: kovilt train FOLDER')


def _show_results(args: argparse.Namespace, work_dir: Path, seconds: dict[str, float], size: dict[str, object]) -> None:
    """Print the tables and an answer, and write curves.png, contact_sheet.png, report.html and summary.json."""
    from kovilt.files import write_json
    from kovilt.recipes import quickstart_results as results
    from kovilt.recipes.progress import format_duration

    start = time.monotonic()
    summary = results.read_summary(work_dir, seconds)
    results.draw_training_curves(work_dir, summary)
    predictions = results.draw_predictions(work_dir)
    encoder = 'the encoder pre-trained here' if args.recipe == 'rooms' else 'the shipped encoder'
    tables = results.summary_tables(summary, encoder)
    print(f'\n{results.format_tables(tables)}\n')
    summary['example'] = results.ask_model(f'{work_dir}/model', predictions[0])
    summary['seconds'] = round(summary['seconds'] + time.monotonic() - start, 1)
    summary['size'] = size
    duration = format_duration(summary['seconds'])
    command = f'kovilt quickstart{" --recipe rooms" if args.recipe == "rooms" else ""}'
    unit = 'h:mm:ss' if duration.count(':') == 2 else 'm:ss'
    results.write_summary_page(work_dir, summary, tables, f'{command}, {duration} ({unit})')
    write_json(work_dir / 'summary.json', summary)
    print(f'{duration} in all · 걸린 시간. Results · 결과 보기:')
    for name in ('report.html', 'curves.png', 'contact_sheet.png', 'summary.json'):
        print(f'  {work_dir / name}')

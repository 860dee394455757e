"""Write a trained model's scores of answers, from which a smaller model learns beside the labels (distillation).

kovilt distill rooms rooms/vqa_distill --out work_dirs/teacher.arrow
kovilt train rooms/vqa_distill
kovilt distill work_dirs/meter_vqa kovilt_vqa_custom --out work_dirs/teacher.arrow --device cuda
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least, parse_columns
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'teacher', help='model folder, checkpoint (.pth), work folder of a training run, or name of a packaged model'
    )
    parser.add_argument(
        'data', metavar='DATA', help="the student's config, which names the data, or a folder with a data set"
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='the file to write, .arrow')
    parser.add_checkpoint_parts()
    parser.add_argument('--split', default='train', choices=('train', 'val', 'test'), help='of the data (train)')
    parser.add_argument(
        '--topk', type=at_least(1), default=20, metavar='K', help='answers to list for a question (default: 20)'
    )
    parser.add_argument('--batch-size', type=at_least(1), default=64, metavar='B', help='of the teacher (default: 64)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_precision()
    parser.add_argument('--overwrite', action='store_true', help='replace the file')
    parser.add_columns()
    parser.add_workers('read images')
    parser.add_cfg_options('train_dataloader.dataset.limit=100000')


def run(args: argparse.Namespace) -> None:
    from kovilt.apis.distillation import write_teacher_scores
    from kovilt.cli.progress import progress_bar
    from kovilt.engine.folder_config import load_data_config

    columns = parse_columns(args.columns, config=None if Path(args.data).is_dir() else args.data)
    data = load_data_config(args.data, 'kovilt_vqa_custom', args.cfg_options, columns=columns)
    with progress_bar(f'answers of {Path(args.teacher).name}', unit='questions') as progress:
        written = write_teacher_scores(
            args.teacher,
            data,
            args.out,
            split=args.split,
            topk=args.topk,
            config=args.config,
            tokenizer=args.tokenizer,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            precision=args.precision,
            overwrite=args.overwrite,
            progress=progress,
        )
    left_out = f'; {written.left_out:,} rows with a broken image are left out' if written.left_out else ''
    listed = min(args.topk, written.answers)
    show(
        f'{args.out}: {written.rows:,} questions, the {listed:,} best of {written.answers:,} answers, which have '
        f'{written.listed:.2%} of the probability{left_out}'
    )
    if written.outside is not None:
        show(f'{written.outside:.2%} of this falls on answers outside the answer vocabulary of {args.data}')

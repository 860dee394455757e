"""Answer questions about images with a trained model.

kovilt predict work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?"
kovilt predict work_dirs/vqa/epoch_10.pth room.jpg "의자가 있어요?" "의자는 몇 개예요?" --topk 3
kovilt predict work_dirs/choice/model room.jpg "소파는 무슨 색이에요?" --choices "빨간색|파란색|노란색"
kovilt predict work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?" --threshold 0.6 --abstention "모르겠음"
kovilt predict work_dirs/quickstart/model --input questions.jsonl --output answers.jsonl
kovilt predict work_dirs/quickstart/model --input images --question "소파가 있어요?" --output answers.jsonl
torchrun --nproc-per-node 2 -m kovilt predict work_dirs/quickstart/model --input questions.csv --output answers.jsonl
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kovilt.cli.arguments import CommandParser, at_least, parse_columns
from kovilt.errors import KoviltError

if TYPE_CHECKING:
    from kovilt.apis import VQAInferencer
    from kovilt.apis.question_rows import QuestionRow


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'model', help='model folder, checkpoint (.pth), work folder of a training run, or name of a packaged model'
    )
    parser.add_argument('image', nargs='?', help='image file')
    parser.add_argument('text', nargs='*', metavar='question', help='one question or several, each in quotes')
    parser.add_checkpoint_parts()
    parser.add_argument(
        '--choices',
        metavar='"A|B|C"',
        help='choose among these: any, for a model of multiple choice or a pre-trained one, else some of its answers',
    )
    parser.add_abstention()
    parser.add_argument('--topk', type=int, default=5, metavar='K', help='number of answers to list (default: 5)')
    parser.add_argument('--json', action='store_true', help='print what the API returns, one line for each question')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_precision()
    parser.add_argument('--trust', action='store_true', help='run a .pt2 file, a program; only from people you trust')
    many = parser.add_argument_group('many questions')
    many.add_argument(
        '--input', type=Path, metavar='PATH', help='JSONL, CSV or Parquet with image and question, or a folder'
    )
    many.add_argument('--output', type=Path, metavar='FILE', help='JSONL to write, a line for each question')
    many.add_argument('--question', action='append', default=[], metavar='TEXT', help='for each image of a folder')
    many.add_argument('--image-root', type=Path, metavar='FOLDER', help="of a table's images (default: its own folder)")
    many.add_argument('--allow-outside', action='store_true', help='read images outside this folder')
    many.add_argument('--batch-size', type=at_least(1), default=32, metavar='B', help='of the model (default: 32)')
    many.add_argument('--overwrite', action='store_true', help='replace the output instead of continuing it')
    parser.add_columns()
    parser.add_workers('read images')


def run(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger

    from kovilt.apis import VQAInferencer
    from kovilt.datasets.options import split_options
    from kovilt.terminal import printable

    one = args.image is not None and bool(args.text)
    if one == (args.input is not None) or (args.image is not None) != one:
        raise KoviltError('give IMAGE and QUESTION, or --input and --output')
    if (args.input is None) != (args.output is None):
        raise KoviltError('--input and --output go together: give both')
    rows = [] if args.input is None else _read_rows(args)
    MMLogger.get_current_instance().setLevel('WARNING')  # it writes to stdout, which is for the answers
    inferencer = VQAInferencer(
        args.model,
        config=args.config,
        device=args.device,
        batch_size=args.batch_size,
        tokenizer=args.tokenizer,
        trust=args.trust,
        precision=args.precision,
        choices=None if args.choices is None else split_options(args.choices),
        threshold=args.threshold,
        abstention=args.abstention,
    )
    results = inferencer(args.image, args.text, topk=args.topk) if one else []
    if inferencer.source != args.model:
        print(f'{printable(inferencer.source)}: loaded', file=sys.stderr)
    if one:
        _print_answers(inferencer, results, args)
    else:
        _write_answers(inferencer, rows, args)


def _print_answers(inferencer: VQAInferencer, results: list[dict[str, Any]], args: argparse.Namespace) -> None:
    from rich.cells import cell_len

    from kovilt.terminal import json_line, printable

    for question, result in zip(args.text, results, strict=True):
        if args.json:
            print(json_line({'image': args.image, 'question': question} | result))
            continue
        answers = [printable(row['answer']) for row in result['topk']]
        width = max(map(cell_len, answers))
        print(printable(question))
        if result.get('abstained'):
            best = f'{answers[0]} has {100 * result["score"]:.2f} %, the threshold is {100 * inferencer.threshold:g} %'
            print(f'  {printable(result["answer"])} ({best})')
        for answer, row in zip(answers, result['topk'], strict=True):
            print(f'  {answer}{" " * (width - cell_len(answer))}  {100 * row["score"]:6.2f} %')
        if result.get('unlike_training'):
            print(f'  the image is unlike those of training (distance {result["image_distance"]:.1f})')


def _read_rows(args: argparse.Namespace) -> list[QuestionRow]:
    from kovilt.apis.question_rows import read_question_rows

    return read_question_rows(
        args.input,
        questions=args.question,
        image_root=args.image_root,
        allow_outside=args.allow_outside,
        columns=parse_columns(args.columns),
    )


def _write_answers(inferencer: VQAInferencer, rows: list[QuestionRow], args: argparse.Namespace) -> None:
    from kovilt.apis.answer_file import write_answers
    from kovilt.cli.progress import progress_bar
    from kovilt.datasets.preparing_task import task_of_environment
    from kovilt.terminal import show

    task, start = task_of_environment(os.environ), time.monotonic()
    with progress_bar(f'answering {args.input.name}', unit='questions') as progress:
        summary = write_answers(
            inferencer,
            rows,
            args.output,
            topk=args.topk,
            workers=args.workers,
            task=task,
            overwrite=args.overwrite,
            progress=progress,
        )
    if summary.missing:
        show(
            f'{args.output}: {task} is done; {summary.missing:,} questions of other tasks are missing. The task that '
            'ends last writes the file; if none is running, repeat the command'
        )
        return
    failed = f', {summary.failed:,} of them with an error in place of the answer' if summary.failed else ''
    abstained = f', {summary.abstained:,} of them answered with {inferencer.abstention}' if summary.abstained else ''
    show(f'{args.output}: {summary.rows:,} questions{failed}{abstained}, in {time.monotonic() - start:.1f} s')
    if summary.failed == summary.rows:
        raise KoviltError(f'{args.output}: no question could be answered; its lines say why')

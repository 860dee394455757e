"""Answer questions about an image with a trained model.

kovilt predict work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?"
kovilt predict work_dirs/vqa/epoch_10.pth room.jpg "의자가 있어요?" "의자는 몇 개예요?" --topk 3
"""

from __future__ import annotations

import argparse
import sys

from kovilt.cli.arguments import CommandParser


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('model', help='model folder, checkpoint (.pth), or work folder of a training run')
    parser.add_argument('image', help='image file')
    parser.add_argument('question', nargs='+', help='one question or several, each in quotes')
    parser.add_checkpoint_parts()
    parser.add_argument('--topk', type=int, default=5, metavar='K', help='number of answers to list (default: 5)')
    parser.add_argument('--json', action='store_true', help='print what the API returns, one line for each question')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_argument(
        '--precision',
        choices=('float32', 'int8'),
        default='float32',
        help='int8: two to three times as fast on a CPU, and some answers change (default: float32)',
    )
    parser.add_argument('--trust', action='store_true', help='run a .pt2 file, a program; only from people you trust')


def run(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger
    from rich.cells import cell_len

    from kovilt.apis import VQAInferencer
    from kovilt.terminal import json_line, printable

    MMLogger.get_current_instance().setLevel('WARNING')  # it writes to stdout, which is for the answers
    inferencer = VQAInferencer(
        args.model,
        config=args.config,
        device=args.device,
        tokenizer=args.tokenizer,
        trust=args.trust,
        precision=args.precision,
    )
    results = inferencer(args.image, args.question, topk=args.topk)
    if inferencer.source != args.model:
        print(f'{printable(inferencer.source)}: loaded', file=sys.stderr)
    for question, result in zip(args.question, results, strict=True):
        if args.json:
            print(json_line(result))
            continue
        answers = [printable(row['answer']) for row in result['topk']]
        width = max(map(cell_len, answers))
        print(printable(question))
        for answer, row in zip(answers, result['topk'], strict=True):
            print(f'  {answer}{" " * (width - cell_len(answer))}  {100 * row["score"]:6.2f} %')

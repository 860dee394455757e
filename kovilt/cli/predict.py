#!/usr/bin/env python
"""Answer questions about an image with a trained model.

python tools/predict.py work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?"
python tools/predict.py work_dirs/vqa/epoch_10.pth room.jpg "의자가 있어요?" "의자는 몇 개예요?" --topk 3
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also without installation

from kovilt.cli.arguments import ToolParser  # noqa: E402
from kovilt.errors import run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('model', help='model folder, checkpoint (.pth), or work folder of a training run')
    parser.add_argument('image', help='image file')
    parser.add_argument('question', nargs='+', help='one question or several, each in quotes')
    parser.add_argument('--config', help='config of the checkpoint (default: the one that it carries)')
    parser.add_argument('--tokenizer', help='folder or file of the tokenizer, if it is not where the config says')
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
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    import json

    from mmengine.logging import MMLogger
    from rich.cells import cell_len

    from kovilt.apis import VQAInferencer

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
    for question, result in zip(args.question, results, strict=True):
        if args.json:
            print(json.dumps(result, ensure_ascii=False))
            continue
        width = max(cell_len(row['answer']) for row in result['topk'])
        print(question)
        for row in result['topk']:
            print(f'  {row["answer"]}{" " * (width - cell_len(row["answer"]))}  {100 * row["score"]:6.2f} %')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

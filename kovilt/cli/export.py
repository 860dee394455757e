#!/usr/bin/env python
"""Write a trained model as a folder: in HuggingFace's layout, which transformers loads, or as a graph for deployment.

    python tools/weights/export.py work_dirs/vqa/epoch_10.pth models/kovilt-vqa
    python tools/weights/export.py models/kovilt-vqa models/kovilt-vqa-onnx --format onnx
    python tools/weights/export.py models/kovilt-vqa models/kovilt-vqa-int8 --format onnx --dtype int8

predict.py and VQAInferencer load all of them. A graph is written only if its scores are those of the model (in int8:
close to them).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.cli.arguments import ToolParser  # noqa: E402
from kovilt.errors import run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('checkpoint', help='training checkpoint (.pth), work folder of a training run, or model folder')
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--config', help='config of the checkpoint (default: the one that it carries)')
    parser.add_argument('--tokenizer', help='folder or file of the tokenizer, if it is not where the config says')
    parser.add_argument(
        '--format',
        choices=('hf', 'onnx', 'pt2'),
        default='hf',
        help="hf: weights in HuggingFace's layout; onnx, pt2: graph for onnxruntime or torch.export (default: hf)",
    )
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'int8'),
        default='float32',
        help='of the weights: float16 (hf) takes half the space, int8 (onnx) a quarter and less time (float32)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an older model folder')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.apis import export_checkpoint
    from kovilt.files import read_json

    out = export_checkpoint(
        args.checkpoint,
        args.out,
        config=args.config,
        tokenizer=args.tokenizer,
        format=args.format,
        dtype=args.dtype,
        overwrite=args.overwrite,
    )
    print(f'{out}: {sum(file.stat().st_size for file in out.iterdir()) / 1e6:,.1f} MB')
    graph = read_json(out / 'kovilt.json').get('graph')
    if graph:
        print(
            f'largest difference to torch {graph["largest_difference"]:.1e} on {graph["inputs"]} batches; '
            f'one pair takes {graph["milliseconds"]} ms, in torch {graph["milliseconds_torch"]} ms'
        )


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

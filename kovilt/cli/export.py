"""Write a trained model as a folder: in HuggingFace's layout, which transformers loads, or as a graph for deployment.

    kovilt export work_dirs/vqa/epoch_10.pth models/kovilt-vqa
    kovilt export models/kovilt-vqa models/kovilt-vqa-onnx --format onnx
    kovilt export models/kovilt-vqa models/kovilt-vqa-int8 --format onnx --dtype int8
    kovilt export models/kovilt-vqa models/triton --format triton

`kovilt predict` and VQAInferencer load all of them; of a Triton model repository, its folder kovilt/1. A graph is
written only if its scores are those of the model (in int8: close to them).
"""

from __future__ import annotations

import argparse

from kovilt.cli.arguments import CommandParser
from kovilt.terminal import show


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'checkpoint',
        help='training checkpoint (.pth), work folder of a training run, model folder, or name of a packaged model',
    )
    parser.add_argument('out', help='folder to make')
    parser.add_checkpoint_parts()
    parser.add_argument(
        '--format',
        choices=('hf', 'onnx', 'pt2', 'triton'),
        default='hf',
        help="hf: weights in HuggingFace's layout; onnx, pt2: graph for onnxruntime or torch.export; triton: the ONNX "
        'graph as a model repository of Triton Inference Server (default: hf)',
    )
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float16', 'int8'),
        default='float32',
        help='of the weights: float16 (hf) takes half the space, int8 (onnx, triton) a quarter and less time (float32)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an older model folder')


def run(args: argparse.Namespace) -> None:
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
    show(f'{out}: {sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6:,.1f} MB')
    graph = read_json(next(out.rglob('kovilt.json'))).get('graph')
    if graph:
        print(
            f'largest difference to torch {graph["largest_difference"]:.1e} on {graph["inputs"]} batches; '
            f'one pair takes {graph["milliseconds"]} ms, in torch {graph["milliseconds_torch"]} ms'
        )

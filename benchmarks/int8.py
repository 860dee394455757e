"""int8 on a CPU: how fast it answers, against float32 and against transformers, and what it does to the accuracy.

    python -m benchmarks.int8                                        # speed, base size, one thread
    python -m benchmarks.int8 --graphs                               # with onnxruntime's graphs as well
    python -m benchmarks.int8 --model work_dirs/rooms/model --config configs/rooms/vqa.py    # accuracy

Speed: all variants have the same weights and answer the same batches in turn; transformers'
ViltForQuestionAnswering gets them padded to the largest of the batch, as its processor does. Times are processor time;
a ratio is the median over the rounds of each round's own ratio, and above 1 the variant of the row is faster.
Accuracy: the model folder answers the validation data of the config in float32 and in int8; --also names further
folders, such as its int8 graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.fixtures import (
    base_model,
    make_batch,
    sample_grids,
    sample_lengths,
    save_folder,
    transformers_inputs,
)
from benchmarks.report import markdown_table
from benchmarks.timing import prepare_device, ratio, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    from torch import Tensor

    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

Precision = Literal['float32', 'int8']
KOVILT, KOVILT_INT8, TRANSFORMERS = 'kovilt, float32', 'kovilt, int8', 'transformers, float32'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    positive = at_least(1)
    parser.add_argument('--batches', type=positive, nargs='+', default=[1, 8, 16], metavar='N', help='pairs (1 8 16)')
    parser.add_argument('--rounds', type=positive, default=5, metavar='N', help='timings of each variant (5)')
    parser.add_argument('--graphs', action='store_true', help='also time ONNX graphs in float32 and int8')
    parser.add_argument('--model', metavar='FOLDER', help='measure the accuracy of this model folder instead')
    parser.add_argument('--config', help='with --model: the config whose validation data is answered')
    parser.add_argument('--also', nargs='+', default=[], metavar='FOLDER', help='with --model: further model folders')
    parser.add_argument('--limit', type=positive, metavar='N', help='with --model: a sample of N questions')
    parser.add_cfg_options()
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if (args.model is None) != (args.config is None):
        raise KoviltError('--model and --config: give both, to measure the accuracy, or neither')
    machine = prepare_device('cpu')
    if args.model:
        measure_accuracy(args)
    else:
        print(f'{machine}; {args.rounds} rounds; ms a batch\n')
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(args, Path(folder))


# Speed


def measure_speed(args: argparse.Namespace, folder: Path) -> None:
    """Print a row for each batch size and each variant."""
    import torch

    variants = make_variants(folder, args.graphs)
    rng = torch.Generator().manual_seed(0)
    batches = {n: make_batch(sample_grids(n, rng), sample_lengths(n, rng), rng) for n in args.batches}
    inputs: dict[tuple[str, int], Any] = {}
    for n, batch in batches.items():
        padded = transformers_inputs(batch)
        inputs |= {(name, n): padded if name == TRANSFORMERS else batch for name in variants}
    with torch.inference_mode():
        scores = {(name, n): variants[name](batch) for (name, n), batch in inputs.items()}
        seconds = time_in_turn(
            {key: partial(variants[key[0]], batch) for key, batch in inputs.items()}, rounds=args.rounds, warm_ups=0
        )
    rows = []
    for n in args.batches:
        for name in variants:
            difference = (scores[name, n] - scores[KOVILT, n]).abs().max() / scores[KOVILT, n].std()
            rows.append(
                [
                    n,
                    name,
                    f'{statistics.median(seconds[name, n]) * 1e3:,.0f}',
                    f'{ratio(seconds[TRANSFORMERS, n], seconds[name, n]):.2f}',
                    f'{ratio(seconds[KOVILT, n], seconds[name, n]):.2f}',
                    f'{difference:.1e}',
                ]
            )
    head = ['pairs', '', 'ms', 'times transformers', 'times float32', 'scores differ by, of their spread']
    print(markdown_table(head, rows))


def make_variants(folder: Path, graphs: bool) -> dict[str, Callable[[Any], Tensor]]:
    """Functions from a batch, or from the inputs of transformers, to scores; all have the same weights."""
    import transformers

    from kovilt.apis import VQAInferencer, export_checkpoint

    model_folder = save_folder(base_model(), folder / 'model')
    theirs = transformers.ViltForQuestionAnswering.from_pretrained(model_folder).eval()
    variants: dict[str, Callable[[Any], Tensor]] = {TRANSFORMERS: lambda inputs: theirs(**inputs).logits}
    precisions: dict[str, Precision] = {KOVILT: 'float32', KOVILT_INT8: 'int8'}
    for name, precision in precisions.items():
        inferencer = VQAInferencer(model_folder, device='cpu', precision=precision)
        variants[name] = partial(score, inferencer.model)
    if graphs:
        for dtype in ('float32', 'int8'):
            exported = export_checkpoint(model_folder, folder / dtype, format='onnx', dtype=dtype)
            variants[f'onnxruntime, {dtype}'] = VQAInferencer(exported).model.scores
    return variants


def score(model: ViLTForVQA, batch: Batch) -> Tensor:
    """Scores (B, answers) of a batch from the loader."""
    return model.scores(model.data_preprocessor(batch))


# Accuracy


def measure_accuracy(args: argparse.Namespace) -> None:
    """Print the accuracy of each variant, and its difference from float32 on the same questions."""
    from mmengine.logging import MMLogger

    from kovilt.evaluation.comparison import compare_predictions

    MMLogger.get_current_instance().setLevel('WARNING')
    variants: dict[str, tuple[str, Precision]] = {'float32': (args.model, 'float32'), 'int8': (args.model, 'int8')}
    variants |= {folder: (folder, 'float32') for folder in args.also}
    predictions = {name: predict(args, *variant) for name, variant in variants.items()}
    expected = predictions['float32']
    print(f'{args.model} on {args.config}: {len(expected):,} questions, accuracy in percent\n')
    rows = []
    for name, lines in predictions.items():
        found = compare_predictions(expected, lines, names=('float32', name))
        low, high = found['difference_interval']
        changed = sum(lines[key]['answer'] != line['answer'] for key, line in expected.items())
        rows.append(
            [
                name,
                f'{found["accuracy"][1]:.2f}',
                f'{found["difference"]:+.2f}',
                f'{low:+.2f} to {high:+.2f}',
                f'{changed:,}',
                f'{found["mcnemar_p"]:.2f}',
            ]
        )
    head = ['', 'accuracy', 'less float32', '95 % interval', 'changed answers', 'McNemar p']
    print(markdown_table(head, rows))


def predict(args: argparse.Namespace, folder: str, precision: Precision) -> dict[str, dict[str, Any]]:
    """The predictions of a model folder for the config's validation data, by question, as `kovilt test` writes them."""
    import torch
    from mmengine.registry import DefaultScope

    from kovilt.apis import VQAInferencer, load_trained
    from kovilt.engine.config import load_config
    from kovilt.engine.hooks.predictions import prediction_line
    from kovilt.engine.runner import KoviltRunner

    inferencer = VQAInferencer(folder, device='cpu', precision=precision)
    trained = load_trained(folder, graphs=True)
    config = load_config(args.config, args.cfg_options)
    if 'vqa_head' not in config.model or 'val_dataloader' not in config:
        raise KoviltError(f'{args.config}: it has no validation questions; give a config of question answering')
    data = config.val_dataloader.to_dict()
    data['dataset'].update(
        keep_record=True, test_mode=True, image_pipeline=trained.image_pipeline, text_pipeline=trained.text_pipeline
    )
    if args.limit is not None:
        data['dataset']['limit'] = args.limit
    lines = {}
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.inference_mode():
        for micro_batches in KoviltRunner.build_dataloader({**data, 'num_workers': 0}, seed=0):
            for batch in micro_batches:
                for prediction, record in zip(inferencer.model(batch, mode='predict'), batch['records'], strict=True):
                    line = prediction_line(prediction | {'record': record})
                    lines[str(line['question_id'])] = line
    return lines


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""float32, bfloat16 and int8 on a CPU: how fast each answers, and what it does to the accuracy.

    python -m benchmarks.precision                                   # speed, base size, one thread
    python -m benchmarks.precision --graphs                          # with onnxruntime's graphs as well
    python -m benchmarks.precision --model work_dirs/rooms/model --config configs/rooms/vqa.py    # its accuracy

Speed: all variants have the same weights and answer the same batches in turn; transformers'
ViltForQuestionAnswering gets them padded to the largest of the batch, as its processor does. Times are processor time;
a ratio is the median over the rounds of each round's own ratio, and above 1 the variant of the row is faster.
Accuracy: the model folder answers the validation data of the config in each precision, every batch in each in turn;
--also names further folders of the same model, such as its int8 graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from benchmarks.fixtures import (
    base_model,
    make_batch,
    sample_grids,
    sample_lengths,
    save_folder,
    transformers_inputs,
)
from benchmarks.report import markdown_table
from benchmarks.timing import prepare_device, processor_clock, ratio, time_in_turn
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    from torch import Tensor

    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

KOVILT, TRANSFORMERS = 'kovilt, float32', 'transformers, float32'


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
    from kovilt.apis.precision import Precision

    model_folder = save_folder(base_model(), folder / 'model')
    theirs = transformers.ViltForQuestionAnswering.from_pretrained(model_folder).eval()
    variants: dict[str, Callable[[Any], Tensor]] = {TRANSFORMERS: lambda inputs: theirs(**inputs).logits}
    for precision in get_args(Precision):
        inferencer = VQAInferencer(model_folder, device='cpu', precision=precision)
        variants[f'kovilt, {precision}'] = partial(score, inferencer.model)
    if graphs:
        for dtype in ('float32', 'int8'):
            exported = export_checkpoint(model_folder, folder / dtype, format='onnx', dtype=dtype)
            variants[f'onnxruntime, {dtype}'] = VQAInferencer(exported).model.scores
    return variants


def score(model: ViLTForVQA, batch: Batch) -> Tensor:
    """Scores (B, answers) of a batch from the loader."""
    return model.scores(model.data_preprocessor(batch))


# Accuracy

Lines = dict[str, dict[str, Any]]  # predictions by question, as `kovilt test` writes them


def measure_accuracy(args: argparse.Namespace) -> None:
    """Print the accuracy and speed of each variant, and its differences from float32 on the same questions."""
    from mmengine.logging import MMLogger

    from kovilt.apis import VQAInferencer
    from kovilt.apis.precision import Precision
    from kovilt.evaluation.comparison import compare_predictions

    MMLogger.get_current_instance().setLevel('WARNING')
    variants = {name: VQAInferencer(args.model, device='cpu', precision=name).model for name in get_args(Precision)} | {
        folder: VQAInferencer(folder, device='cpu').model for folder in args.also
    }
    predictions, seconds = predict(args, variants)
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
                f'{sum(seconds[name]) / len(lines) * 1e3:.2f}',
                f'{ratio(seconds["float32"], seconds[name]):.2f}',
            ]
        )
    head = ['', 'accuracy', 'less float32', '95 % interval', 'changed answers', 'McNemar p', 'ms', 'times float32']
    print(markdown_table(head, rows))


def predict(args: argparse.Namespace, variants: dict[str, Any]) -> tuple[dict[str, Lines], dict[str, list[float]]]:
    """Predictions for the config's validation data, and the seconds of each batch, by variant."""
    import torch
    from mmengine.registry import DefaultScope

    from kovilt.apis import load_trained
    from kovilt.engine.config import load_config
    from kovilt.engine.hooks.predictions import prediction_line
    from kovilt.engine.runner import KoviltRunner

    trained = load_trained(args.model, graphs=True)
    config = load_config(args.config, args.cfg_options)
    if 'vqa_head' not in config.model or 'val_dataloader' not in config:
        raise KoviltError(f'{args.config}: it has no validation questions; give a config of question answering')
    data = config.val_dataloader.to_dict()
    data['dataset'].update(
        keep_record=True, test_mode=True, image_pipeline=trained.image_pipeline, text_pipeline=trained.text_pipeline
    )
    if args.limit is not None:
        data['dataset']['limit'] = args.limit
    lines: dict[str, Lines] = {name: {} for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.inference_mode():
        for micro_batches in KoviltRunner.build_dataloader({**data, 'num_workers': 0}, seed=0):
            for batch in micro_batches:
                for name, model in variants.items():
                    start = processor_clock()
                    answered = model(batch, mode='predict')
                    seconds[name].append(processor_clock() - start)
                    for prediction, record in zip(answered, batch['records'], strict=True):
                        line = prediction_line(prediction | {'record': record})
                        lines[name][str(line['question_id'])] = line
    return lines, seconds


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

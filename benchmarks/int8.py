"""int8 on a CPU: how fast it answers, against float32 and against transformers, and what it does to the accuracy.

    python benchmarks/int8.py                                        # speed, base size, one thread
    python benchmarks/int8.py --graphs                               # the same with onnxruntime's graphs
    python benchmarks/int8.py --model work_dirs/rooms/model --config configs/rooms/vqa.py    # accuracy

Speed: transformers' ViltForQuestionAnswering has the same weights and gets the same images and questions, padded to
the largest of the batch, as its processor pads them. All are timed in turn, by the processor's time; a ratio is the
median over the rounds of each round's own. Accuracy: the model folder answers the validation data of the config in
float32 and in int8, batch by batch; --also names further folders, such as its int8 graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from benchmarks.rounds import prepare_device, ratio, time_in_turn  # noqa: E402
from benchmarks.work import base_model, draw_grids, draw_lengths, make_batch, save_folder  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from kovilt.batch import Batch

FLOAT, INT8, THEIRS = 'kovilt, float32', 'kovilt, int8', 'transformers, float32'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 8, 16], metavar='N', help='pairs (1 8 16)')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='how often each is timed (5)')
    parser.add_argument('--graphs', action='store_true', help='time ONNX graphs, float32 and int8, too')
    parser.add_argument('--model', metavar='FOLDER', help='measure the accuracy of this model folder instead')
    parser.add_argument('--config', help='with --model: whose validation data is asked')
    parser.add_argument('--also', nargs='+', default=[], metavar='FOLDER', help='with --model: further model folders')
    parser.add_argument('--limit', type=int, metavar='N', help='with --model: so many questions, drawn')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', action='extend', help='override the config'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if (args.model is None) != (args.config is None):
        raise KoviltError('--model and --config: give both, to measure the accuracy, or neither')
    if min(args.rounds, *args.batches, 1 if args.limit is None else args.limit) < 1:
        raise KoviltError('--batches, --rounds and --limit must be at least 1')
    machine, _ = prepare_device('cpu')
    if args.model:
        measure_accuracy(args)
    else:
        print(f'{machine}; {args.rounds} rounds; ms a batch\n')
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(args, Path(folder))


def measure_speed(args: argparse.Namespace, folder: Path) -> None:
    """Prints a row for each size of batch and each way of answering it."""
    import torch

    ways = _ways(folder, args.graphs)
    chance = torch.Generator().manual_seed(0)
    batches = {n: make_batch(draw_grids(n, chance), draw_lengths(n, chance), chance) for n in args.batches}
    with torch.inference_mode():
        inputs = {n: for_transformers(batch) for n, batch in batches.items()}
        given = {(name, n): inputs[n] if name == THEIRS else batch for name in ways for n, batch in batches.items()}
        scores = {key: ways[key[0]](batch) for key, batch in given.items()}
        taken = time_in_turn(
            {key: lambda key=key: ways[key[0]](given[key]) for key in given}, rounds=args.rounds, warm_ups=0
        )
    print('| pairs | | ms | times transformers | times float32 | scores differ by, of their spread |')
    print('|---:|---|---:|---:|---:|---:|')
    for n in args.batches:
        for name in ways:
            off = (scores[name, n] - scores[FLOAT, n]).abs().max() / scores[FLOAT, n].std()
            print(
                f'| {n} | {name} | {statistics.median(taken[name, n]) * 1e3:,.0f} | '
                f'{ratio(taken[THEIRS, n], taken[name, n]):.2f} | {ratio(taken[FLOAT, n], taken[name, n]):.2f} | '
                f'{off:.1e} |'
            )


def _ways(folder: Path, graphs: bool) -> dict[str, Callable[[Any], Tensor]]:
    """From a batch, or from the inputs of transformers, to scores; the same weights behind all."""
    import transformers

    from kovilt.apis import VQAInferencer, export_checkpoint

    place = save_folder(base_model(), folder / 'model')
    theirs = transformers.ViltForQuestionAnswering.from_pretrained(place).eval()
    ways = {THEIRS: lambda inputs: theirs(**inputs).logits}
    for name, precision in ((FLOAT, 'float32'), (INT8, 'int8')):
        model = VQAInferencer(place, device='cpu', precision=precision).model
        ways[name] = lambda batch, model=model: model.scores(model.data_preprocessor(batch))
    if graphs:
        for dtype in ('float32', 'int8'):
            graph = VQAInferencer(export_checkpoint(place, folder / dtype, format='onnx', dtype=dtype)).model
            ways[f'onnxruntime, {dtype}'] = graph.scores
    return ways


def for_transformers(batch: Batch) -> dict[str, Tensor]:
    """The images of a batch as padded pixels (I, 3, H, W) with their mask, one a question, and its words."""
    import torch

    grids = batch['grids'].tolist()
    side = round((batch['patches'].shape[1] / 3) ** 0.5)
    height, width = (side * max(sizes) for sizes in zip(*grids, strict=True))
    pixels, mask = torch.zeros(len(grids), 3, height, width), torch.zeros(len(grids), height, width, dtype=torch.int64)
    pieces = batch['patches'].split([rows * columns for rows, columns in grids])
    for number, ((rows, columns), piece) in enumerate(zip(grids, pieces, strict=True)):
        image = piece.view(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, rows * side, -1)
        pixels[number, :, : rows * side, : columns * side] = image.float() / 127.5 - 1
        mask[number, : rows * side, : columns * side] = 1
    return dict(
        input_ids=batch['input_ids'],
        attention_mask=batch['text_mask'].long(),
        pixel_values=pixels[batch['image_index']],
        pixel_mask=mask[batch['image_index']],
    )


def measure_accuracy(args: argparse.Namespace) -> None:
    """Prints the accuracy of each way and how it differs from float32 on the same questions."""
    from mmengine.logging import MMLogger

    from kovilt.evaluation.comparison import compare_predictions

    MMLogger.get_current_instance().setLevel('WARNING')
    ways = {'float32': (args.model, 'float32'), 'int8': (args.model, 'int8')}
    ways |= {folder: (folder, 'float32') for folder in args.also}
    answered = {name: predictions(args, *way) for name, way in ways.items()}
    expected = answered['float32']
    print(f'{args.model} on {args.config}: {len(expected):,} questions, accuracy in percent\n')
    print('| | accuracy | less float32 | 95 % interval | other answers | McNemar p |\n|---|---:|---:|---:|---:|---:|')
    for name, ours in answered.items():
        found = compare_predictions(expected, ours, names=('float32', name))
        changed = sum(ours[key]['answer'] != line['answer'] for key, line in expected.items())
        print(
            f'| {name} | {found["accuracy"][1]:.2f} | {found["difference"]:+.2f} | {{:+.2f}} to {{:+.2f}} | '.format(
                *found['difference_interval']
            )
            + f'{changed:,} | {found["mcnemar_p"]:.2f} |'
        )


def predictions(args: argparse.Namespace, folder: str, precision: str) -> dict[str, dict[str, Any]]:
    """What a model folder answers to the config's validation data, by question, as tools/test.py would write it."""
    import torch
    from mmengine.registry import DefaultScope

    from kovilt.apis import VQAInferencer, load_trained
    from kovilt.engine.config import load_config
    from kovilt.engine.hooks.predictions import prediction_line
    from kovilt.engine.runner import KoviltRunner

    ask = VQAInferencer(folder, device='cpu', precision=precision)
    trained = load_trained(folder, graphs=True)
    config = load_config(args.config, args.cfg_options)
    if 'vqa_head' not in config.model or 'val_dataloader' not in config:
        raise KoviltError(f'{args.config}: it has no questions to ask; name a config of question answering')
    data = config.val_dataloader.to_dict()
    data['dataset'].update(
        keep_record=True, test_mode=True, image_pipeline=trained.image_pipeline, text_pipeline=trained.text_pipeline
    )
    if args.limit is not None:
        data['dataset']['limit'] = args.limit
    lines = {}
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.inference_mode():
        for parts in KoviltRunner.build_dataloader({**data, 'num_workers': 0}, seed=0):
            for batch in parts:
                for prediction, record in zip(ask.model(batch, mode='predict'), batch['records'], strict=True):
                    line = prediction_line(prediction | {'record': record})
                    lines[str(line['question_id'])] = line
    return lines


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""Which signals tell what a model should not answer? AUROCs on Rooms with 95 % bootstrap intervals.

    python -m benchmarks.abstention data/rooms --foreign FOLDER ...
    python -m benchmarks.abstention data/rooms --foreign FOLDER --parts images texts

images: validation images of Rooms against foreign ones, all asked with questions of Rooms: parts of the photographs in
the given folders, drawn documents, noise, single colors, altered images of Rooms. Signals: 1 - the probability of the
answer, and the Mahalanobis distance of three vectors: the mean of the patch states without a text (that of `kovilt
distance`), the pooled state of image and question, and the mean of the patch embeddings. Parts of a photograph are
resampled together.
texts: questions of Rooms against questions about other things, by the share of unknown tokens.
classes: unanswerable questions of Rooms, as a class of their own in training (`class`), or by the probability of the
answer of a model that was trained without them (`threshold`). Both start from the encoder of the model and take the
same number of steps; without images the class shows what the words alone tell. "same types" leaves out the types of
answerable questions that no unanswerable one resembles, such as counts. "declined" is the share of unanswerable
questions that is declined where 5 % of the answerable ones are. Images are resampled with their questions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.abstention_images import FOREIGN_QUESTIONS, MADE, altered_images, foreign_images
from benchmarks.report import Report
from benchmarks.timing import run_kovilt
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    import numpy as np

    from kovilt.apis import VQAInferencer
    from kovilt.rooms.questions import Question

PARTS = 'images', 'texts', 'classes'
VECTORS = {
    'states': 'distance of the mean patch state',
    'pooled': 'distance of the pooled state',
    'embeddings': 'distance of the mean patch embedding',
}
DECLINED = 0.05  # of the answerable questions
CONFIG = """
_base_ = {base!r}
reader = dict(type='PlainReader', data_root={data!r}, allow_outside=True)
texts = [dict(type='TokenizeKorean', tokenizer={model!r}, max_text_len={max_text_len})]
images = {image_pipeline!r}
train_dataloader = dict(batch_size=64, dataset=dict(reader=reader, text_pipeline=texts, image_pipeline=images))
val_dataloader = dict(dataset=dict(reader=reader, text_pipeline=texts, image_pipeline=images))
model = dict(encoder=dict(_delete_=True, vocab_size=None, **{encoder!r}))
load_from = {model!r}
load_encoder_only = True
custom_hooks = []
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_iters={steps}, val_interval={steps})
default_hooks = dict(checkpoint=dict(interval={steps}), predictions=dict(type='PredictionsHook', out={out!r}))
"""


class Pair(NamedTuple):
    """A question about an image; pairs of one `group` are not independent."""

    image: Any
    question: str
    group: str


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('rooms', type=Path, help='folder written by `kovilt rooms`')
    parser.add_argument('--model', default='rooms', help='that answers its questions (default: the packaged one)')
    parser.add_argument('--foreign', type=Path, nargs='+', default=[], metavar='FOLDER', help='foreign photographs')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS, help='(default: all)')
    parser.add_argument('--crops', type=at_least(1), default=10, metavar='N', help='parts of each photograph (10)')
    parser.add_argument('--fit', type=at_least(20), default=2000, metavar='N', help='training images of a detector')
    parser.add_argument('--val-images', type=at_least(2), default=500, metavar='N', help='validation images (500)')
    parser.add_argument('--train-images', type=at_least(1), default=1500, metavar='N', help='of the classes (1500)')
    parser.add_argument('--steps', type=at_least(1), default=150, metavar='N', help='of 64 questions each (150)')
    parser.add_argument('--seed', type=int, default=0, help='of samples and trainings (0)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures too')
    args = parser.parse_args(argv)
    if 'images' in args.parts and not args.foreign:
        parser.error('argument --foreign: give a folder of photographs, or --parts texts classes')
    return args


def read_rooms(rooms: Path, split: str, count: int) -> Iterator[tuple[Path, list[Question], list[Question]]]:
    """The first images of a split, with their questions and with unanswerable ones."""
    from kovilt.files import read_json
    from kovilt.rooms.questions import write_questions
    from kovilt.rooms.scene import sample_scene
    from kovilt.rooms.unanswerable import write_unanswerable
    from kovilt.rooms.write import SUMMARY_FILE, coco_name

    known = read_json(rooms / SUMMARY_FILE)
    there, seed = known['images' if split == 'train' else 'val_images'], known['seed']
    if there < count:
        raise KoviltError(f'{rooms}: {there} images of {split}, {count} are needed; draw more by kovilt rooms')
    for index in range(count):
        scene = sample_scene(seed, split, index, alone=known['alone'] if split == 'train' else 0.0)
        drawn = seed, split, index
        image = rooms / 'captions' / coco_name(split, index)[1]
        yield image, write_questions(scene, *drawn), write_unanswerable(scene, *drawn)


def describe(inferencer: VQAInferencer, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The probability of the answer to each pair, float (N,), and VECTORS, float tensors (N, F)."""
    import torch

    from kovilt.datasets.collate import pack

    model, found = inferencer.model, {name: [] for name in ('confidence', *VECTORS)}
    for start in range(0, len(pairs), inferencer.batch_size):
        samples = [
            inferencer.transforms.read_question(pair.question).tokens
            | dict(image=inferencer.transforms.read_image(pair.image), image_id=number, sample_seed=0)
            for number, pair in enumerate(pairs[start : start + inferencer.batch_size])
        ]
        with torch.inference_mode():
            batch = model.data_preprocessor(pack(samples))
            pooled = model.pooled(batch)
            embedded = model.encoder.embed_images(batch['patches'], batch['grids'])  # (sum of 1 + P, D)
            tokens = (batch['grids'].prod(dim=1) + 1).tolist()
            found['confidence'].append(model.head(pooled).softmax(dim=1).amax(dim=1))
            found['states'].append(model.image_features(batch))
            found['pooled'].append(pooled)
            found['embeddings'].append(torch.stack([own.mean(dim=0) for own in embedded.split(tokens)]))
        if start // inferencer.batch_size % 20 == 0:
            print(f'{start}/{len(pairs)} pairs', file=sys.stderr, flush=True)
    joined: dict[str, Any] = {name: torch.cat(parts) for name, parts in found.items()}
    return joined | {'confidence': joined['confidence'].double().numpy()}


def area(signal: np.ndarray, positive: np.ndarray, groups: Sequence[str]) -> str:
    """An AUROC with its interval."""
    from kovilt.evaluation.auroc import auroc, auroc_interval

    low, high = auroc_interval(signal, positive, groups)
    return f'{auroc(signal, positive):.3f} ({low:.3f} to {high:.3f})'


def compare_images(args: argparse.Namespace, inferencer: VQAInferencer, report: Report) -> None:
    import numpy as np

    from kovilt.modules import ViLT
    from kovilt.weights.image_detector import fit_image_detector

    if type(inferencer.model.encoder) is not ViLT:
        raise KoviltError(f'{args.model}: the embeddings of a ViLT are compared; name another model')
    rng = np.random.default_rng(args.seed)
    train, val = (
        [
            Pair(image, asked[rng.integers(len(asked))].text, str(image))
            for image, asked, _ in read_rooms(args.rooms, *wanted)
        ]
        for wanted in (('train', args.fit), ('val', args.val_images))
    )
    kinds = foreign_images(args.foreign, args.crops, args.seed) | altered_images([one.image for one in val[:MADE]])
    fitted, own = describe(inferencer, train), describe(inferencer, val)
    detectors = {name: fit_image_detector(fitted[name]) for name in VECTORS}
    rows: list[list[object]] = []
    for kind, images in kinds.items():
        pairs = [Pair(image, val[rng.integers(len(val))].question, group) for image, group in images]
        other = describe(inferencer, pairs)
        foreign = np.arange(len(val) + len(pairs)) >= len(val)
        groups = [pair.group for pair in (*val, *pairs)]
        signals = {'1 - probability of the answer': 1 - np.append(own['confidence'], other['confidence'])}
        told = {}
        for name, label in VECTORS.items():
            parts = [detectors[name].distances(vectors[name]).numpy() for vectors in (own, other)]
            signals[label] = np.concatenate(parts)
            told[label] = [f'{100 * (part > detectors[name].threshold).mean():.1f}' for part in reversed(parts)]
        for label, signal in signals.items():
            sizes = len(pairs), len(set(groups[len(val) :])), len(val)
            rows.append([kind, label, *sizes, area(signal, foreign, groups), *told.get(label, ('', ''))])
    head = ['foreign', 'signal', 'images', 'of sources', 'of Rooms', 'AUROC', 'above 99 % (%)', 'of Rooms (%)']
    report.add_table('images', head, rows)


def compare_texts(args: argparse.Namespace, inferencer: VQAInferencer, report: Report) -> None:
    import numpy as np

    own = [asked[0].text for _, asked, _ in read_rooms(args.rooms, 'val', args.val_images)]
    texts = [*own, *FOREIGN_QUESTIONS]
    share = np.array([inferencer.transforms.read_question(text).unknown_token_share for text in texts], dtype=float)
    foreign = np.arange(len(texts)) >= len(own)
    above = [f'{100 * (part > 0).mean():.1f}' for part in (share[foreign], share[~foreign])]
    head = ['signal', 'foreign', 'of Rooms', 'AUROC', 'with unknown tokens (%)', 'of Rooms (%)']
    counts = len(FOREIGN_QUESTIONS), len(own)
    report.add_table('texts', head, [['unknown-token share', *counts, area(share, foreign, texts), *above]])


def write_tables(args: argparse.Namespace, folder: Path, *, unanswerable: bool) -> None:
    """The tables of a training with or without unanswerable questions, and of a validation with them."""
    folder.mkdir()
    for split, count in (('train', args.train_images), ('val', args.val_images)):
        with (folder / f'{split}.jsonl').open('w', encoding='utf-8') as file:
            for image, asked, more in read_rooms(args.rooms, split, count):
                for row in [*asked, *(more if unanswerable or split == 'val' else ())]:
                    values = dict(question=row.text, answer=row.answer, answer_type=row.answer_type)
                    place = os.path.relpath(image.resolve(), folder.resolve())
                    file.write(json.dumps({'image': place, **values}, ensure_ascii=False) + '\n')


def train(args: argparse.Namespace, folder: Path, *, sees_images: bool) -> list[dict[str, Any]]:
    """Train on the tables of a folder; the predictions of the validation."""
    from kovilt.config_names import find_config
    from kovilt.files import read_json_lines
    from kovilt.model_names import find_model
    from kovilt.recipes import commands
    from kovilt.weights.folder_info import read_folder_info

    model = find_model(args.model).absolute()
    info = read_folder_info(model)
    pipeline = info['image_pipeline'] if sees_images else [dict(type='NoImage')]
    values = dict(image_pipeline=pipeline, max_text_len=info['max_text_len'])
    encoder = {key: value for key, value in info['model']['encoder'].items() if key != 'vocab_size'}
    config, out = folder / 'training.py', folder / 'predictions.jsonl'
    base, data = str(find_config('kovilt_vqa_custom_small')), str(folder.absolute())
    values |= dict(base=base, data=data, model=str(model), encoder=encoder, steps=args.steps, out=str(out.absolute()))
    config.write_text(CONFIG.format(**values), encoding='utf-8')
    seconds = run_kovilt(commands.train(str(config), folder / 'run', seed=args.seed, amp=''))
    print(f'{folder.name}: {args.steps} steps, {seconds:.0f} s of processor time', file=sys.stderr, flush=True)
    return [line for _, line in read_json_lines(out, 'table')]


def compare_classes(args: argparse.Namespace, report: Report) -> None:
    import numpy as np

    from benchmarks.explaining import percent_with_interval
    from kovilt.rooms.unanswerable import WRITERS
    from kovilt.unanswerable import UNANSWERABLE

    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for way in ('threshold', 'class', 'class without images'):
            folder, has_class = Path(scratch, way.replace(' ', '_')), way != 'threshold'
            write_tables(args, folder, unanswerable=has_class)
            predictions = train(args, folder, sees_images=way != 'class without images')
            without = np.array([line['answer_type'] == UNANSWERABLE for line in predictions])
            correct = np.array([line['correct'] for line in predictions], dtype=float)
            images = np.array([line['image'] for line in predictions])
            alike = np.array([line['answer_type'] in (UNANSWERABLE, *WRITERS) for line in predictions])
            signals = {'1 - probability of the answer': 1 - np.array([line['score'] for line in predictions])}
            if has_class:
                signals['probability of the class'] = np.array([line['unanswerable'] for line in predictions])
            accuracy = '{} ({})'.format(*percent_with_interval(correct[~without], images[~without]))
            found = '{} ({})'.format(*percent_with_interval(correct[without], images[without]))
            for label, signal in signals.items():
                limit = np.quantile(signal[~without], 1 - DECLINED)
                declined = '{} ({})'.format(
                    *percent_with_interval((signal[without] > limit).astype(float), images[without])
                )
                areas = area(signal, without, images), area(signal[alike], without[alike], images[alike])
                rows.append([way, label, accuracy, found if has_class else '', *areas, declined])
    head = ['way', 'signal', 'answerable right (%)', 'unanswerable right (%)', 'AUROC', 'same types', 'declined (%)']
    report.add_table('classes', head, rows)
    print(f'{(~without).sum():,} answerable and {without.sum():,} unanswerable questions')


def main(args: argparse.Namespace) -> None:
    from kovilt.apis import VQAInferencer
    from kovilt.files import write_json

    report = Report()
    inferencer = VQAInferencer(args.model, device='cpu', batch_size=64)
    if 'images' in args.parts:
        compare_images(args, inferencer, report)
    if 'texts' in args.parts:
        compare_texts(args, inferencer, report)
    if 'classes' in args.parts:
        compare_classes(args, report)
    if args.json:
        write_json(args.json, report.numbers)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

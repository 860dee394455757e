"""Score the word-patch alignment of a pre-trained model against the boxes of Rooms.

    kovilt alignment work_dirs/pretrain/iter_2000.pth data/rooms --out work_dirs/alignment

OUT/alignment.json holds the share of object words whose patch of most transported mass lies in a box of their object,
in percent, beside the shares of a random patch and of the patches of the other object words of the image.
OUT/example.png shows the transport plan of one caption.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError
from kovilt.files import read_bytes

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.datasets import PairDataset
    from kovilt.models import ViLTForPreTraining


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('model', help='a checkpoint (.pth), model folder or packaged model of pre-training')
    parser.add_argument('rooms', type=Path, help='folder written by `kovilt rooms`')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--limit', type=at_least(1), metavar='N', help='score N sampled captions (default: all)')
    parser.add_argument(
        '--batch-size', type=at_least(1), default=64, metavar='B', help='captions a batch (default: 64)'
    )


def collate(dataset: PairDataset, rows: list[int]) -> list[Batch]:
    """The batch of some rows as the data loader gives it: a list of one micro-batch."""
    from kovilt.registry import FUNCTIONS

    return FUNCTIONS.get('PairCollate')(dataset.__getitems__(rows))


def batches(dataset: PairDataset, size: int) -> Iterator[list[Batch]]:
    """All rows in order, `size` at a time."""
    for start in range(0, len(dataset), size):
        rows = list(range(start, min(start + size, len(dataset))))
        print(f'captions {rows[-1] + 1}/{len(dataset)}', flush=True)
        yield collate(dataset, rows)


def draw_example(model: ViLTForPreTraining, dataset: PairDataset, boxes: Path, out: Path) -> None:
    """Draw the caption that names most objects, of the first 50: a panel a word, with the boxes of its object."""
    from kovilt.datasets.image_formats import open_image
    from kovilt.evaluation.alignment import find_object_words, read_boxes
    from kovilt.visualization import draw_alignment

    images, names = read_boxes(boxes)
    records = [dataset.record(row) for row in range(min(50, len(dataset)))]
    record = max(records, key=lambda record: len({name for _, name in find_object_words(record['text'], names)}))
    (batch,) = collate(dataset, [record['row']])
    plan = model.align(batch)[0][0].float().cpu().numpy()  # (L, P)
    word_ids, grid = batch['word_ids'][0].numpy(), batch['grids'][0].tolist()
    words = record['text'].split()[: word_ids.max() + 1]
    mass = [plan[word_ids == number].sum(0).reshape(grid) for number in range(len(words))]
    image = open_image(read_bytes(record['image'], 'image'))
    named = dict(find_object_words(record['text'], names))
    boxes_of = images[Path(record['image']).name]
    shares = [boxes_of.get(named[number], ()) if number in named else () for number in range(len(words))]
    sides = (image.width, image.height) * 2
    found = [[[share * side for share, side in zip(box, sides, strict=True)] for box in group] for group in shares]
    draw_alignment(image, words, mass, out, boxes=found)


def run(args: argparse.Namespace) -> None:
    boxes = args.rooms / 'boxes.jsonl'
    if not boxes.is_file():
        raise KoviltError(f'{boxes}: no such file; draw Rooms: kovilt rooms {args.rooms} --images 2000')
    from kovilt.apis import load_trained
    from kovilt.datasets import AIHubCOCOKoreanReader, PairDataset
    from kovilt.evaluation.alignment import score_alignment
    from kovilt.files import write_json

    trained = load_trained(args.model, kind='ViLTForPreTraining')
    dataset = PairDataset(
        reader=AIHubCOCOKoreanReader(data_root=str(args.rooms / 'captions'), split='val'),
        image_pipeline=trained.image_pipeline,
        text_pipeline=trained.text_pipeline,
        limit=args.limit,
        keep_record=True,
        test_mode=True,
    )
    score = score_alignment(trained.model, batches(dataset, args.batch_size), boxes)
    draw_example(trained.model, dataset, boxes, args.out / 'example.png')
    write_json(args.out / 'alignment.json', score)
    low, high = score['alignment_interval']
    swapped = score['alignment_swapped']
    others = '' if swapped is None else f', patches of the other object words: {swapped:.1f} %'
    print(
        f'{score["alignment_accuracy"]:.1f} % of {score["words"]:,} object words are aligned with their object '
        f'(95 %: {low:.1f} to {high:.1f}); random patches: {score["alignment_random"]:.1f} %{others}'
    )

#!/usr/bin/env python
"""Does a word look at its object? Word-patch alignment of a pre-trained model, scored against the boxes of drawn rooms.

    python tools/analysis/alignment.py work_dirs/pretrain/iter_2000.pth data/rooms --out work_dirs/alignment

OUT/alignment.json holds the share of object words whose most transported mass falls in their object's box, in percent,
beside chance and beside what the image's other object words reach; OUT/example.png shows where words of one caption
look.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a checkpoint (.pth) or model folder of pre-training')
    parser.add_argument('rooms', type=Path, help='folder written by tools/data/make_rooms.py')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--limit', type=int, metavar='N', help='score N captions drawn by seed (default: all)')
    parser.add_argument('--batch-size', type=int, default=64, metavar='B', help='captions at a time (default: 64)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def collate(dataset, rows: list[int]) -> list[dict]:
    """The batch of some rows, as a data loader gives it: a list of one micro-batch."""
    from kovilt.registry import FUNCTIONS

    return FUNCTIONS.get('PairCollate')(dataset.__getitems__(rows))


def batches(dataset, size: int) -> Iterator[list[dict]]:
    """All rows in order, `size` at a time."""
    for start in range(0, len(dataset), size):
        rows = list(range(start, min(start + size, len(dataset))))
        print(f'captions {rows[-1] + 1}/{len(dataset)}', flush=True)
        yield collate(dataset, rows)


def draw_example(model, dataset, boxes: Path, out: Path) -> None:
    """Draw, of the first captions, the one that names most objects: a panel a word, with the boxes of what it names."""
    from PIL import Image

    from kovilt.evaluation.alignment import object_words, read_boxes
    from kovilt.visualization import draw_alignment

    images, names = read_boxes(boxes)
    records = [dataset.record(row) for row in range(min(50, len(dataset)))]
    record = max(records, key=lambda record: len({name for _, name in object_words(record['text'], names)}))
    (batch,) = collate(dataset, [record['row']])
    plan = model.align(batch)[0][0].float().cpu().numpy()  # (L, P)
    word_ids, grid = batch['word_ids'][0].numpy(), batch['grids'][0].tolist()
    words = record['text'].split()[: word_ids.max() + 1]
    mass = [plan[word_ids == number].sum(0).reshape(grid) for number in range(len(words))]
    image = Image.open(record['image'])
    named = dict(object_words(record['text'], names))
    shares = [images[Path(record['image']).name].get(named.get(number), ()) for number in range(len(words))]
    sides = (image.width, image.height) * 2
    found = [[[share * side for share, side in zip(box, sides, strict=True)] for box in group] for group in shares]
    draw_alignment(image, words, mass, out, boxes=found)


def main(args: argparse.Namespace) -> None:
    boxes = args.rooms / 'boxes.jsonl'
    if not boxes.is_file():
        raise KoviltError(
            f'{boxes}: no such file; draw rooms: python tools/data/make_rooms.py {args.rooms} --images 2000'
        )
    from kovilt.apis import load_trained
    from kovilt.datasets import AIHubCOCOKorean
    from kovilt.evaluation.alignment import score_alignment

    trained = load_trained(args.model, kind='ViLTForPreTraining')
    dataset = AIHubCOCOKorean(
        data_root=str(args.rooms / 'captions'),
        split='val',
        image_pipeline=trained.image_pipeline,
        text_pipeline=trained.text_pipeline,
        limit=args.limit,
        keep_record=True,
        test_mode=True,
    )
    score = score_alignment(trained.model, batches(dataset, args.batch_size), boxes)
    args.out.mkdir(parents=True, exist_ok=True)
    draw_example(trained.model, dataset, boxes, args.out / 'example.png')
    (args.out / 'alignment.json').write_text(json.dumps(score, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    low, high = score['alignment_interval']
    swapped = score['alignment_swapped']
    others = '' if swapped is None else f', by the other object words {swapped:.1f} %'
    print(
        f'{score["alignment_accuracy"]:.1f} % of {score["words"]:,} object words look at their object '
        f'(95 %: {low:.1f} to {high:.1f}), by chance {score["alignment_chance"]:.1f} %{others}'
    )


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

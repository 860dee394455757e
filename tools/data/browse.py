#!/usr/bin/env python
"""Look at records as training sees them: images before and after the transforms, hidden words, exchanged pairs.

    python tools/data/browse.py configs/rooms/pretrain.py
    python tools/data/browse.py configs/kovilt_vqa_aihub.py --split val --count 40 --shuffle

Writes sheet_1.png, ... and index.html with them and all texts. Sheets need a font with Hangul (the page does not).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.datasets import PairDataset
    from kovilt.visualization import SampleCard, CardLine, CardToken, CardImage

ON_A_SHEET = 8
LEGEND = 'orange: hidden behind [MASK]; blue: another token in its place; green: to be guessed as it stands; red: [UNK]'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of a training')
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='(default: work_dirs/browse/<name of the config>)')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='whose loader (default: train)'
    )
    parser.add_argument('--count', type=int, default=16, metavar='N', help='records (default: 16)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='of all that is drawn (default: 0)')
    parser.add_argument('--shuffle', action='store_true', help='draw the records, instead of taking the first')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        action='extend',
        help='override values of the config by their full paths',
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f'--count must be at least 1, not {args.count}')
    return args


def open_batch(config: Any, args: argparse.Namespace) -> tuple[PairDataset, Batch]:
    """The dataset of the split's loader and one batch of its records, of as many images as can be."""
    from kovilt.datasets import ImageGroupSampler, collate_pairs
    from kovilt.registry import DATASETS

    loader = config.get(f'{args.split}_dataloader')
    if loader is None:
        raise KoviltError(f'{args.config}: it has no {args.split}_dataloader')
    dataset = DATASETS.build({**loader.dataset, 'keep_record': True, 'seed': args.seed})
    rows = ImageGroupSampler(dataset, shuffle=args.shuffle, seed=args.seed, texts_per_image=1).order()[: args.count]
    (batch,) = collate_pairs(dataset.__getitems__(rows.tolist()))
    if not len(batch['input_ids']):
        raise KoviltError(
            f'{dataset.data_root}: none of the {len(rows)} images can be read; tools/data/verify.py tells why'
        )
    return dataset, batch


def corrupted(model: dict[str, Any], batch: Batch) -> tuple[Any, Any] | None:
    """Damaged ids and labels (B, L) of the config's own head for masked words, None without one."""
    from kovilt.registry import MODELS

    if not model.get('mlm_head'):
        return None
    # What is sampled does not depend on the layers of the head.
    layers = dict(vocab_size=model['encoder']['vocab_size'], hidden_size=1, activation='gelu', init_std=0.02)
    head = MODELS.build(model['mlm_head'] | layers)
    return head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])


def exchanged(model: dict[str, Any], batch: Batch) -> dict[int, tuple[int, bool]]:
    """Pair -> (the image it is given, whether that is its own) of the pairs that take part in matching."""
    from kovilt.registry import MODELS

    if not model.get('itm_head'):
        return {}
    head = MODELS.build(model['itm_head'] | dict(hidden_size=1, init_std=0.02))
    every = model.get('matching_every', 1)
    partners, matched = head.sample_negatives(
        batch['image_index'][::every], batch['image_id'], batch['sample_seed'][::every]
    )
    pairs = range(0, len(batch['input_ids']), every)
    return {pair: (int(p), bool(m)) for pair, p, m in zip(pairs, partners, matched, strict=True)}


def answer_classes(config: Any, dataset: PairDataset) -> list[str] | None:
    """The answers of the training split, which name the classes of all splits; None for captions."""
    from kovilt.registry import DATASETS

    if 'answer' not in dataset.COLUMNS:
        return None
    if 'answers' not in dataset.metainfo and config.get('train_dataloader'):
        dataset = DATASETS.build({**config.train_dataloader.dataset, 'image_pipeline': [], 'text_pipeline': []})
    return dataset.metainfo.get('answers')


def make_cards(config: Any, dataset: PairDataset, batch: Batch) -> list[SampleCard]:
    from kovilt.engine.data_sizes import read_data_sizes
    from kovilt.models.sizes import complete_model_config
    from kovilt.visualization import SampleCard, CardImage

    model = config.model.to_dict()
    if model.get('mlm_head'):
        model = complete_model_config(model, data_sizes=read_data_sizes(dataset), tokenizer=dataset.tokenizer)
    damage, partners, images = corrupted(model, batch), exchanged(model, batch), split_images(batch)
    classes = answer_classes(config, dataset)
    cards = []
    for pair, record in enumerate(batch['records']):
        own = int(batch['image_index'][pair])
        views = [before(dataset, record), images[own]]
        if pair in partners:
            given, matched = partners[pair]
            caption = 'matching: its own image' if matched else f'matching: given that of {whose(batch, given)}'
            views.append(CardImage(images[given].image, caption, matches=matched))
        lines = text_lines(dataset, batch, pair, damage) + answer_lines(classes, batch, pair)
        cards.append(SampleCard(f'{pair + 1}   row {record["row"]}   {Path(record["image"]).name}', views, lines))
    return cards


def whose(batch: Batch, image: int) -> int:
    """The number of the first card about an image of the batch."""
    return batch['image_index'].tolist().index(image) + 1


def before(dataset: PairDataset, record: dict[str, Any]) -> CardImage:
    """The image as LoadImage gives it."""
    from PIL import Image

    from kovilt.datasets import LoadImage
    from kovilt.visualization import CardImage

    place = dataset.image_place(record['row'])
    if place is None or record.get('broken'):
        return CardImage(None, 'absent' if place is None else 'cannot be read')
    image = Image.fromarray(LoadImage().transform({'img_path': place})['img'])
    return CardImage(image, f'{image.width} x {image.height} pixels')


def split_images(batch: Batch) -> list[CardImage]:
    """The images of the batch, joined again from their patches."""
    from PIL import Image

    from kovilt.datasets.transforms.patches import join_patches
    from kovilt.visualization import CardImage

    views, start = [], 0
    for rows, columns in batch['grids'].tolist():
        patches = batch['patches'][start : start + rows * columns].numpy()
        start += rows * columns
        if not len(patches):
            views.append(CardImage(None, 'no patches'))
            continue
        pixels = join_patches(patches, (rows, columns))
        caption = f'{pixels.shape[1]} x {pixels.shape[0]}, {rows} x {columns} patches'
        views.append(CardImage(Image.fromarray(pixels), caption, (rows, columns)))
    return views


def text_lines(dataset: PairDataset, batch: Batch, pair: int, damage: tuple[Any, Any] | None) -> list[CardLine]:
    """The text, its pieces, and the pieces after some words have been hidden."""
    from kovilt.modules.heads.mlm import IGNORE_INDEX
    from kovilt.visualization import CardLine

    ids, words = batch['input_ids'][pair].tolist(), batch['word_ids'][pair].tolist()
    lines = [CardLine(dataset.TEXT, batch['records'][pair][dataset.TEXT])]
    if dataset.tokenizer is None:
        return lines
    if damage is None:
        return [*lines, CardLine('pieces', pieces(dataset, ids, words))]
    damaged, labels = damage[0][pair].tolist(), [label != IGNORE_INDEX for label in damage[1][pair].tolist()]
    mask = dataset.tokenizer.mask_token_id
    marks = [
        '' if not hidden else 'masked' if shown == mask else 'replaced' if shown != true else 'unchanged'
        for true, shown, hidden in zip(ids, damaged, labels, strict=True)
    ]
    return [
        *lines,
        CardLine('pieces', pieces(dataset, ids, words, struck=labels)),
        CardLine('damaged', pieces(dataset, damaged, words, marks)),
    ]


def pieces(
    dataset: PairDataset, ids: list[int], words: list[int], marks: Any = None, struck: Any = None
) -> list[CardToken]:
    """The tokens of the words of a text, without [CLS], [SEP] and [PAD]."""
    from kovilt.visualization import CardToken

    tokens, unknown = dataset.tokenizer.convert_ids_to_tokens(ids), dataset.tokenizer.unk_token_id
    return [
        CardToken(
            token.removeprefix('##'),
            words[at] != words[at - 1],
            (marks[at] if marks else '') or ('unknown' if ids[at] == unknown else ''),
            bool(struck and struck[at]),
        )
        for at, token in enumerate(tokens)
        if words[at] >= 0
    ]


def answer_lines(classes: list[str] | None, batch: Batch, pair: int) -> list[CardLine]:
    """The answer, what others answered, and the class that it is."""
    from collections import Counter

    import torch

    from kovilt.visualization import CardLine

    record = batch['records'][pair]
    if 'answer' not in record:
        return []
    kind = f'   ({record["answer_type"]})' if record['answer_type'] else ''
    lines = [CardLine('answer', record['answer'] + kind)]
    if 'answers' in record:
        given = Counter(record['answers']).most_common()
        lines.append(CardLine('people', ', '.join(f'{answer} x {people}' for answer, people in given)))
    if not classes:
        return lines
    label = batch['label'][pair] if 'label' in batch else torch.tensor(class_of(record['answer'], classes))
    scores = {int(n): float(label[n]) for n in label.nonzero()} if label.ndim else {int(label): 1.0}
    known = [
        f'{classes[n]} = class {n}' + (f' ({score:.1f})' if score < 1 else '') for n, score in scores.items() if n >= 0
    ]
    return [*lines, CardLine('label', ', '.join(known) or 'OOV: outside the vocabulary', warning=not known)]


def class_of(answer: str, classes: list[str]) -> int:
    return classes.index(answer) if answer in classes else -1


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment

    check_environment()
    from kovilt.engine.config import load_config
    from kovilt.visualization import MISSING_FONT_HINT, draw_cards, korean_font, write_report

    config = load_config(args.config, args.cfg_options)
    dataset, batch = open_batch(config, args)
    cards = make_cards(config, dataset, batch)
    out = args.out or Path('work_dirs', 'browse', Path(args.config).stem)
    sheets = {}
    for start in range(0, len(cards), ON_A_SHEET):
        some = cards[start : start + ON_A_SHEET]
        sheets[f'Records {start + 1} to {start + len(some)}'] = draw_cards(some, out / f'sheet_{len(sheets) + 1}.png')
    names = list(dict.fromkeys(line.name for card in cards for line in card.lines))
    paired = any(view.matches is not None for card in cards for view in card.images)
    rows = []
    for card in cards:
        texts = {line.name: line.text for line in card.lines}
        matching = next((view.caption for view in card.images if view.matches is not None), '')
        rows.append([card.title, *(texts.get(name, '') for name in names), *([matching] if paired else [])])
    header = ['record', *names, *(['pair'] if paired else [])]
    page = write_report(
        out / 'index.html',
        title=f'{Path(args.config).stem}, {args.split}',
        lead=f'{len(cards)} of {len(dataset):,} records of {dataset.data_root}. {LEGEND}.',
        tables={'Texts; masked and unknown tokens stand in brackets': (header, rows)},
        images=sheets,
        footer=f'python tools/data/browse.py {args.config} --split {args.split} --seed {args.seed}',
    )
    if korean_font() is None:
        print(MISSING_FONT_HINT)
    for path in (page, *sheets.values()):
        print(path)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

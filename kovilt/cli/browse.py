"""Shows samples as training receives them: images before and after the transforms, masked tokens, negatives, labels.

    kovilt browse rooms/pretrain
    kovilt browse kovilt_vqa_aihub --split val --count 40 --shuffle

Writes sheet_1.png, ... and an index.html with the sheets and all texts. Sheets need a font with Hangul, the page does
not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kovilt.cli.arguments import CommandParser, at_least, parse_columns
from kovilt.errors import KoviltError
from kovilt.terminal import show

if TYPE_CHECKING:
    from kovilt.batch import Batch
    from kovilt.datasets import PairDataset
    from kovilt.visualization import CardImage, CardLine, CardToken, SampleCard

CARDS_PER_SHEET = 8
LEGEND = 'orange: masked; blue: replaced by a random token; green: predicted but unchanged; red: [UNK]'


def add_arguments(parser: CommandParser) -> None:
    parser.add_config("a file or a name of kovilt's configs (rooms/vqa); or a folder with a data set")
    parser.add_columns()
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='(default: work_dirs/browse/<name of the config>)')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='whose data loader (default: train)'
    )
    parser.add_argument('--count', type=at_least(1), default=16, metavar='N', help='number of samples (default: 16)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of all random numbers (default: 0)')
    parser.add_argument('--shuffle', action='store_true', help='show random samples instead of the first ones')
    parser.add_cfg_options()


def open_batch(config: Any, args: argparse.Namespace) -> tuple[PairDataset, Batch]:
    """Open the dataset of the split's loader and one batch of its samples, of as many different images as possible."""
    from kovilt.datasets import ImageGroupSampler, collate_pairs
    from kovilt.registry import DATASETS

    loader = config.get(f'{args.split}_dataloader')
    if loader is None:
        raise KoviltError(f'{args.config}: it has no {args.split}_dataloader')
    dataset = DATASETS.build({**loader.dataset, 'keep_record': True, 'seed': args.seed})
    rows = ImageGroupSampler(dataset, shuffle=args.shuffle, seed=args.seed, texts_per_image=1).order()[: args.count]
    (batch,) = collate_pairs(dataset.__getitems__(rows.tolist()))
    if not len(batch['input_ids']):
        raise KoviltError(f'{dataset.data_root}: none of the {len(rows)} images can be read; kovilt verify tells why')
    return dataset, batch


def mask_tokens(model: dict[str, Any], batch: Batch) -> tuple[Any, Any] | None:
    """Masked ids and labels (B, L) from the config's own MLM head; None without one."""
    from kovilt.registry import MODELS

    if not model.get('mlm_head'):
        return None
    # The masking does not depend on the layers of the head.
    layers = dict(vocab_size=model['encoder']['vocab_size'], hidden_size=1, activation='gelu', init_std=0.02)
    head = MODELS.build(model['mlm_head'] | layers)
    return head.mask_tokens(batch['input_ids'], batch['word_ids'], batch['sample_seed'])


def sample_negatives(model: dict[str, Any], batch: Batch) -> dict[int, tuple[int, bool]]:
    """Of the pairs that take part in image-text matching: pair -> (its image there, whether that is its own)."""
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


def training_answers(config: Any, dataset: PairDataset) -> list[str] | None:
    """The answers of the training split, which are the labels of all splits; None for captions."""
    from kovilt.registry import DATASETS

    if 'answer' not in dataset.row_set.table:
        return None
    if 'answers' not in dataset.metainfo and config.get('train_dataloader'):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    return dataset.metainfo.get('answers')


def make_cards(config: Any, dataset: PairDataset, batch: Batch) -> list[SampleCard]:
    """One card for each pair of the batch."""
    from kovilt.engine.data_sizes import read_data_sizes
    from kovilt.models.sizes import complete_model_config
    from kovilt.visualization import CardImage, SampleCard

    model = config.model.to_dict()
    if model.get('mlm_head'):
        model = complete_model_config(model, data_sizes=read_data_sizes(dataset), tokenizer=dataset.tokenizer)
    masked, matching, images = mask_tokens(model, batch), sample_negatives(model, batch), join_images(batch)
    answers = training_answers(config, dataset)
    cards = []
    offsets = batch.get('option_offsets')  # of multiple choice; there a card is a question with its first option
    for number, record in enumerate(batch['records']):
        pair = number if offsets is None else int(offsets[number])
        own = int(batch['image_index'][pair])
        card_images = [original_image(dataset, record), images[own]]
        if pair in matching:
            image, matches = matching[pair]
            caption = 'matching: its own image' if matches else f'matching: image of card {card_of(batch, image)}'
            card_images.append(CardImage(images[image].image, caption, matches=matches))
        lines = text_lines(dataset, batch, pair, masked, record) + answer_lines(answers, batch, number)
        title = f'{number + 1}   row {record["row"]}   {Path(record["image"]).name}'
        cards.append(SampleCard(title, card_images, lines))
    return cards


def card_of(batch: Batch, image: int) -> int:
    """The number of the first card that shows an image of the batch."""
    return batch['image_index'].tolist().index(image) + 1


def original_image(dataset: PairDataset, record: dict[str, Any]) -> CardImage:
    """The image of a record as LoadImage gives it."""
    from PIL import Image

    from kovilt.datasets import LoadImage
    from kovilt.visualization import CardImage

    place = dataset.image_store[dataset.row_images[record['row']]]
    if place is None:
        return CardImage(None, 'absent')
    try:
        image = Image.fromarray(LoadImage().transform({'img_path': place})['img'])
    except KoviltError:  # also where the original of a prepared image is gone
        return CardImage(None, 'cannot be read')
    return CardImage(image, f'{image.width} x {image.height} pixels')


def join_images(batch: Batch) -> list[CardImage]:
    """The images of the batch, joined from their patches."""
    from PIL import Image

    from kovilt.datasets.transforms.patches import join_patches
    from kovilt.visualization import CardImage

    images, start = [], 0
    for rows, columns in batch['grids'].tolist():
        patches = batch['patches'][start : start + rows * columns].numpy()
        start += rows * columns
        if not len(patches):
            images.append(CardImage(None, 'no patches'))
            continue
        pixels = join_patches(patches, (rows, columns))
        caption = f'{pixels.shape[1]} x {pixels.shape[0]}, {rows} x {columns} patches'
        images.append(CardImage(Image.fromarray(pixels), caption, (rows, columns)))
    return images


def text_lines(
    dataset: PairDataset, batch: Batch, pair: int, masked: tuple[Any, Any] | None, record: dict[str, Any]
) -> list[CardLine]:
    """The text, its tokens, and the tokens after masking."""
    from kovilt.modules.heads.mlm import IGNORE_INDEX
    from kovilt.visualization import CardLine

    ids, words = batch['input_ids'][pair].tolist(), batch['word_ids'][pair].tolist()
    lines = [CardLine(dataset.reader.TEXT, record[dataset.reader.TEXT])]
    if dataset.tokenizer is None:
        return lines
    if masked is None:
        return [*lines, CardLine('tokens', card_tokens(dataset, ids, words))]
    masked_ids, predicted = masked[0][pair].tolist(), [label != IGNORE_INDEX for label in masked[1][pair].tolist()]
    mask_id = dataset.tokenizer.mask_token_id
    marks = [
        '' if not is_predicted else 'masked' if after == mask_id else 'replaced' if after != before else 'unchanged'
        for before, after, is_predicted in zip(ids, masked_ids, predicted, strict=True)
    ]
    return [
        *lines,
        CardLine('tokens', card_tokens(dataset, ids, words, struck_out=predicted)),
        CardLine('masked', card_tokens(dataset, masked_ids, words, marks)),
    ]


def card_tokens(
    dataset: PairDataset, ids: list[int], words: list[int], marks: Any = None, struck_out: Any = None
) -> list[CardToken]:
    """The tokens of the words of a text, without [CLS], [SEP] and [PAD]."""
    from kovilt.visualization import CardToken

    assert dataset.tokenizer is not None  # the batch holds tokens
    tokens, unknown_id = dataset.tokenizer.convert_ids_to_tokens(ids), dataset.tokenizer.unk_token_id
    return [
        CardToken(
            token.removeprefix('##'),
            words[at] != words[at - 1],
            (marks[at] if marks else '') or ('unknown' if ids[at] == unknown_id else ''),
            bool(struck_out and struck_out[at]),
        )
        for at, token in enumerate(tokens)
        if words[at] >= 0
    ]


def answer_lines(answers: list[str] | None, batch: Batch, number: int) -> list[CardLine]:
    """The answer to a question, its options, the answers of several people, and the label."""
    from collections import Counter

    import torch

    from kovilt.visualization import CardLine

    record = batch['records'][number]
    if 'answer' not in record:
        return []
    kind = f'   ({record["answer_type"]})' if record['answer_type'] else ''
    lines = [CardLine('answer', record['answer'] + kind)]
    if 'options' in record:
        lines.append(CardLine('options', ', '.join(record['options'])))
    if weights := record.get('answer_weights'):
        weighted = zip(record['answers'], weights, strict=True)
        lines.append(CardLine('weights', ', '.join(f'{answer} {weight:g}' for answer, weight in weighted)))
    elif 'answers' in record:
        counts = Counter(record['answers']).most_common()
        lines.append(CardLine('people', ', '.join(f'{answer} x {people}' for answer, people in counts)))
    if not answers:
        return lines
    label = batch['label'][number] if 'label' in batch else torch.tensor(label_of(record['answer'], answers))
    scores = {int(n): float(label[n]) for n in label.nonzero()} if label.ndim else {int(label): 1.0}
    known = [
        f'{answers[n]} = class {n}' + (f' ({score:.1f})' if score < 1 else '') for n, score in scores.items() if n >= 0
    ]
    return [*lines, CardLine('label', ', '.join(known) or 'OOV: outside the vocabulary', warning=not known)]


def label_of(answer: str, answers: list[str]) -> int:
    return answers.index(answer) if answer in answers else -1


def run(args: argparse.Namespace) -> None:
    from kovilt.engine.folder_config import load_data_config
    from kovilt.visualization import MISSING_FONT_HINT, draw_cards, korean_font, write_report

    columns = parse_columns(args.columns, config=None if Path(args.config).is_dir() else args.config)
    config = load_data_config(args.config, 'kovilt_vqa_custom_small', args.cfg_options, columns=columns)
    dataset, batch = open_batch(config, args)
    cards = make_cards(config, dataset, batch)
    out = args.out or Path('work_dirs', 'browse', Path(args.config).stem)
    sheets: dict[str, Path] = {}
    for start in range(0, len(cards), CARDS_PER_SHEET):
        some = cards[start : start + CARDS_PER_SHEET]
        sheets[f'Samples {start + 1} to {start + len(some)}'] = draw_cards(some, out / f'sheet_{len(sheets) + 1}.png')
    names = list(dict.fromkeys(line.name for card in cards for line in card.lines))
    has_matching = any(image.matches is not None for card in cards for image in card.images)
    rows = []
    for card in cards:
        texts = {line.name: line.text for line in card.lines}
        matching = next((image.caption for image in card.images if image.matches is not None), '')
        rows.append([card.title, *(texts.get(name, '') for name in names), *([matching] if has_matching else [])])
    header = ['sample', *names, *(['matching'] if has_matching else [])]
    page = write_report(
        out / 'index.html',
        title=f'{Path(args.config).stem}, {args.split}',
        lead=f'{len(cards)} of {len(dataset):,} samples of {dataset.data_root}. {LEGEND}.',
        tables={'Texts; masked and unknown tokens stand in brackets': (header, rows)},
        images=sheets,
        footer=f'kovilt browse {args.config} --split {args.split} --seed {args.seed}',
    )
    if korean_font() is None:
        print(MISSING_FONT_HINT)
    for path in (page, *sheets.values()):
        show(path)

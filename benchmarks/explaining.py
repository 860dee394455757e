"""Do explanations show where a model looks? Pointing game and deletion test on Rooms, with 95 % bootstrap intervals.

    python -m benchmarks.explaining work_dirs/quickstart/model data/rooms

Pointing game: of the validation questions that name an object of their image, the share whose best patch has its center
in a box of a named object. The best patch is that of the highest relevance (Chefer, Gur and Wolf) for the log odds of
the answer, as `kovilt explain` shows it, or for its score, as in the paper; that to which the transport plan sends most
mass of the named words; or that of the highest raw attention. A random patch is the measure of all; the best patch of
another question about the image shows whether the question matters or only what is salient.

Deletion test: the patches are painted over with the mean colour of their image, the best first, in ten steps. The area
below the mean probability of the answer, which the model gives to the whole image, is smaller the earlier the patches
come that it needs. The columns "less relevance" and "less random" are the differences from the areas of these two.
Images are resampled with all of their questions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import Report
from kovilt.cli.arguments import CommandParser, at_least
from kovilt.errors import KoviltError, run_cli

if TYPE_CHECKING:
    import numpy as np

    from kovilt.apis import VQAInferencer
    from kovilt.models.explaining import PairRelevance

STEPS = 10  # of the deletion test
POINTING = {
    'relevance': 'relevance',
    'relevance, right answers': 'relevance_right',
    "relevance for the answer's score, as in the paper": 'paper',
    'transport plan of the named words': 'plan',
    'raw attention': 'attention',
    'relevance of another question': 'swapped',
    'random patch': 'random',
    'random point of the image': 'area',
    'the most that is possible': 'possible',
}


DELETED = {
    'relevance': 'relevance',
    'paper': "relevance for the answer's score, as in the paper",
    'attention': 'raw attention',
    'plan': 'transport plan of the named words',
    'random': 'random',
    'relevance, least first': 'relevance, least first',
}


class NamingQuestion(NamedTuple):
    """A question that names objects of its image."""

    image: Path
    text: str
    answer: str
    answer_type: str
    names: set[str]
    words: list[int]  # the numbers of the words that name them
    boxes: np.ndarray  # (K, 4), of all objects with these names, as shares of width and height


class Explained(NamedTuple):
    """A question with the maps (rows, columns) that point to patches, and which patches are right."""

    question: NamingQuestion
    sample: dict[str, Any]
    relevance: PairRelevance
    maps: dict[str, np.ndarray]
    inside: np.ndarray  # bool (rows, columns)
    is_right: bool  # the model's answer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('model', help='model folder or checkpoint that answers questions')
    parser.add_argument('rooms', type=Path, help='folder written by `kovilt rooms`')
    parser.add_argument('--limit', type=at_least(2), metavar='N', help='questions, of sampled images (default: all)')
    parser.add_argument('--deletion', type=at_least(0), default=500, metavar='N', help='of them deleted (500)')
    parser.add_argument('--device', default='cpu', help='(default: cpu)')
    parser.add_argument('--seed', type=at_least(0), default=0, help='of the sampled images and random orders (0)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures too')
    return parser.parse_args(argv)


def read_questions(rooms: Path, limit: int | None, seed: int) -> list[NamingQuestion]:
    """The questions that name an object of their image; those of an image stand together, images in random order."""
    import numpy as np

    from kovilt.datasets import AIHubLivingReader
    from kovilt.datasets.korean import normalize_korean
    from kovilt.datasets.rows import ReadReport
    from kovilt.evaluation.alignment import find_object_words, read_boxes

    boxes_of, names = read_boxes(rooms / 'boxes.jsonl')
    groups: dict[Path, list[NamingQuestion]] = {}
    for record in AIHubLivingReader(data_root=str(rooms / 'vqa'), split='val').records(ReadReport()):
        place, text = record['image'].place, normalize_korean(record['question'])
        boxes = boxes_of.get(place.name) if isinstance(place, Path) else None
        if boxes is None:
            raise KoviltError(f'{rooms}: {record["image"].name or place} has no boxes; draw Rooms anew, without --zip')
        named = [(word, name) for word, name in find_object_words(text, names) if name in boxes]
        if named:
            found = {name for _, name in named}
            question = NamingQuestion(
                place,
                text,
                normalize_korean(record['answer']),
                record['answer_type'],
                found,
                [word for word, _ in named],
                np.concatenate([boxes[name] for name in sorted(found)]),
            )
            groups.setdefault(place, []).append(question)
    images = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(images))
    questions = [question for number in order for question in groups[images[number]]]
    return questions[:limit]


def explain_questions(inferencer: VQAInferencer, questions: Sequence[NamingQuestion]) -> Iterator[Explained]:
    """The explanation of the model's answer to each question."""
    import numpy as np

    from kovilt.datasets.collate import pack
    from kovilt.evaluation.alignment import patches_in_boxes
    from kovilt.models.explaining import explain_pair

    for number, question in enumerate(questions, 1):
        read = inferencer.transforms.read_question(question.text)
        _, (left, top, right, bottom) = inferencer.transforms.read_source(question.image)
        sample = dict(read.tokens, image=inferencer.transforms.read_image(question.image), image_id=0, sample_seed=0)
        batch = pack([sample])
        found = explain_pair(inferencer.model, batch)
        as_published = explain_pair(inferencer.model, batch, objective=lambda scores, label: scores[label])
        maps = {'relevance': found.patches.cpu().numpy(), 'paper': as_published.patches.cpu().numpy()}
        maps['attention'] = found.attention.cpu().numpy()
        if found.plan is not None:
            tokens = np.isin(read.tokens['word_ids'], question.words)
            maps['plan'] = found.plan.cpu().numpy()[tokens].sum(axis=0)
        corner = np.array([left, top] * 2)
        boxes = (question.boxes - corner) / np.array([right - left, bottom - top] * 2)
        grid = maps['relevance'].shape
        inside = patches_in_boxes((grid[0], grid[1]), boxes).reshape(grid)
        is_right = inferencer.answers[found.label] == question.answer
        yield Explained(question, sample, found, maps, inside, is_right)
        if number % 100 == 0 or number == len(questions):
            print(f'explained {number}/{len(questions)}', file=sys.stderr, flush=True)


def score_pointing(explained: Sequence[Explained]) -> dict[str, np.ndarray]:
    """For each way to choose a point whether it lies in a box, float (N,), NaN where the way does not apply."""
    import numpy as np

    from kovilt.evaluation.alignment import patches_in_boxes

    def hits(one: Explained, other: Explained, kind: str) -> float:
        chosen = other.maps.get(kind)
        return np.nan if chosen is None else float(one.inside.flat[chosen.argmax()])

    scores: dict[str, list[float]] = {name: [] for name in POINTING.values()}
    for one in explained:
        for kind in ('relevance', 'paper', 'plan', 'attention'):
            scores[kind].append(hits(one, one, kind))
        scores['relevance_right'].append(scores['relevance'][-1] if one.is_right else np.nan)
        same_image = (other for other in explained if other.question.image == one.question.image)
        others = [hits(one, other, 'relevance') for other in same_image if other.question.names != one.question.names]
        scores['swapped'].append(float(np.mean(others)) if others else np.nan)
        scores['random'].append(float(one.inside.mean()))
        scores['area'].append(float(patches_in_boxes((100, 100), one.question.boxes).mean()))
        scores['possible'].append(float(one.inside.any()))
    return {name: np.array(values) for name, values in scores.items()}


def delete_patches(inferencer: VQAInferencer, one: Explained, orders: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities of the explained answer, (orders, STEPS + 1), when 0, 1/10, ... of the patches are deleted."""
    import numpy as np
    import torch

    from kovilt.datasets.collate import pack

    patches, grid = one.sample['image']['patches'], tuple(one.sample['image']['grid'])
    if one.relevance.patches.shape != grid:
        raise KoviltError(f'the image encoder divides an image otherwise than into {grid} patches; add --deletion 0')
    mean = patches.reshape(len(patches), 3, -1).mean(axis=(0, 2)).round().astype(np.uint8)  # (3,)
    filling = np.repeat(mean, patches.shape[1] // 3)
    counts = np.linspace(0, len(patches), STEPS + 1).round().astype(int)
    samples = []
    for order in orders:
        for count in counts:
            left = patches.copy()
            left[order[:count]] = filling
            samples.append(one.sample | dict(image=dict(patches=left, grid=grid), image_id=len(samples)))
    model = inferencer.model
    with torch.inference_mode():
        scores = model.scores(model.data_preprocessor(pack(samples))).softmax(dim=1)
    return scores[:, one.relevance.label].view(len(orders), -1).cpu().numpy()


def score_deletion(inferencer: VQAInferencer, explained: Sequence[Explained], seed: int) -> dict[str, np.ndarray]:
    """The area below the curve of each order of deletion, 0 to 1, (N,)."""
    import numpy as np

    areas: dict[str, list[float]] = {}
    for number, one in enumerate(explained, 1):
        orders = {name: np.argsort(-values.ravel(), kind='stable') for name, values in one.maps.items()}
        orders['random'] = np.random.default_rng([seed, number]).permutation(one.inside.size)
        orders['relevance, least first'] = orders['relevance'][::-1]
        curves = delete_patches(inferencer, one, list(orders.values()))
        for name, curve in zip(orders, curves, strict=True):
            areas.setdefault(name, []).append(float(curve[1:].mean() + curve[:-1].mean()) / 2)  # trapezoids
        if number % 50 == 0 or number == len(explained):
            print(f'deleted {number}/{len(explained)}', file=sys.stderr, flush=True)
    return {name: np.array(values) for name, values in areas.items()}


def percent_with_interval(values: np.ndarray, images: np.ndarray) -> tuple[str, str]:
    """The mean of the values that are numbers, in percent, and its interval."""
    import numpy as np

    from kovilt.evaluation.scoring import bootstrap_interval

    known = ~np.isnan(values)
    low, high = bootstrap_interval(100 * values[known], images[known])
    return f'{100 * values[known].mean():.1f}', f'{low:.1f} to {high:.1f}'


def pointing_table(scores: dict[str, np.ndarray], images: np.ndarray) -> list[list[object]]:
    """Rows: the way, questions, percent in a box, its interval, and how many times the share of random patches."""
    import numpy as np

    rows: list[list[object]] = []
    for label, name in POINTING.items():
        known = ~np.isnan(scores[name])
        if known.any():
            times = scores[name][known].mean() / scores['random'][known].mean()
            rows.append([label, int(known.sum()), *percent_with_interval(scores[name], images), f'{times:.2f}'])
    return rows


def main(args: argparse.Namespace) -> None:
    import numpy as np

    from kovilt.apis import VQAInferencer
    from kovilt.evaluation.scoring import groups_by_size
    from kovilt.files import write_json

    inferencer = VQAInferencer(args.model, device=args.device)
    questions = read_questions(args.rooms, args.limit, args.seed)
    explained = list(explain_questions(inferencer, questions))
    if not explained:
        raise KoviltError(f'{args.rooms}: no validation question names an object of its image')
    images = np.array([str(one.question.image) for one in explained])
    right = np.mean([one.is_right for one in explained])
    print(
        f'{len(explained):,} questions about {len(np.unique(images)):,} images; {100 * right:.1f} % are answered right'
    )
    report, scores = Report(), score_pointing(explained)
    head = ['point', 'questions', 'in the box (%)', '95 %', 'times random']
    report.add_table('pointing game', head, pointing_table(scores, images))
    types = np.array([one.question.answer_type for one in explained])
    rows = []
    for name in groups_by_size(types):
        own = types == name
        shares = [percent_with_interval(scores[kind][own], images[own]) for kind in ('relevance', 'random')]
        times = scores['relevance'][own].mean() / scores['random'][own].mean()
        rows.append([name, int(own.sum()), *shares[0], shares[1][0], f'{times:.2f}'])
    head = ['type', 'questions', 'relevance (%)', '95 %', 'random patch (%)', 'times random']
    report.add_table('pointing game by type', head, rows)
    if args.deletion:
        part = explained[: args.deletion]
        areas, part_images = score_deletion(inferencer, part, args.seed), images[: args.deletion]
        rows = [
            [
                DELETED[name],
                *percent_with_interval(values, part_images),
                *percent_with_interval(values - areas['relevance'], part_images),
                *percent_with_interval(values - areas['random'], part_images),
            ]
            for name, values in areas.items()
        ]
        head = ['deleted first', 'area (%)', '95 %', 'less relevance', '95 % of that', 'less random', '95 % of it']
        report.add_table(f'deletion of {len(part)}', head, rows)
    if args.json:
        write_json(args.json, report.numbers)


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

"""Show where a model looks: which patches of an image and which words of a question speak for the answer.

kovilt explain work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?"
kovilt explain work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?" --answer 빨간색 --out work_dirs/red

OUT gets explanation.html (one file, opens without a network), explanation.png and explanation.npz, the arrays.
Relevance: Chefer, Gur and Wolf, ICCV 2021; for ViLT and PrefixViLT also the transport plan of each word.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kovilt.cli.arguments import CommandParser
from kovilt.errors import KoviltError


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        'model', help='model folder, checkpoint (.pth), work folder of a training run, or name of a packaged model'
    )
    parser.add_argument('image', help='image file')
    parser.add_argument('question', help='in quotes')
    parser.add_argument('--answer', help="an answer of the model to explain (default: the model's own)")
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/explanation'),
        metavar='FOLDER',
        help='folder to write (default: work_dirs/explanation); its explanation.* are replaced',
    )
    parser.add_checkpoint_parts()
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')


def run(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger

    from kovilt.apis import VQAInferencer
    from kovilt.apis.explanation import FILES
    from kovilt.terminal import printable, show
    from kovilt.visualization import MISSING_FONT_HINT, korean_font
    from kovilt.weights.folder_info import INFO, read_folder_info

    folder = Path(args.model)
    if (folder / INFO).is_file() and read_folder_info(folder).get('graph'):  # found before a .pt2 file asks for trust
        raise KoviltError(f'{folder}: holds a graph, which has no gradients; name the model that it was exported from')
    MMLogger.get_current_instance().setLevel('WARNING')  # it writes to stdout, which is for the explanation
    inferencer = VQAInferencer(args.model, config=args.config, device=args.device, tokenizer=args.tokenizer)
    explanation = inferencer.explain(args.image, args.question, args.answer)
    explanation.save(args.out)
    if inferencer.source != args.model:
        print(f'{printable(inferencer.source)}: loaded', file=sys.stderr)
    patches, words = explanation.patch_relevance, explanation.word_relevance
    total = float(patches.sum() + explanation.token_relevance.sum()) or 1.0
    show(explanation.question)
    show(f'  {explanation.answer}  {100 * explanation.score:.2f} %')
    if explanation.best_answer != explanation.answer:
        would = 'answers' if explanation.abstention is None else 'would answer'
        show(f'  the model {would} {explanation.best_answer}')
    if explanation.abstention is not None:
        show(f'  it abstains, as that is below its threshold: {explanation.abstention}')
    named = ', '.join(
        f'{word} {100 * share / total:.1f} %' for word, share in zip(explanation.words, words, strict=True)
    )
    show(f'relevance: image {100 * float(patches.sum()) / total:.1f} %, {named}')
    row, column = explanation.most_relevant_patch
    left, top, right, bottom = explanation.patch_box(row, column)
    show(
        f'most relevant patch: row {row + 1}, column {column + 1} of {patches.shape[0]} x {patches.shape[1]}, pixels '
        f'{left} to {right} across and {top} to {bottom} down: {100 * float(patches.max()) / total:.1f} %'
    )
    show(f'written: {", ".join(str(args.out / name) for name in FILES)}')
    if korean_font() is None:
        print(MISSING_FONT_HINT, file=sys.stderr)

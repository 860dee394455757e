#!/usr/bin/env python
"""Ko-ViLT on drawn rooms, end to end: draw, pre-train, fine-tune, evaluate, look, ask. `make quickstart`, `make rooms`.

    python tools/quickstart.py                    # ten minutes on two cores, from the body that kovilt ships
    python tools/quickstart.py --recipe rooms     # the recipe from nothing; makes such a body

Every step is one of kovilt's own tools; what is done is not done again, an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.cli.arguments import ToolParser  # noqa: E402
from kovilt.errors import KoviltError, run_cli  # noqa: E402
from tools.recipes.progress import format_duration  # noqa: E402
from tools.recipes.steps import Step, run_steps  # noqa: E402

ENCODER_PREFIX = 'kovilt/assets/rooms_encoder'  # a pre-trained model folder; its card tells how it was made


class Run(NamedTuple):
    """A way of fine-tuning: what its accuracies begin with in the summary, what a column and a line call it."""

    key: str
    column: str
    line: str

    @property
    def total(self) -> str:
        return f'{self.key or "vqa_"}accuracy'


RUNS = {
    'vqa': Run('', 'pre-trained body', 'fine-tuned from {body} · 사전학습'),
    'vqa_scratch': Run('scratch_', 'from scratch', 'as many steps from scratch · 사전학습 없이'),
    'question_only': Run('question_only_', 'no image', 'without images · 그림 없이'),
}
LOSSES = ('mlm_loss', 'itm_loss', 'wpa_loss')


@dataclass(frozen=True)
class Size:
    """How much of everything: images, and optimizer steps of 64 texts.

    `alone` is about images of one thing, `even` about the last steps of pre-training, which hide all words alike.
    """

    images: int
    val_images: int
    pretrain_steps: int
    vqa_steps: int
    val_interval: int
    alone_images: int = 0
    alone_steps: int = 0
    even_steps: int = 0


SIZES = {
    ('quickstart', 'default'): Size(3000, 500, 200, 900, 450),
    ('quickstart', 'tiny'): Size(40, 8, 6, 6, 3),
    ('rooms', 'default'): Size(40000, 500, 6500, 12000, 2000, alone_images=8000, alone_steps=3000, even_steps=1400),
    ('rooms', 'tiny'): Size(40, 8, 6, 6, 3, alone_images=10, alone_steps=6, even_steps=6),
}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('--recipe', choices=('quickstart', 'rooms'), default='quickstart', help='(default: quickstart)')
    parser.add_argument(
        '--scale', choices=('default', 'tiny'), default='default', help='tiny: a minute, learns nothing'
    )
    return parser.parse_args()


def plan(recipe: str, size: Size, work: Path) -> list[Step]:
    """The steps of a recipe, in order. `work` is the folder they write to."""
    own = recipe == 'rooms'
    data, tokenizer, alone = work / 'data', work / 'data' / 'tokenizer', work / 'data_alone'
    body = f'{work}/pretrain_uniform_masking/iter_{size.even_steps}.pth' if own else ENCODER_PREFIX
    model = f'{work}/vqa/iter_{size.vqa_steps}.pth'
    # Seconds on 2 cores: to start a tool, for an optimizer step, for a question or caption that is evaluated.
    start, pretrain_step, vqa_step, text = 8, 0.25, 0.16, 0.002
    blind_steps = min(size.vqa_steps, 2000)  # language alone is learned by then

    def with_tokenizer(*loaders: str) -> list[str]:
        return (
            []
            if own
            else [f'{loader}_dataloader.dataset.text_pipeline.0.tokenizer={ENCODER_PREFIX}' for loader in loaders]
        )

    def train(name: str, title: str, steps: int, step: float, watch: Sequence[str], load_from: str = '') -> Step:
        interval = max(1, min(50, steps // 50))
        options = [f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={min(size.val_interval, steps)}']
        options += [f'default_hooks.{hook}.interval={interval}' for hook in ('logger', 'run_record')]
        begin = ['--load-from', load_from] if load_from else []
        command = ['tools/train.py', f'configs/rooms/{name}.py', '--work-dir', f'{work}/{name}', '--amp', '--resume']
        command += begin
        command += ['--cfg-options', *options, *with_tokenizer('train', 'val')]
        evaluations = 8 * size.val_images * text * -(-steps // size.val_interval)
        return Step(name, title, command, work / name, start + steps * step + evaluations, watch)

    def pretrain(name: str, title: str, steps: int, load_from: str = '') -> Step:
        return train(name, title, steps, pretrain_step, LOSSES, load_from)

    def export(name: str, title: str, checkpoint: str) -> Step:
        return Step(
            name, title, ['tools/weights/export.py', checkpoint, f'{work}/{name}', '--overwrite'], work / name, start
        )

    draw = ['tools/data/make_rooms.py', f'{data}', '--images', f'{size.images}', '--val-images', f'{size.val_images}']
    single = ['tools/data/make_rooms.py', f'{alone}', '--images', f'{size.alone_images}', '--val-images', '1']
    single += ['--alone', '1', '--seed', '1']
    corpus = ['--captions', f'{data}/captions', '--questions', f'{data}/vqa']
    learn = ['tools/data/train_tokenizer.py', f'{tokenizer}', '--vocab-size', '1000', *corpus]
    tested = work / 'vqa_test'
    test = ['tools/test.py', 'configs/rooms/vqa.py', model, '--work-dir', f'{tested}']
    test += ['--out', f'{tested}/predictions.jsonl']
    test += [] if own else ['--cfg-options', *with_tokenizer('val')]
    align = ['tools/analysis/alignment.py', body, f'{data}', '--out', f'{work}/alignment']
    vqa = ('vqa_loss', 'vqa_accuracy')
    if own:
        first = f'{work}/pretrain_single_objects/iter_{size.alone_steps}.pth'
        second = f'{work}/pretrain/iter_{size.pretrain_steps}.pth'
        pretraining = [
            Step('tokenizer', 'train the tokenizer · 토크나이저 학습', learn, tokenizer, 5 + size.images / 500),
            Step('draw_alone', 'draw single things · 물건 하나씩 그리기', single, alone, 2 + size.alone_images / 200),
            pretrain('pretrain_single_objects', 'pre-train on single objects · 사전학습 1단계', size.alone_steps),
            pretrain('pretrain', 'pre-train · 사전학습 2단계', size.pretrain_steps, first),
            pretrain('pretrain_uniform_masking', 'uniform masking · 사전학습 3단계', size.even_steps, second),
            export('body', 'write the body · 몸체 저장', body),
        ]
        scratch = []
    else:
        pretraining = [pretrain('pretrain', 'pre-train from scratch · 사전학습', size.pretrain_steps)]
        scratch = [train('vqa_scratch', 'the same from scratch · 사전학습 없이', size.vqa_steps, vqa_step, vqa)]
    return [
        Step('draw', 'draw rooms · 방 그리기', [*draw, '--seed', '0'], data, 2 + size.images / 200),
        *pretraining,
        train('vqa', 'fine-tune the pre-trained body · 미세조정', size.vqa_steps, vqa_step, vqa, body),
        *scratch,
        train('question_only', 'the same without images · 그림 없이', blind_steps, vqa_step / 4, vqa),
        Step('vqa_test', 'evaluate · 평가', test, tested, start + 8 * size.val_images * text),
        Step(
            'alignment', 'words and boxes · 단어와 상자', align, work / 'alignment', start + 5 * size.val_images * text
        ),
        export('model', 'write the model · 모델 저장', model),
    ]


def read_results(work: Path, taken: Mapping[str, float]) -> dict:
    """The summary of a finished plan: what stands in `summary.json`, all accuracies in percent."""
    from kovilt.visualization import read_metrics

    test = json.loads((work / 'vqa_test' / 'metrics.json').read_text(encoding='utf-8'))['metrics']
    tests = {RUNS['vqa']: test}
    for name in ('vqa_scratch', 'question_only'):  # the last evaluation of their training is of the same questions
        if name in taken:
            last = {key: values[-1] for key, (_, values) in read_metrics(work / name).items()}
            tests[RUNS[name]] = {key.removeprefix('val/'): value for key, value in last.items() if 'val/' in key}
    alignment = json.loads((work / 'alignment' / 'alignment.json').read_text(encoding='utf-8'))
    kinds = [key.removeprefix('accuracy/') for key in test if key.startswith('accuracy/')]
    metrics = read_metrics(work / 'pretrain')
    return {
        **{run.total: test['accuracy'] for run, test in tests.items()},
        'majority_accuracy': test['majority_accuracy'],
        'alignment_accuracy': alignment['alignment_accuracy'],
        'alignment_chance': alignment['alignment_chance'],
        'alignment_swapped': alignment['alignment_swapped'],
        'questions': test['questions'],
        'per_type': {
            kind: {
                'questions': test[f'questions/{kind}'],
                **{f'{run.key}accuracy': found[f'accuracy/{kind}'] for run, found in tests.items()},
            }
            for kind in kinds
        },
        'pretraining_losses': {name: [metrics[f'train/{name}'][1][i] for i in (0, -1)] for name in LOSSES},
        'seconds': round(sum(taken.values()), 1),
        'seconds_per_step': {name: round(seconds, 1) for name, seconds in taken.items()},
    }


def draw_images(work: Path, summary: Mapping) -> list[dict]:
    """Write curves.png, contact_sheet.png and alignment.png; returns the predictions on the contact sheet."""
    from PIL import Image

    from kovilt.visualization import AnsweredQuestion, Curve, Panel, draw_contact_sheet, draw_curves, read_metrics

    runs = {name: read_metrics(work / name) for name in ('pretrain', *RUNS) if (work / name).is_dir()}

    def curve(label: str, run: str, name: str, scale: float = 1.0) -> Curve:
        steps, values = runs[run].get(name, ((), ()))
        return Curve(label, steps, [scale * value for value in values])

    def against(scalar: str) -> list[Curve]:
        return [curve(run.column, name, scalar) for name, run in RUNS.items() if name in runs]

    draw_curves(
        [
            Panel('Pre-training: masked words', 'L1, nats', [curve('masked words', 'pretrain', 'train/mlm_loss')]),
            Panel('Pre-training: matching', 'L2, nats', [curve('image-text matching', 'pretrain', 'train/itm_loss')]),
            Panel(
                'Pre-training: word-patch alignment',
                'transport distance',
                [
                    curve('matched pairs', 'pretrain', 'train/wpa_matched_distance'),
                    curve('mismatched pairs', 'pretrain', 'train/wpa_mismatched_distance'),
                ],
            ),
            Panel(
                'Pre-training: accuracy',
                'percent',
                [
                    curve('masked words', 'pretrain', 'train/mlm_accuracy', 100),
                    curve('image-text matching', 'pretrain', 'train/itm_accuracy', 100),
                ],
            ),
            Panel('Fine-tuning: loss', 'cross-entropy, nats', against('train/vqa_loss')),
            Panel(
                'Fine-tuning: dev accuracy',
                'percent',
                against('val/accuracy'),
                {'majority answer': summary['majority_accuracy']},
            ),
        ],
        work / 'curves.png',
    )
    lines = (work / 'vqa_test' / 'predictions.jsonl').read_text(encoding='utf-8').splitlines()
    chosen = choose([json.loads(line) for line in lines], 12)
    draw_contact_sheet(
        [
            AnsweredQuestion(Image.open(row['image']), row['question'], row['answer'], row['truth'], row['score'])
            for row in chosen
        ],
        work / 'contact_sheet.png',
    )
    return chosen


def choose(predictions: Sequence[dict], number: int) -> list[dict]:
    """So many questions drawn blindly, the answer types in turn and no image twice while there are others."""
    groups = defaultdict(list)
    for row in random.Random(0).sample(predictions, len(predictions)):
        groups[row['answer_type']].append(row)
    turns = [row for group in groups.values() for row in group]
    turns.sort(key=lambda row: groups[row['answer_type']].index(row))
    seen: set[str] = set()
    fresh = [row for row in turns if not (row['image'] in seen or seen.add(row['image']))]
    return (fresh + [row for row in turns if row not in fresh])[:number]


def ask(model: str, row: Mapping) -> dict:
    """Ask the finished model one question with `tools/predict.py`, as a user would; prints command and output."""
    image = os.path.relpath(row['image'])
    command = ['tools/predict.py', model, image, row['question'], '--topk', '3']
    print('$ ' + shlex.join(['python', *command]), flush=True)
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KoviltError(f'tools/predict.py ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}')
    print(f'{done.stdout.rstrip()}\n  (정답: {row["truth"]})\n')
    return {'image': image, 'question': row['question'], 'truth': row['truth'], 'printed': done.stdout.splitlines()}


def tell(summary: Mapping, own: bool) -> str:
    """The result for a person at a terminal: English with the Korean words beside it."""
    from kovilt.evaluation.table import format_table

    def percent(value: float) -> str:
        return f'{value:.1f}'

    body = 'the body pre-trained here' if own else 'the body that kovilt ships'
    runs = [run for run in RUNS.values() if run.total in summary]
    accuracy = [
        *([run.line.format(body=body), percent(summary[run.total])] for run in runs),
        ['always the most frequent answer · 최빈 답', percent(summary['majority_accuracy'])],
    ]
    kinds = [
        [kind, str(row['questions']), *(percent(row[f'{run.key}accuracy']) for run in runs)]
        for kind, row in summary['per_type'].items()
    ]
    losses = [[name, *(f'{value:.3f}' for value in summary['pretraining_losses'][name])] for name in LOSSES]
    return '\n\n'.join(
        [
            f'Accuracy on {summary["questions"]:,} dev questions, percent · 정확도\n'
            + format_table(['', '%'], accuracy),
            'By answer type · 질문 유형별\n' + format_table(['', 'questions', *(run.column for run in runs)], kinds),
            'Pre-training, first and last · 사전학습 손실\n' + format_table(['', 'first', 'last'], losses),
            'Object words whose object is found, percent · 단어-영역 정렬\n'
            + format_table(['', '%'], [[name, percent(value)] for name, value in alignment_rows(summary)]),
        ]
    )


def alignment_rows(summary: Mapping) -> list[tuple[str, float]]:
    """How often a patch lies in the object that a word names, beside two ways of not knowing the word; percent."""
    rows = {
        "the patch with most of the word's mass · 그 단어의 패치": summary['alignment_accuracy'],
        "that of the image's other object words · 다른 단어의 패치": summary['alignment_swapped'],
        'a patch drawn blindly · 무작위 패치': summary['alignment_chance'],
    }
    return [(name, value) for name, value in rows.items() if value is not None]


def write_page(work: Path, summary: Mapping, own: bool) -> None:
    """report.html: the numbers and the images on one page."""
    from kovilt.visualization import write_report

    rows = [[kind, *row.values()] for kind, row in summary['per_type'].items()]
    runs = [run for run in RUNS.values() if run.total in summary]
    total = [summary['questions'], *(summary[run.total] for run in runs)]
    head = ['answer type · 유형', 'questions', *(run.column for run in runs)]
    losses = [[name, *summary['pretraining_losses'][name]] for name in LOSSES]
    images = {
        'Losses and dev accuracy · 손실과 정확도': work / 'curves.png',
        'Dev questions drawn at random · 무작위로 고른 질문': work / 'contact_sheet.png',
    }
    if (work / 'alignment' / 'example.png').is_file():
        images['Where the words of a caption look · 단어가 보는 곳'] = work / 'alignment' / 'example.png'
    sheet = work / 'contact_sheet.txt'
    write_report(
        work / 'report.html',
        title='Ko-ViLT on Rooms',
        lead=f'Drawn household scenes, Korean questions. The most frequent answer alone is right for '
        f'{summary["majority_accuracy"]:.1f} % of them.',
        tables={
            'Accuracy, percent · 정확도': (head, [*rows, ['all · 전체', *total]]),
            'Pre-training losses, first and last · 사전학습 손실': (['', 'first', 'last'], losses),
            'Word-patch alignment, percent · 단어-영역 정렬': (['', '%'], alignment_rows(summary)),
        },
        images=images,
        sentences=[line.split('. ', 1)[1] for line in sheet.read_text(encoding='utf-8').splitlines()],
        footer=f'make {"rooms" if own else "quickstart"}, {format_duration(summary["seconds"])} (h:mm:ss)',
    )


def main(args: argparse.Namespace) -> None:
    from kovilt.cli.environment import check_environment
    from kovilt.visualization import HOW_TO_GET_ONE, korean_font

    check_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the running step is ended too
    os.chdir(ROOT)  # configs and the work folder stand here
    own, size = args.recipe == 'rooms', SIZES[args.recipe, args.scale]
    work = Path('work_dirs', args.recipe if args.scale == 'default' else f'{args.recipe}_{args.scale}')
    os.environ |= {'KOVILT_ROOMS': str(work / 'data'), 'KOVILT_ROOMS_ALONE': str(work / 'data_alone')}
    steps = plan(args.recipe, size, work)
    expected = format_duration(sum(step.seconds for step in steps))
    print(f'kovilt {args.recipe}: {len(steps)} steps into {work}, about {expected} on 2 cores')
    taken = run_steps(steps, work)

    start = time.monotonic()
    summary = read_results(work, taken)
    chosen = draw_images(work, summary)
    print(f'\n{tell(summary, own)}\n')
    summary['example'] = ask(f'{work}/model', chosen[0])
    summary['seconds'] = round(summary['seconds'] + time.monotonic() - start, 1)
    summary['size'] = asdict(size)
    write_page(work, summary, own)
    (work / 'summary.json').write_text(json.dumps(summary, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    if korean_font() is None:
        print(HOW_TO_GET_ONE)
    print(f'{format_duration(summary["seconds"])} in all · 걸린 시간. Look at · 결과 보기:')
    for name in ('report.html', 'curves.png', 'contact_sheet.png', 'summary.json'):
        print(f'  {work / name}')


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

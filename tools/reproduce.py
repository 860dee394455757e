#!/usr/bin/env python
"""The paper's tables: runs what is missing of their trainings and writes them (docs/reproduction.md).

    python tools/reproduce.py table2 table3 --jobs 2        # drawn rooms, small models
    python tools/reproduce.py all --seeds 3 --jobs 12       # on one GPU
    python tools/reproduce.py all --data aihub --scale base # the paper's models and data, in data/aihub_101 and _261
    python tools/reproduce.py all --no-run                  # tables of what is done

Tables: table1 (data), table2 (accuracy and time of METER and ViLT), table3 (a small part of the data, epoch by epoch),
ablations. Every step is one of kovilt's own tools; what is done is not done again, an interrupted run goes on where it
stopped. WORK_DIR gets tables.md, results.json, curves.png and a CSV of each table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.cli.arguments import ToolParser, at_least, available_cpus  # noqa: E402
from kovilt.errors import KoviltError, nearest, run_cli  # noqa: E402
from tools.recipes.progress import format_duration  # noqa: E402
from tools.recipes.steps import Step, finished_steps, run_steps  # noqa: E402

TABLES = ('table1', 'table2', 'table3', 'ablations')
ENCODER_PREFIX = 'kovilt/assets/rooms_encoder'  # a pre-trained model folder; its card tells how it was made
LOSSES, ANSWERS = ('mlm_loss', 'wpa_loss'), ('vqa_loss', 'vqa_accuracy')

# Ways of pre-training, as options of its config. A weight of zero is an objective left out whose head stays, so that
# alignment can be scored.
PRETRAINING = {
    'full': ('as configured', ()),
    'no_wpa': ('without word-patch alignment', ('model.wpa_head.loss_weight=0',)),
    'words_only': ('masked words alone', ('model.itm_head.loss_weight=0', 'model.wpa_head.loss_weight=0')),
    'prefix': ('PrefixViLT, images encoded once', ('model.encoder.type=PrefixViLT',)),
}
PAPER_WPA = {  # of the small models, whose config aligns otherwise
    'paper_wpa': (
        "the paper's alignment: last states, matched pairs, weight 0.5",
        (
            'model.wpa_head.loss_weight=0.5',
            'model.wpa_head.mismatched=ignore',
            'model.wpa_head.mean_center=false',
            'model.wpa_head.block=none',
        ),
    ),
}
FIXED = {'untrained': 'random weights', 'body': 'the shipped body, for comparison'}  # scored without a training of ours

# Ways of fine-tuning, against table 3's pre-trained runs.
TUNING = {
    'pretrained': ('as configured', ()),
    'head_lr_1': ('the head learns as fast as the body', ('optim_wrapper.paramwise_cfg.head_lr_mult=1.0',)),
    'cls_start': ('[CLS] starts as itself, not as [MASK]', ('custom_hooks=[]',)),
    'prefix': ('PrefixViLT, from the same body', ('model.encoder.type=PrefixViLT',)),
}


@dataclass(frozen=True)
class Configs:
    """The configs of a family of models."""

    meter: str
    scratch: str
    pretrained: str
    blind: str
    pretrain: str
    alone: str = ''  # the first stage of pre-training, on images of one thing


SMALL = Configs(
    meter='configs/rooms/meter_vqa.py',
    scratch='configs/rooms/vqa_scratch.py',
    pretrained='configs/rooms/vqa.py',
    blind='configs/rooms/question_only.py',
    pretrain='configs/rooms/pretrain.py',
    alone='configs/rooms/pretrain_single_objects.py',
)
BASE = Configs(
    meter='configs/meter_vqa_aihub.py',
    scratch='configs/kovilt_vqa_aihub_scratch.py',
    pretrained='configs/kovilt_vqa_aihub.py',
    blind='configs/ablations/vqa_question_only.py',
    pretrain='configs/kovilt_pretrain_coco.py',
)


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Lengths of trainings are optimizer steps of 64 texts for the small models, epochs for those of base size; `every` is
    the distance between two evaluations in the same unit. A part's evaluations are an epoch apart.
    """

    images: int = 0  # Rooms to draw; 0 = the data are the user's
    val_images: int = 0
    alone_images: int = 0
    full: int = 0  # table 2
    full_every: int = 1
    blind: int = 0  # ViLT without images: language is learned sooner
    part_rows: int = 0  # table 3
    part_epochs: int = 0
    alone: int = 0  # ablations: two stages of pre-training, the first the same for all seeds, and fine-tuning
    pretrain: int = 0
    tuned: int = 0
    dev_rows: int = 0  # 0 = all
    rounds: int = 6  # of the measurement of cost, and its batches
    batches: int = 8
    marks: tuple[float, ...] = (20.0, 30.0, 40.0, 50.0)  # accuracies to reach, percent
    configs: Configs = SMALL
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by field of `configs`; 'vilt': all but METER


ONE_GPU = {  # the published steps in the memory of one GPU
    'vilt': ('train_dataloader.batch_size=256', 'train_dataloader.collate_fn.micro_batches=4'),
    'meter': ('train_dataloader.batch_size=512', 'train_dataloader.collate_fn.micro_batches=32'),
    'pretrain': ('train_dataloader.batch_size=4096', 'train_dataloader.collate_fn.micro_batches=32'),
}
TINY = {  # base size's configs with models of no use
    'vilt': (
        'model.encoder.hidden_size=16',
        'model.encoder.num_layers=2',
        'model.encoder.num_heads=2',
        'train_dataloader.batch_size=64',
        'train_dataloader.num_workers=0',
    ),
    'meter': (
        'model.encoder.image_encoder.arch.embed_dims=16',
        'model.encoder.image_encoder.arch.num_layers=1',
        'model.encoder.image_encoder.arch.num_heads=2',
        'model.encoder.image_encoder.arch.feedforward_channels=32',
        'model.encoder.text_encoder.hidden_size=16',
        'model.encoder.text_encoder.num_layers=1',
        'model.encoder.text_encoder.num_heads=2',
        'model.encoder.hidden_size=16',
        'model.encoder.num_layers=1',
        'model.encoder.num_heads=2',
        'model.encoder.image_size=64',
        'train_dataloader.dataset.image_pipeline.1.side=64',
        'val_dataloader.dataset.image_pipeline.1.side=64',
        'model.encoder.text_encoder.pretrained=none',
        'train_dataloader.num_workers=0',
    ),
    'pretrain': ('train_dataloader.num_workers=0',),
}
SCALES = {
    ('rooms', 'small'): Scale(
        images=10_000, val_images=500, alone_images=8_000, full=1500, full_every=250, blind=700,
        part_rows=4480, part_epochs=12, alone=2000, pretrain=2000, tuned=400),
    ('rooms', 'tiny'): Scale(
        images=40, val_images=8, alone_images=10, full=4, full_every=2, blind=2, part_rows=64, part_epochs=2,
        alone=2, pretrain=2, tuned=2, rounds=1, batches=1),
    ('rooms', 'base'): Scale(
        images=100_000, val_images=1000, full=3, blind=1, part_rows=44_000, part_epochs=5, pretrain=10, tuned=1,
        configs=BASE, options=ONE_GPU),
    ('aihub', 'base'): Scale(
        full=10, blind=1, part_rows=80_000, part_epochs=5, pretrain=40, tuned=1, dev_rows=3000,
        configs=BASE, options=ONE_GPU),
    ('aihub', 'tiny'): Scale(
        full=1, blind=1, part_rows=64, part_epochs=2, pretrain=1, tuned=1, dev_rows=20, rounds=1, batches=1,
        configs=BASE, options=TINY),
}  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('tables', nargs='+', metavar='TABLE', help=f'{", ".join(TABLES)} or all')
    parser.add_argument('--data', choices=('rooms', 'aihub'), default='rooms', help='(default: rooms, which are drawn)')
    parser.add_argument('--scale', choices=('small', 'base', 'tiny'), help='(default: small, of AI-Hub base)')
    parser.add_argument('--seeds', type=at_least(1), default=3, metavar='N', help='trainings of each kind (default: 3)')
    parser.add_argument('--jobs', type=at_least(1), default=1, metavar='N', help='trainings at once (default: 1)')
    parser.add_argument('--body', metavar='FOLDER', help='model folder of a pre-trained body in place of the usual one')
    parser.add_argument('--work-dir', type=Path, help='(default: work_dirs/reproduce, with _DATA_SCALE unless small)')
    parser.add_argument('--no-run', action='store_true', help='run nothing, write the tables of what is done')
    return parser.parse_args()


class Plan:
    """The steps of the tables, each of a tool with a folder of its own beneath `work`.

    Args:
        data: 'rooms' or 'aihub'.
        scale: how much of everything.
        seeds: so many runs of each kind, seeds 0 and up.
        work: the work folder.
        body: model folder of the pre-trained body; '' = the shipped one or, of base size, one that is pre-trained here.
    """

    def __init__(self, data: str, scale: Scale, seeds: int, work: Path, body: str = '') -> None:
        self.data, self.scale, self.seeds, self.work, self.configs = data, scale, range(seeds), work, scale.configs
        self.small = scale.configs is SMALL
        self.body = body or (ENCODER_PREFIX if self.small else '')
        self.ways = {**PRETRAINING, **(PAPER_WPA if self.small else {})}
        self.steps: dict[str, Step] = {}
        self.kinds: dict[str, tuple[str, int]] = {}  # training -> its kind and seed

    def prepare(self) -> tuple[str, ...]:
        """Draw what is not the user's; returns the steps that a training builds on."""
        if not self.scale.images:
            return ()
        rooms = self._draw('draw', 'data', self.scale.images, self.scale.val_images)
        if self.small:
            return rooms
        corpus = ['--captions', f'{self.work}/data/captions', '--questions', f'{self.work}/data/vqa']
        command = ['tools/data/train_tokenizer.py', f'{self.work}/tokenizer', '--vocab-size', '1000', *corpus]
        return (*rooms, self._add('tokenizer', 'train the tokenizer', command, 60, after=rooms))

    def _draw(self, name: str, folder: str, images: int, dev: int, *more: str) -> tuple[str]:
        command = ['tools/data/make_rooms.py', f'{self.work}/{folder}', '--images', f'{images}']
        command += ['--val-images', f'{dev}', *more]
        return (self._add(name, 'draw rooms', command, 2 + images / 200, folder=folder),)

    def _add(
        self,
        name: str,
        title: str,
        command: Sequence[str],
        seconds: float,
        *,
        after: Sequence[str] = (),
        folder: str = '',
        watch: Sequence[str] = (),
    ) -> str:
        self.steps[name] = Step(name, title, command, self.work / (folder or name), seconds, watch, tuple(after))
        return name

    def options(self, kind: str) -> list[str]:
        """What every training of a kind, a field of `Configs`, is told."""
        own = self.scale.options
        found = [*(() if kind == 'meter' else own.get('vilt', ())), *own.get(kind, ())]
        if self.small:
            for loader in ('train', 'val'):
                found.append(f'{loader}_dataloader.dataset.text_pipeline.0.tokenizer={self.body}')
            found += ['val_dataloader.num_workers=0', 'val_dataloader.dataset.cache_images=true']
        elif self.scale.images and kind == 'meter':
            found.append('model.encoder.text_encoder.pretrained=none')  # no public weights speak the drawn tokenizer
        if self.scale.dev_rows and kind not in ('pretrain', 'alone'):
            found += [f'val_dataloader.dataset.limit={self.scale.dev_rows}', 'val_dataloader.dataset.seed=0']
        return found

    def train(
        self,
        kind: str,
        seed: int,
        config: str,
        length: int,
        *,
        every: int = 0,
        options: Sequence[str] = (),
        start: str = '',
        after: Sequence[str] = (),
        title: str = '',
    ) -> str:
        """Add a training of `length` steps or epochs, evaluated `every` so many; returns its name.

        `config` is a field of `Configs`; `start` are the weights to begin with.
        """
        name = f'{kind}_{seed}'
        if name in self.steps:
            return name
        every = every or length
        if self.small:
            interval = max(1, min(50, length // 20))
            options = [f'train_cfg.max_iters={length}', f'train_cfg.val_interval={every}', *options]
            options += [f'default_hooks.{hook}.interval={interval}' for hook in ('logger', 'run_record')]
        else:
            options = [f'train_cfg.max_epochs={length}', *options]
        command = ['tools/train.py', getattr(self.configs, config), '--work-dir', f'{self.work}/{name}', '--amp']
        command += ['--resume', '--seed', f'{seed}', *(['--load-from', start] if start else [])]
        command += ['--cfg-options', *self.options(config), *options]
        if config == 'pretrained' and not start:
            raise ValueError(f'{name}: a pre-trained model starts from a body')
        watch = LOSSES if config in ('pretrain', 'alone') else ANSWERS
        seconds = 10 + length * (0.2 if self.small else 3600)
        self.kinds[name] = kind, seed
        return self._add(name, title or f'train {name}', command, seconds, after=after, watch=watch)

    def checkpoint(self, name: str, length: int) -> str:
        """The last one of a training."""
        return f'{self.work}/{name}/{"iter" if self.small else "epoch"}_{length}.pth'

    def test(self, name: str, config: str, length: int, options: Sequence[str] = ()) -> str:
        """Add the evaluation of a training, with all its answers."""
        folder = f'{self.work}/{name}_test'
        command = ['tools/test.py', getattr(self.configs, config), self.checkpoint(name, length)]
        command += ['--work-dir', folder, '--out', f'{folder}/predictions.jsonl']
        command += ['--cfg-options', *self.options(config), *options]
        return self._add(f'{name}_test', f'evaluate {name}', command, 20, after=[name])

    def starting_body(self, data: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """The pre-trained body's place, and the steps that make it."""
        if self.body:
            return self.body, tuple(data)
        name = self.train('pretrain', 0, 'pretrain', self.scale.pretrain, after=data, title='pre-train the body')
        return self.checkpoint(name, self.scale.pretrain), (*data, name)

    def add_cost(self) -> None:
        """Training steps of both models in turn, before anything else runs."""
        data = self.prepare()
        command = ['benchmarks/model_cost.py', '--amp', '--out', f'{self.work}/cost/cost.json']
        command += ['--rounds', f'{self.scale.rounds}', '--batches', f'{self.scale.batches}']
        for name, kind in (('METER', 'meter'), ('ViLT', 'scratch')):
            command += ['--model', name, getattr(self.configs, kind), *self.options(kind)]
        self._add('cost', 'measure training steps of both models in turn', command, 60, after=data)

    def add_table1(self) -> None:
        self.prepare()

    def add_table2(self) -> None:
        self.add_cost()
        scale, data = self.scale, self.prepare()
        body, made = self.starting_body(data)
        for seed in self.seeds:
            for model in ('meter', 'scratch', 'pretrained'):
                start, after = (body, made) if model == 'pretrained' else ('', data)
                name = self.train(model, seed, model, scale.full, every=scale.full_every, start=start, after=after)
                self.test(name, model, scale.full)
            self.train('blind', seed, 'blind', scale.blind, after=data)

    def _part(self, kind: str, seed: int, config: str, options: Sequence[str] = ()) -> str:
        """Add a training on a part of the data."""
        data = self.prepare()
        start, after = self.starting_body(data) if config == 'pretrained' else ('', data)
        options = [f'train_dataloader.dataset.limit={self.scale.part_rows}', *options]
        every = self.scale.part_rows // 64 if self.small else 1
        length = every * self.scale.part_epochs
        return self.train(f'part_{kind}', seed, config, length, every=every, options=options, start=start, after=after)

    def add_table3(self) -> None:
        for seed in self.seeds:
            for model in ('scratch', 'pretrained'):
                self._part(model, seed, model)

    def add_ablations(self) -> None:
        scale, data = self.scale, self.prepare()
        if self.small:
            more = ('--alone', '1', '--seed', '1')
            single = (*data, *self._draw('draw_alone', 'data_alone', scale.alone_images, 1, *more))
            for seed in self.seeds:
                for way, (_, options) in TUNING.items():
                    name = self._part(way, seed, 'pretrained', options)
                    model = [option for option in options if option.startswith('model.')]
                    self.test(name, 'pretrained', scale.part_rows // 64 * scale.part_epochs, model)
        for seed in self.seeds:
            for way, (_, options) in self.ways.items():
                encoder = [option for option in options if option.startswith('model.encoder.type')]
                start, after = '', data
                if self.small:  # the first stage, without alignment, is one for all ways and seeds of an encoder
                    first = self.train(
                        'alone_prefix' if encoder else 'alone',
                        0,
                        'alone',
                        scale.alone,
                        after=single,
                        options=['model.wpa_head.loss_weight=0', *encoder],
                    )
                    start, after = self.checkpoint(first, scale.alone), (*data, first)
                name = self.train(
                    f'pretrain_{way}', seed, 'pretrain', scale.pretrain, options=options, start=start, after=after
                )
                body = self.checkpoint(name, scale.pretrain)
                self._align(f'{way}_{seed}', body, (*data, name))
                tuned = self.train(
                    f'tuned_{way}', seed, 'pretrained', scale.tuned, options=encoder, start=body, after=(*data, name)
                )
                self.test(tuned, 'pretrained', scale.tuned, encoder)
        still = ['optim_wrapper.optimizer.lr=0.0', 'train_dataloader.dataset.limit=64']
        untrained = self.train('untrained', 0, 'pretrain', 1, options=still, after=data, title='a step of no change')
        self._align('untrained_0', self.checkpoint(untrained, 1), (*data, untrained))
        if self.small:
            self._align('body_0', self.body, data)

    def _align(self, name: str, model: str, after: Sequence[str]) -> None:
        command = ['tools/analysis/alignment.py', model, f'{self.work}/data', '--out', f'{self.work}/align_{name}']
        self._add(f'align_{name}', f'words and boxes of {name}', command, 20, after=after)

    def environment(self) -> dict[str, str]:
        """Where the configs find the data."""
        if self.small:
            return {'KOVILT_ROOMS': f'{self.work}/data', 'KOVILT_ROOMS_ALONE': f'{self.work}/data_alone'}
        if not self.scale.images:
            return {}
        folders = {'KOVILT_AIHUB_101': 'data/vqa', 'KOVILT_AIHUB_261': 'data/captions', 'KOVILT_TOKENIZER': 'tokenizer'}
        return {name: f'{self.work}/{folder}' for name, folder in folders.items()}


def make_plan(
    tables: Sequence[str], *, data: str, scale: Scale, seeds: int, work: Path, body: str = ''
) -> tuple[Plan, list[Step]]:
    """The plan of some tables and its steps in an order in which each follows what it builds on."""
    plan = Plan(data, scale, seeds, work, body)
    for table in tables:
        getattr(plan, f'add_{table}')()
    return plan, list(plan.steps.values())


def check_settings(work: Path, settings: Mapping[str, Any]) -> None:
    """Keep what a work folder was made with; KoviltError when it was made with something else."""
    file = work / 'settings.json'
    if file.is_file():
        there = _flat(json.loads(file.read_text(encoding='utf-8')))
        for key, value in _flat(settings).items():
            if there.get(key) != value:
                raise KoviltError(f'{work}: made with {key} {there.get(key)!r}, not {value!r}; name another --work-dir')
        return
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')


def _flat(settings: Mapping[str, Any], before: str = '') -> dict[str, Any]:
    """Settings within settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f'{before}{key}.') if isinstance(value, Mapping) else {f'{before}{key}': value}
    return found


def describe_data(plan: Plan) -> dict[str, Any]:
    """Table 1: what the data sets themselves say of their rows, images and answers."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from kovilt.datasets.answers import AnswerVocabulary
    from kovilt.engine.config import load_config
    from kovilt.registry import DATASETS

    def read(loader: Config, **changes: Any):
        options = {**loader.dataset.to_dict(), 'image_pipeline': [], 'text_pipeline': [], **changes}
        options.pop('cache_images', None)
        return DATASETS.build(options)

    config = load_config(plan.configs.scratch, plan.options('scratch'))
    captions = load_config(plan.configs.pretrain)
    parts: dict[str, dict[str, Any]] = {}
    with DefaultScope.overwrite_default_scope('kovilt'):
        kept = read(config.train_dataloader)
        every = read(config.train_dataloader, answers={'min_count': 1})
        counts = dict(zip(every.answer_vocabulary.answers, every.answer_vocabulary.counts, strict=True))
        vocabulary = AnswerVocabulary.build(counts, min_count=kept.answer_vocabulary.min_count)
        parts['training questions'] = {
            'rows': len(kept),
            'images': kept.num_images,
            'left_out': sum(kept.left_out.values()),
            'answers_kept': len(vocabulary),
            'answers_removed': len(counts) - len(vocabulary),
            'coverage': 100 * vocabulary.coverage(counts),
        }
        dev = read(config.val_dataloader)
        answers = Counter(dev.record(row)['answer'] for row in range(len(dev)))
        parts['dev questions'] = {
            'rows': len(dev),
            'images': dev.num_images,
            'left_out': sum(dev.left_out.values()),
            'coverage': 100 * vocabulary.coverage(answers),
        }
        if plan.scale.images or not plan.body:
            for name, split in (('training captions', 'train'), ('dev captions', 'val')):
                found = read(captions[f'{split}_dataloader'])
                left_out = sum(found.left_out.values())
                parts[name] = {'rows': len(found), 'images': found.num_images, 'left_out': left_out}
    return {'min_count': vocabulary.min_count, 'parts': parts}


def gather(plan: Plan, taken: Mapping[str, float]) -> dict[str, Any]:
    """The results of the steps that are done (`taken`), as plain values; see `tools.recipes.paper_tables`."""
    from kovilt.evaluation.comparison import compare_predictions, pool_predictions, read_predictions
    from kovilt.visualization import read_metrics

    work, runs, alignment = plan.work, {}, {}
    for name, (kind, seed) in plan.kinds.items():
        if name not in taken or kind.split('_')[0] in ('pretrain', 'alone', 'untrained'):
            continue
        metrics = read_metrics(work / name)
        curve = list(zip(*metrics['val/accuracy'], strict=True))
        lines = (work / name / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
        runs[name] = {
            'kind': kind,
            'seed': seed,
            'curve': curve,
            'majority': metrics['val/majority_accuracy'][1][-1],
            'epoch': next(({**line} for line in map(json.loads, reversed(lines)) if line['mode'] == 'epoch'), {}),
            'rows': _read_json(work / name / 'data.json')['train']['rows'],
            'seconds': taken[name],
        }
        if kind == 'blind':  # the last evaluation of its training is of the same questions
            last = {key.removeprefix('val/'): values[-1] for key, (_, values) in metrics.items() if 'val/' in key}
            runs[name]['test'] = last
        if f'{name}_test' in taken:
            runs[name]['test'] = _read_json(work / f'{name}_test' / 'metrics.json')['metrics']
    for name in taken:
        if name.startswith('align_'):
            way = name.removeprefix('align_')
            score = _read_json(work / name / 'alignment.json')
            score.pop('per_name')
            alignment[way] = {'variant': way.rpartition('_')[0], **score}

    def predictions(kind: str) -> dict[int, Any]:
        return {
            run['seed']: read_predictions(work / f'{name}_test' / 'predictions.jsonl')
            for name, run in runs.items()
            if run['kind'] == kind and 'test' in run
        }

    comparisons = {}
    pairs = [('pretrained', 'meter'), ('scratch', 'meter'), ('pretrained', 'scratch')]
    pairs += [(f'tuned_{way}', 'tuned_full') for way in plan.ways if way != 'full']
    pairs += [(f'part_{way}', 'part_pretrained') for way in TUNING if way != 'pretrained']
    for later, earlier in pairs:
        a, b = predictions(earlier), predictions(later)
        common = sorted(a.keys() & b.keys())
        if common:
            found = compare_predictions(*(pool_predictions({s: side[s] for s in common}) for side in (a, b)))
            found.pop('mcnemar_p')  # of questions asked once
            comparisons[f'{later} - {earlier}'] = {'seeds': len(common), **found}
    machine = next((work / name / 'environment.json' for name in runs), None)
    full = [run['rows'] for run in runs.values() if not run['kind'].startswith('part_')]
    ways = {name: title for name, (title, _) in plan.ways.items()} | (FIXED if plan.small else FIXED | {'body': ''})
    return {
        'settings': {
            'marks': list(plan.scale.marks),
            'rows': full[0] if full else 0,
            'pretraining': ways,
            'tuning': {name: title for name, (title, _) in TUNING.items()},
        },
        'environment': _read_json(machine) if machine else {},
        'data': _read_json(work / 'table1.json') if (work / 'table1.json').is_file() else {},
        'cost': _read_json(work / 'cost' / 'cost.json') if 'cost' in taken else {},
        'runs': runs,
        'comparisons': comparisons,
        'alignment': alignment,
    }


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding='utf-8'))


def draw(results: Mapping[str, Any], out: Path) -> Path | None:
    """Accuracy against steps, means over the seeds; None when no training is done."""
    from statistics import mean

    from kovilt.visualization import Curve, Panel, draw_curves
    from tools.recipes.paper_tables import MODELS, runs_of

    def panel(title: str, kinds: Mapping[str, str]) -> Panel:
        curves, levels = [], {}
        for kind, label in kinds.items():
            runs = runs_of(results, kind)
            if runs:
                steps = [step for step, _ in runs[0]['curve']]
                values = [mean(column) for column in zip(*([v for _, v in run['curve']] for run in runs), strict=False)]
                curves.append(Curve(label, steps[: len(values)], values))
                levels = {'most frequent answer': runs[0]['majority']}
        return Panel(title, 'dev accuracy, %', curves, levels)

    panels = [
        panel('Table 2: all of the data', MODELS),
        panel('Table 3: a small part', {f'part_{model}': title for model, title in MODELS.items()}),
    ]
    if not any(one.curves for one in panels):
        return None
    return draw_curves(panels, out)


def write(results: Mapping[str, Any], work: Path, about: str) -> list[Path]:
    """tables.md, results.json, curves.png and the CSVs; returns their paths."""
    from tools.recipes.paper_tables import paper_tables

    tables = paper_tables(results)
    files = {'results.json': json.dumps(results, ensure_ascii=False, indent=1) + '\n'}
    files['tables.md'] = '\n'.join([about, *(table.markdown() for table in tables)])
    files |= {f'{table.name}.csv': table.csv() for table in tables}
    for name, text in files.items():
        (work / name).write_text(text, encoding='utf-8')
    image = draw(results, work / 'curves.png')
    return [work / name for name in sorted(files)] + ([image] if image else [])


def about(args: argparse.Namespace, scale: Scale, results: Mapping[str, Any]) -> str:
    """The first lines of tables.md: what was run, on what."""
    machine = results['environment']
    packages = machine.get('packages', {})
    where = 'a machine that has trained nothing yet'
    if machine:
        devices = [', '.join(machine['gpus']) or 'no GPU', f'{machine["cpus"]} CPU cores']
        where = ', '.join([*devices, f'torch {packages["torch"]}', f'Python {machine["python"]}'])
    usual = f'the shipped body ({ENCODER_PREFIX})' if scale.configs is SMALL else 'a body that was pre-trained here'
    body = args.body or usual
    unit = 'steps of 64 questions' if scale.configs is SMALL else 'epochs'
    return (
        f'# Tables: {args.data}, scale {args.scale}, {args.seeds} seed(s)\n\n'
        f'`python tools/reproduce.py {" ".join(args.tables)} --data {args.data} --scale {args.scale} --seeds '
        f'{args.seeds} --jobs {args.jobs}` on {where}. Table 2 trains for {scale.full:,} {unit}, table 3 for '
        f'{scale.part_epochs} epochs of {scale.part_rows:,} questions; pre-trained ViLT starts from {body}.\n'
    )


def main(args: argparse.Namespace) -> None:
    args.scale = args.scale or ('base' if args.data == 'aihub' else 'small')
    for table in args.tables:
        if table not in (*TABLES, 'all'):
            raise KoviltError(f'{table}: no such table{nearest(table, TABLES)}; there are {", ".join(TABLES)} and all')
    if (args.data, args.scale) not in SCALES:
        raise KoviltError(f'--data {args.data} has no --scale {args.scale}; the real data want --scale base')
    tables = [table for table in TABLES if table in args.tables or 'all' in args.tables]
    if args.data == 'aihub' and 'ablations' in tables:
        if 'all' not in args.tables:
            raise KoviltError(
                'ablations: words are scored against boxes, which only Rooms has; take --data rooms, or train '
                'configs/ablations by tools/train.py'
            )
        tables.remove('ablations')
    os.chdir(ROOT)  # configs and the work folder stand here
    if args.body and not (Path(args.body) / 'kovilt.json').is_file():
        raise KoviltError(f'--body {args.body}: no model folder; tools/weights/export.py writes one')
    default = 'reproduce' if (args.data, args.scale) == ('rooms', 'small') else f'reproduce_{args.data}_{args.scale}'
    work = args.work_dir or Path('work_dirs', default)
    if args.no_run and not (work / 'settings.json').is_file():
        raise KoviltError(f'{work}: nothing was run there; leave out --no-run')
    scale = SCALES[args.data, args.scale]
    options = {'data': args.data, 'scale': scale, 'seeds': args.seeds, 'work': work, 'body': args.body or ''}
    plan, steps = make_plan(tables, **options)
    os.environ |= plan.environment()
    if args.data == 'aihub' and not args.no_run:
        check_real_data(plan)
    settings = {'data': args.data, 'scale': args.scale, 'body': plan.body, 'sizes': asdict(scale)}
    check_settings(work, json.loads(json.dumps(settings)))

    failure = None if args.no_run else run(plan, steps, args.jobs)
    everything, every_step = make_plan(TABLES if scale.images else TABLES[:3], **options)
    if 'table1' in tables and not args.no_run and not failure and not (work / 'table1.json').is_file():
        text = json.dumps(describe_data(plan), ensure_ascii=False, indent=1) + '\n'
        (work / 'table1.json').write_text(text, encoding='utf-8')
    results = gather(everything, finished_steps(every_step, work))
    results['settings'] |= settings
    files = write(results, work, about(args, scale, results))
    print('\n'.join(f'  {file}' for file in files))
    if failure:
        raise failure


def check_real_data(plan: Plan) -> None:
    """Say at once where data that nobody draws are missing, by the reader's own words."""
    from kovilt.engine.config import load_config

    needed = [plan.configs.scratch] + ([plan.configs.pretrain] if 'pretrain_0' in plan.steps else [])
    for path in needed:
        root = load_config(path).train_dataloader.dataset.data_root
        if not Path(root).expanduser().is_dir():
            raise KoviltError(f'{root}: no such folder, which {path} reads; docs/data.md tells what belongs there')


def run(plan: Plan, steps: Sequence[Step], jobs: int) -> KoviltError | None:
    """Run the plan; returns what failed, after all that does not build on it has been run."""
    from kovilt.cli.environment import check_environment

    check_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the running steps are ended too
    if jobs > 1:
        os.environ.setdefault('OMP_NUM_THREADS', str(max(1, available_cpus() // jobs)))
    expected = format_duration(sum(step.seconds for step in steps))
    trainings = sum(step.command[0] == 'tools/train.py' for step in steps)
    print(f'{len(steps)} steps, {trainings} of them trainings, into {plan.work}; one by one on 2 cores {expected}')
    failures = []
    alone = [step for step in steps if step.name in ('draw', 'tokenizer', 'cost')] if 'cost' in plan.steps else []
    trained = [step for step in steps if step.name != 'cost']
    for part, beside in ((alone, 1), (trained, jobs)):  # cost is measured while nothing else runs
        try:
            run_steps(part, plan.work, jobs=beside)
        except KoviltError as error:
            failures.append(error)
    return failures[0] if failures else None


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))

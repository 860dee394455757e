"""The steps behind the paper's tables: data, trainings, evaluations, alignment scores and the measurement of cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kovilt.recipes import commands
from kovilt.recipes.commands import PRETRAINING_LOSSES, SHIPPED_ENCODER, VQA_SCALARS
from kovilt.recipes.steps import Step
from reproduction.scales import (
    FINE_TUNING_VARIANTS,
    PRETRAINING_VARIANTS,
    SMALL_PRETRAINING_VARIANTS,
    TABLES,
    ReproductionScale,
)


def plan_tables(
    tables: Sequence[str], *, scale: ReproductionScale, seeds: int, work_dir: Path, encoder: str = ''
) -> Reproduction:
    """The steps of some tables, in an order in which each follows the steps that it depends on."""
    plan = Reproduction(scale, seeds, work_dir, encoder)
    for table in TABLES:
        if table in tables:
            getattr(plan, f'add_{table}')()
    return plan


class PlannedTraining(NamedTuple):
    """A training that the tables compare by its kind.

    config: a field of `ModelConfigs`; length: in steps or epochs; model_options: options that change the architecture.
    """

    kind: str
    seed: int
    config: str
    length: int
    model_options: list[str]


class Start(NamedTuple):
    """What a training starts from: initial weights ('' = random) and the steps that must be finished."""

    weights: str
    after: tuple[str, ...]


class Reproduction:
    """The steps of the tables that were added, each step once and with a folder of its own in `work_dir`.

    Args:
        scale: how much data and training.
        seeds: number of trainings of each kind, with seeds 0, 1, ...
        work_dir: the work folder.
        encoder: model folder of the pre-trained encoder. '' = the shipped one for the small models; for those of base
            size an encoder is pre-trained as a step.
    """

    def __init__(self, scale: ReproductionScale, seeds: int, work_dir: Path, encoder: str = '') -> None:
        self.scale, self.configs, self.small = scale, scale.configs, scale.is_small
        self.seeds, self.work_dir = range(seeds), work_dir
        self.encoder = encoder or (SHIPPED_ENCODER if self.small else '')
        self.variants = SMALL_PRETRAINING_VARIANTS if self.small else PRETRAINING_VARIANTS
        self.steps: dict[str, Step] = {}
        self.trainings: dict[str, PlannedTraining] = {}  # by the name of the step

    def environment(self) -> dict[str, str]:
        """Environment variables that tell the configs where the data are."""
        if self.small:
            return {'KOVILT_ROOMS': f'{self.work_dir}/data', 'KOVILT_ROOMS_ALONE': f'{self.work_dir}/data_alone'}
        if not self.scale.images:
            return {}
        folders = {'KOVILT_AIHUB_101': 'data/vqa', 'KOVILT_AIHUB_261': 'data/captions', 'KOVILT_TOKENIZER': 'tokenizer'}
        return {name: f'{self.work_dir}/{folder}' for name, folder in folders.items()}

    # The tables

    def add_table1(self) -> None:
        self._add_data()

    def add_table2(self) -> None:
        scale, data = self.scale, self._add_data()
        self._add_cost(data)
        starts = {'meter': Start('', data), 'scratch': Start('', data), 'pretrained': self._add_encoder(data)}
        for seed in self.seeds:
            for model, start in starts.items():
                self._add_test(self._add_training(model, seed, model, start, scale.full, scale.full_val_interval))
            self._add_training('question_only', seed, 'question_only', Start('', data), scale.question_only)

    def add_table3(self) -> None:
        for seed in self.seeds:
            for model in ('scratch', 'pretrained'):
                self._add_subset_training(model, seed, model)

    def add_ablations(self) -> None:
        data = self._add_data()
        if self.small:
            self._add_fine_tuning_variants()
        self._add_pretraining_variants(data)
        no_change = ['optim_wrapper.optimizer.lr=1e-30', 'train_dataloader.dataset.limit=64']
        untrained = self._add_training('untrained', 0, 'pretrain', Start('', data), 1, options=no_change)
        self._add_alignment('untrained_0', self._start_from(untrained, data))
        if self.small:
            self._add_alignment('shipped_0', Start(self.encoder, data))

    def _add_fine_tuning_variants(self) -> None:
        for seed in self.seeds:
            for variant, (_, options) in FINE_TUNING_VARIANTS.items():
                self._add_test(self._add_subset_training(variant, seed, 'pretrained', options))

    def _add_pretraining_variants(self, data: tuple[str, ...]) -> None:
        scale, start = self.scale, Start('', data)
        if self.small:
            folder, images = self.work_dir / 'data_alone', scale.single_object_images
            drawn = self._add_rooms('draw_single_objects', commands.make_single_objects(folder, images), folder, images)
        for seed in self.seeds:
            for variant, (_, options) in self.variants.items():
                encoder_type = [option for option in options if option.startswith('model.encoder.type')]
                if self.small:  # the first stage, without alignment, is shared by all variants and seeds of an encoder
                    kind = 'single_objects_prefix' if encoder_type else 'single_objects'
                    first_options = ['model.wpa_head.loss_weight=0', *encoder_type]
                    first_start, steps = Start('', (*data, drawn)), scale.single_objects
                    first = self._add_training(kind, 0, 'single_objects', first_start, steps, options=first_options)
                    start = self._start_from(first, data)
                kind = f'pretrain_{variant}'
                pretrained = self._add_training(kind, seed, 'pretrain', start, scale.pretrain, options=options)
                encoder = self._start_from(pretrained, data)
                self._add_alignment(f'{variant}_{seed}', encoder)
                kind = f'tuned_{variant}'
                tuned = self._add_training(kind, seed, 'pretrained', encoder, scale.fine_tune, options=encoder_type)
                self._add_test(tuned)

    # Single steps

    def _add(
        self,
        name: str,
        title: str,
        command: Sequence[str],
        seconds: float,
        *,
        after: Sequence[str] = (),
        folder: Path | None = None,
        watch: Sequence[str] = (),
    ) -> str:
        self.steps[name] = Step(name, title, command, folder or self.work_dir / name, seconds, watch, tuple(after))
        return name

    def _add_rooms(self, name: str, command: Sequence[str], folder: Path, images: int) -> str:
        return self._add(name, 'draw Rooms', command, 2 + images / 200, folder=folder)

    def _add_data(self) -> tuple[str, ...]:
        """Rooms and, for models of base size, a tokenizer; no step for the user's own data."""
        if not self.scale.images:
            return ()
        data = self.work_dir / 'data'
        command = commands.make_rooms(data, self.scale.images, self.scale.val_images)
        drawn = self._add_rooms('draw', command, data, self.scale.images)
        if self.small:
            return (drawn,)
        command = commands.train_tokenizer(self.work_dir / 'tokenizer', data)
        return drawn, self._add('tokenizer', 'train the tokenizer', command, 60, after=[drawn])

    def _add_encoder(self, data: tuple[str, ...]) -> Start:
        """The pre-trained encoder, as the start of a training."""
        if self.encoder:
            return Start(self.encoder, data)
        name = self._add_training('pretrain', 0, 'pretrain', Start('', data), self.scale.pretrain)
        return self._start_from(name, data)

    def _add_cost(self, data: Sequence[str]) -> None:
        command = ['-m', 'benchmarks.model_cost', '--amp', '--out', f'{self.work_dir}/cost/cost.json']
        command += ['--rounds', f'{self.scale.cost_rounds}', '--batches', f'{self.scale.cost_batches}']
        for name, kind in (('METER', 'meter'), ('ViLT', 'scratch')):
            command += ['--model', name, getattr(self.configs, kind), *self.config_options(kind)]
        self._add('cost', 'measure training steps of both models in turn', command, 60, after=data)

    def config_options(self, config: str) -> list[str]:
        """Options of every training with a config, a field of `ModelConfigs`."""
        scale = self.scale
        options = [*(() if config == 'meter' else scale.options.get('vilt', ())), *scale.options.get(config, ())]
        if self.small:
            options += commands.tokenizer_options(self.encoder, 'train', 'val')
            options += ['val_dataloader.num_workers=0', 'val_dataloader.dataset.cache_images=true']
        elif scale.images and config == 'meter':
            options.append('model.encoder.text_encoder.pretrained=none')  # no public BERT has the tokenizer of Rooms
        if scale.val_questions and config not in ('pretrain', 'single_objects'):
            options += [f'val_dataloader.dataset.limit={scale.val_questions}', 'val_dataloader.dataset.seed=0']
        return options

    def _add_training(
        self,
        kind: str,
        seed: int,
        config: str,
        start: Start,
        length: int,
        val_interval: int = 0,
        options: Sequence[str] = (),
    ) -> str:
        """A training of `length` steps or epochs with a config, a field of `ModelConfigs`.

        val_interval: 0 = validated once, at the end.
        """
        name = f'{kind}_{seed}'
        if name in self.steps:
            return name
        if config == 'pretrained' and not start.weights:
            raise ValueError(f'{name}: a pre-trained model needs weights')
        if self.small:
            log_interval = max(1, min(50, length // 20))
            length_options = commands.length_options(length, val_interval or length, log_interval)
        else:
            length_options = [f'train_cfg.max_epochs={length}']
        all_options = [*self.config_options(config), *length_options, *options]
        path, folder = getattr(self.configs, config), self.work_dir / name
        command = commands.train(path, folder, all_options, load_from=start.weights, seed=seed)
        watch = PRETRAINING_LOSSES if config in ('pretrain', 'single_objects') else VQA_SCALARS
        seconds = 10 + length * (0.2 if self.small else 3600)
        model_options = [option for option in options if option.startswith('model.')]
        self.trainings[name] = PlannedTraining(kind, seed, config, length, model_options)
        return self._add(name, f'train {name}', command, seconds, after=start.after, watch=watch)

    def _add_subset_training(self, kind: str, seed: int, config: str, options: Sequence[str] = ()) -> str:
        """A training on the part of the data of table 3, validated after each epoch."""
        data = self._add_data()
        start = self._add_encoder(data) if config == 'pretrained' else Start('', data)
        options = [f'train_dataloader.dataset.limit={self.scale.subset_questions}', *options]
        epoch = self.scale.subset_questions // 64 if self.small else 1
        length = epoch * self.scale.subset_epochs
        return self._add_training(f'subset_{kind}', seed, config, start, length, epoch, options)

    def _checkpoint(self, training: str) -> str:
        """The last checkpoint of a training."""
        unit = 'iter' if self.small else 'epoch'
        return f'{self.work_dir}/{training}/{unit}_{self.trainings[training].length}.pth'

    def _start_from(self, training: str, data: tuple[str, ...]) -> Start:
        return Start(self._checkpoint(training), (*data, training))

    def _add_test(self, training: str) -> None:
        """An evaluation of a finished training, with all predictions."""
        name, planned = f'{training}_test', self.trainings[training]
        path, options = getattr(self.configs, planned.config), self.config_options(planned.config)
        options += planned.model_options
        command = commands.test(path, self._checkpoint(training), self.work_dir / name, options)
        self._add(name, f'evaluate {training}', command, 20, after=[training])

    def _add_alignment(self, name: str, model: Start) -> None:
        command = commands.score_alignment(model.weights, self.work_dir / 'data', self.work_dir / f'align_{name}')
        self._add(f'align_{name}', f'score word-patch alignment of {name}', command, 20, after=model.after)

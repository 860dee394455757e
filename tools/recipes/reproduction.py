"""The steps behind the paper's tables: data, trainings, evaluations, alignment scores and the measurement of cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tools.recipes import commands
from tools.recipes.commands import PRETRAINING_LOSSES, SHIPPED_ENCODER, VQA_SCALARS
from tools.recipes.reproduction_scales import (
    FINE_TUNING_VARIANTS,
    PRETRAINING_VARIANTS,
    SMALL_PRETRAINING_VARIANTS,
    TABLES,
    ReproductionScale,
)
from tools.recipes.steps import Step


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
    """A training: its kind, which the tables compare; its seed; its config, a field of `ModelConfigs`."""

    kind: str
    seed: int
    config: str


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
        encoder, needed = self._add_encoder(data)
        for seed in self.seeds:
            for model in ('meter', 'scratch', 'pretrained'):
                load_from, after = (encoder, needed) if model == 'pretrained' else ('', data)
                name = self._add_training(
                    model, seed, model, scale.full, scale.full_val_interval, load_from=load_from, after=after
                )
                self._add_test(name, model, scale.full)
            self._add_training('question_only', seed, 'question_only', scale.question_only, after=data)

    def add_table3(self) -> None:
        for seed in self.seeds:
            for model in ('scratch', 'pretrained'):
                self._add_subset_training(model, seed, model)

    def add_ablations(self) -> None:
        data = self._add_data()
        if self.small:
            self._add_fine_tuning_variants()
        self._add_pretraining_variants(data)
        no_change = ['optim_wrapper.optimizer.lr=0.0', 'train_dataloader.dataset.limit=64']
        title = 'save the random weights'
        untrained = self._add_training('untrained', 0, 'pretrain', 1, options=no_change, after=data, title=title)
        self._add_alignment('untrained_0', self._checkpoint(untrained, 1), (*data, untrained))
        if self.small:
            self._add_alignment('shipped_0', self.encoder, data)

    def _add_fine_tuning_variants(self) -> None:
        for seed in self.seeds:
            for variant, (_, options) in FINE_TUNING_VARIANTS.items():
                name = self._add_subset_training(variant, seed, 'pretrained', options)
                model_options = [option for option in options if option.startswith('model.')]
                self._add_test(name, 'pretrained', self._subset_length()[0], model_options)

    def _add_pretraining_variants(self, data: tuple[str, ...]) -> None:
        scale, single_objects = self.scale, data
        if self.small:
            folder = self.work_dir / 'data_alone'
            command = commands.make_single_objects(folder, scale.single_object_images)
            single_objects = (
                *data,
                self._add_rooms('draw_single_objects', command, folder, scale.single_object_images),
            )
        for seed in self.seeds:
            for variant, (_, options) in self.variants.items():
                encoder_type = [option for option in options if option.startswith('model.encoder.type')]
                load_from, after = '', data
                if self.small:  # the first stage, without alignment, is shared by all variants and seeds of an encoder
                    first = self._add_training(
                        'single_objects_prefix' if encoder_type else 'single_objects',
                        0,
                        'single_objects',
                        scale.single_objects,
                        options=['model.wpa_head.loss_weight=0', *encoder_type],
                        after=single_objects,
                    )
                    load_from, after = self._checkpoint(first, scale.single_objects), (*data, first)
                pretrained = self._add_training(
                    f'pretrain_{variant}',
                    seed,
                    'pretrain',
                    scale.pretrain,
                    options=options,
                    load_from=load_from,
                    after=after,
                )
                encoder, after = self._checkpoint(pretrained, scale.pretrain), (*data, pretrained)
                self._add_alignment(f'{variant}_{seed}', encoder, after)
                tuned = self._add_training(
                    f'tuned_{variant}',
                    seed,
                    'pretrained',
                    scale.fine_tune,
                    options=encoder_type,
                    load_from=encoder,
                    after=after,
                )
                self._add_test(tuned, 'pretrained', scale.fine_tune, encoder_type)

    # Single steps; each method returns the name of its step, or the names of those that a training depends on

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

    def _add_encoder(self, data: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The pre-trained encoder and the names of the steps that it needs."""
        if self.encoder:
            return self.encoder, data
        name = self._add_training(
            'pretrain', 0, 'pretrain', self.scale.pretrain, after=data, title='pre-train the encoder'
        )
        return self._checkpoint(name, self.scale.pretrain), (*data, name)

    def _add_cost(self, data: Sequence[str]) -> None:
        command = ['benchmarks/model_cost.py', '--amp', '--out', f'{self.work_dir}/cost/cost.json']
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
        length: int,
        val_interval: int = 0,
        *,
        options: Sequence[str] = (),
        load_from: str = '',
        after: Sequence[str] = (),
        title: str = '',
    ) -> str:
        """A training of `length` steps or epochs.

        config: a field of `ModelConfigs`; val_interval: 0 = validated once, at the end; load_from: initial weights.
        """
        name = f'{kind}_{seed}'
        if name in self.steps:
            return name
        if config == 'pretrained' and not load_from:
            raise ValueError(f'{name}: a pre-trained model needs load_from')
        if self.small:
            log_interval = max(1, min(50, length // 20))
            length_options = commands.length_options(length, val_interval or length, log_interval)
        else:
            length_options = [f'train_cfg.max_epochs={length}']
        path, options = getattr(self.configs, config), [*self.config_options(config), *length_options, *options]
        command = commands.train(path, self.work_dir / name, options, load_from=load_from, seed=seed)
        watch = PRETRAINING_LOSSES if config in ('pretrain', 'single_objects') else VQA_SCALARS
        seconds = 10 + length * (0.2 if self.small else 3600)
        self.trainings[name] = PlannedTraining(kind, seed, config)
        return self._add(name, title or f'train {name}', command, seconds, after=after, watch=watch)

    def _subset_length(self) -> tuple[int, int]:
        """Length and validation interval of a training on table 3's subset, in steps or epochs."""
        epoch = self.scale.subset_questions // 64 if self.small else 1
        return epoch * self.scale.subset_epochs, epoch

    def _add_subset_training(self, kind: str, seed: int, config: str, options: Sequence[str] = ()) -> str:
        data = self._add_data()
        load_from, after = self._add_encoder(data) if config == 'pretrained' else ('', data)
        options = [f'train_dataloader.dataset.limit={self.scale.subset_questions}', *options]
        return self._add_training(
            f'subset_{kind}', seed, config, *self._subset_length(), options=options, load_from=load_from, after=after
        )

    def _checkpoint(self, training: str, length: int) -> str:
        """The last checkpoint of a training."""
        return f'{self.work_dir}/{training}/{"iter" if self.small else "epoch"}_{length}.pth'

    def _add_test(self, training: str, config: str, length: int, options: Sequence[str] = ()) -> str:
        """An evaluation of a finished training, with all predictions."""
        name = f'{training}_test'
        path, options = getattr(self.configs, config), [*self.config_options(config), *options]
        command = commands.test(path, self._checkpoint(training, length), self.work_dir / name, options)
        return self._add(name, f'evaluate {training}', command, 20, after=[training])

    def _add_alignment(self, name: str, model: str, after: Sequence[str]) -> str:
        command = commands.score_alignment(model, self.work_dir / 'data', self.work_dir / f'align_{name}')
        return self._add(f'align_{name}', f'score word-patch alignment of {name}', command, 20, after=after)

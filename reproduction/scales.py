"""How large a reproduction is: data, lengths of trainings, configs and their options; and the variants it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

TABLES = ('table1', 'table2', 'table3', 'ablations')


@dataclass(frozen=True)
class ModelConfigs:
    """The configs of models of one size."""

    meter: str
    scratch: str
    pretrained: str
    question_only: str
    pretrain: str
    single_objects: str = ''  # first stage of pre-training


SMALL = ModelConfigs(
    meter='rooms/meter_vqa',
    scratch='rooms/vqa_scratch',
    pretrained='rooms/vqa',
    question_only='rooms/question_only',
    pretrain='rooms/pretrain',
    single_objects='rooms/pretrain_single_objects',
)
BASE = ModelConfigs(
    meter='meter_vqa_aihub',
    scratch='kovilt_vqa_aihub_scratch',
    pretrained='kovilt_vqa_aihub',
    question_only='ablations/vqa_question_only',
    pretrain='kovilt_pretrain_coco',
)


@dataclass(frozen=True)
class ReproductionScale:
    """How much data and training.

    The lengths of trainings are optimizer steps of 64 texts for the small models, and epochs for those of base size.

    Args:
        images: training images of Rooms to draw; 0 = the data are the user's.
        val_images: validation images of Rooms.
        single_object_images: images of the first stage of pre-training.
        full: length of the trainings of table 2.
        full_val_interval: distance between their validations.
        question_only: length of the training without images; language is learned sooner.
        subset_questions: training questions of table 3.
        subset_epochs: length of the trainings of table 3, which are validated after each epoch.
        single_objects: length of the first stage of pre-training of the ablations, the same for all seeds.
        pretrain: length of pre-training, or of its second stage.
        fine_tune: length of fine-tuning after a pre-training of the ablations.
        val_questions: validation questions to use; 0 = all.
        cost_rounds: repetitions when the cost of a training step is measured.
        cost_batches: batches of each repetition.
        target_accuracies: percent; table 3 tells when they are reached.
        configs: of the models.
        options: config options by field of `configs`; those of 'vilt' are for all models but METER.
    """

    images: int = 0
    val_images: int = 0
    single_object_images: int = 0
    full: int = 0
    full_val_interval: int = 1
    question_only: int = 0
    subset_questions: int = 0
    subset_epochs: int = 0
    single_objects: int = 0
    pretrain: int = 0
    fine_tune: int = 0
    val_questions: int = 0
    cost_rounds: int = 6
    cost_batches: int = 8
    target_accuracies: tuple[float, ...] = (20.0, 30.0, 40.0, 50.0)
    configs: ModelConfigs = SMALL
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_small(self) -> bool:
        return self.configs is SMALL


ONE_GPU = {  # the published optimizer steps within the memory of one GPU
    'vilt': ('train_dataloader.batch_size=256', 'train_dataloader.collate_fn.micro_batches=4'),
    'meter': ('train_dataloader.batch_size=512', 'train_dataloader.collate_fn.micro_batches=32'),
    'pretrain': ('train_dataloader.batch_size=4096', 'train_dataloader.collate_fn.micro_batches=32'),
}
ONE_GPU_SHORT = {  # in steps that fit one GPU, on so many questions as METER reads at 576 pixels in three minutes
    'vilt': (
        'train_dataloader.batch_size=256',
        'train_dataloader.num_workers=8',
        'train_dataloader.dataset.limit=32000',
    ),
    'meter': (
        'train_dataloader.batch_size=256',
        'train_dataloader.num_workers=8',
        'train_dataloader.collate_fn.micro_batches=4',
        'train_dataloader.dataset.limit=32000',
        'model.encoder.image_encoder_weights=none',  # CLIP's would come from the network
    ),
    'pretrain': (
        'train_dataloader.batch_size=1024',
        'train_dataloader.collate_fn.micro_batches=4',
        'train_dataloader.dataset.limit=64000',
    ),
}
TINY = {  # the configs of base size with models that only try the code
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
        'model.encoder.image_encoder_weights=none',
        'train_dataloader.num_workers=0',
    ),
    'pretrain': ('train_dataloader.num_workers=0',),
}
SCALES = {
    ('rooms', 'small'): ReproductionScale(
        images=10_000, val_images=500, single_object_images=8_000, full=1500, full_val_interval=250, question_only=700,
        subset_questions=4480, subset_epochs=12, single_objects=2000, pretrain=2000, fine_tune=400),
    ('rooms', 'tiny'): ReproductionScale(
        images=40, val_images=8, single_object_images=10, full=4, full_val_interval=2, question_only=2,
        subset_questions=64, subset_epochs=2, single_objects=2, pretrain=2, fine_tune=2, cost_rounds=1, cost_batches=1),
    ('rooms', 'base'): ReproductionScale(
        images=100_000, val_images=1000, full=3, question_only=1, subset_questions=44_000, subset_epochs=5, pretrain=10,
        fine_tune=1, configs=BASE, options=ONE_GPU),
    ('rooms', 'base_short'): ReproductionScale(
        images=100_000, val_images=1000, full=1, question_only=1, subset_questions=32_000, subset_epochs=5, pretrain=1,
        fine_tune=1, val_questions=3000, cost_rounds=3, cost_batches=4, configs=BASE, options=ONE_GPU_SHORT),
    ('rooms', 'base_tiny'): ReproductionScale(
        images=40, val_images=8, full=1, question_only=1, subset_questions=64, subset_epochs=2, pretrain=1, fine_tune=1,
        val_questions=20, cost_rounds=1, cost_batches=1, configs=BASE, options=TINY),
    ('aihub', 'base'): ReproductionScale(
        full=10, question_only=1, subset_questions=80_000, subset_epochs=5, pretrain=40, fine_tune=1,
        val_questions=3000, configs=BASE, options=ONE_GPU),
    ('aihub', 'tiny'): ReproductionScale(
        full=1, question_only=1, subset_questions=64, subset_epochs=2, pretrain=1, fine_tune=1, val_questions=20,
        cost_rounds=1, cost_batches=1, configs=BASE, options=TINY),
}  # fmt: skip


class Variant(NamedTuple):
    """A row of an ablation: its title and the config options that make it."""

    title: str
    options: tuple[str, ...] = ()


# Variants of pre-training. An objective is left out by a weight of zero: its head stays, so alignment can be scored.
PRETRAINING_VARIANTS = {
    'full': Variant('as configured'),
    'no_wpa': Variant('without word-patch alignment', ('model.wpa_head.loss_weight=0',)),
    'mlm_only': Variant(
        'masked language modelling only', ('model.itm_head.loss_weight=0', 'model.wpa_head.loss_weight=0')
    ),
    'prefix': Variant('PrefixViLT, images encoded without the text', ('model.encoder.type=PrefixViLT',)),
}
SMALL_PRETRAINING_VARIANTS = PRETRAINING_VARIANTS | {  # the small config aligns in another way than the paper
    'paper_wpa': Variant(
        "the paper's alignment: last states, matched pairs, weight 0.5",
        (
            'model.wpa_head.loss_weight=0.5',
            'model.wpa_head.mismatched=ignore',
            'model.wpa_head.mean_center=false',
            'model.wpa_head.block=none',
        ),
    ),
}
# Models whose alignment is scored for comparison, without a pre-training of this run.
ALIGNMENT_BASELINES = {'untrained': 'random weights', 'shipped': 'the shipped encoder, for comparison'}

# Variants of fine-tuning, compared on the data of table 3.
FINE_TUNING_VARIANTS = {
    'pretrained': Variant('as configured'),
    'head_lr_1': Variant(
        'the head has the learning rate of the encoder', ('optim_wrapper.paramwise_cfg.head_lr_mult=1.0',)
    ),
    'cls_start': Variant('[CLS] is initialized from [CLS], not from [MASK]', ('custom_hooks=[]',)),
    'prefix': Variant('PrefixViLT, from the same encoder', ('model.encoder.type=PrefixViLT',)),
}

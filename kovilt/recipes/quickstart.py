"""The steps of `make quickstart` and `make rooms`.

quickstart goes the way of `kovilt train FOLDER` from the encoder that kovilt ships: train, evaluate, export. What the
model is compared with (without images, from random weights) and what its encoder does come afterwards, if asked for.
rooms pre-trains such an encoder first, in three stages: on images of single objects, on whole rooms, and with uniform
masking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kovilt.recipes import commands
from kovilt.recipes.commands import PRETRAINING_LOSSES, SHIPPED_ENCODER, VQA_SCALARS
from kovilt.recipes.steps import Step

# Seconds on 2 cores: to start a tool, to draw an image, for an optimizer step, to evaluate a question or a caption.
START, IMAGE, PRETRAIN_STEP, VQA_STEP, QUESTION_ONLY_STEP, TEXT = 6, 0.004, 0.25, 0.2, 0.05, 0.002
QUESTIONS_PER_IMAGE, CAPTIONS_PER_IMAGE = 8, 5
QUESTION_ONLY_STEPS = 2000  # at most; language alone is learned by then
FURTHER_LR = 3e-4  # with that of pre-training a trained encoder would first forget


@dataclass(frozen=True)
class RecipeSize:
    """How much data and training: numbers of images, and of optimizer steps of 64 texts.

    val_questions: of the validations during training; 0 = all. The evaluation after it takes all.
    """

    images: int
    val_images: int
    pretrain_steps: int
    vqa_steps: int
    val_interval: int
    val_questions: int = 0
    single_object_images: int = 0
    single_object_steps: int = 0
    uniform_masking_steps: int = 0


SIZES = {
    ('quickstart', 'default'): RecipeSize(2400, 500, 150, 500, 125, val_questions=400),
    ('quickstart', 'tiny'): RecipeSize(40, 8, 6, 6, 3, val_questions=20),
    ('rooms', 'default'): RecipeSize(
        40_000, 500, 6500, 12_000, 2000, single_object_images=8000, single_object_steps=3000, uniform_masking_steps=1400
    ),
    ('rooms', 'tiny'): RecipeSize(
        40, 8, 6, 6, 3, single_object_images=10, single_object_steps=6, uniform_masking_steps=6
    ),
}


def recipe_steps(recipe: str, size: RecipeSize, work_dir: Path, *, compare: bool = False) -> list[Step]:
    """The steps of 'quickstart' or 'rooms', in order; each writes into a folder of its own in `work_dir`.

    compare: with the comparison of the quickstart, whose steps follow the others. rooms has its own in any case.
    """
    if recipe == 'rooms':
        return _rooms_steps(_StepMaker(size, work_dir, tokenizer=''))
    make = _StepMaker(size, work_dir, tokenizer=SHIPPED_ENCODER)
    steps = [
        make.draw_rooms(),
        make.train_vqa('vqa', 'fine-tune the shipped encoder · 미세조정', load_from=SHIPPED_ENCODER),
        make.test('vqa', 'evaluate · 평가'),
        make.export('model', 'export the model · 모델 저장', make.checkpoint('vqa', size.vqa_steps)),
    ]
    if not compare:
        return steps
    return [
        *steps,
        make.train_question_only(),
        make.test('question_only', 'evaluate without images · 이미지 없이 평가'),
        make.train_vqa('vqa_scratch', 'the same from scratch · 사전학습 없이'),
        make.test('vqa_scratch', 'evaluate from scratch · 사전학습 없이 평가'),
        make.pretrain_further(),
        make.score_alignment(SHIPPED_ENCODER),
    ]


def _rooms_steps(make: _StepMaker) -> list[Step]:
    encoder = make.checkpoint('pretrain_uniform_masking', make.size.uniform_masking_steps)
    return [
        make.draw_rooms(),
        *make.pretrain_in_stages(),
        make.export('encoder', 'export the encoder · 인코더 저장', encoder),
        make.train_vqa('vqa', 'fine-tune the pre-trained encoder · 미세조정', load_from=encoder),
        make.train_question_only(),
        make.test('vqa', 'evaluate · 평가'),
        make.test('question_only', 'evaluate without images · 이미지 없이 평가'),
        make.score_alignment(encoder),
        make.export('model', 'export the model · 모델 저장', make.checkpoint('vqa', make.size.vqa_steps)),
    ]


class _StepMaker:
    """Makes the steps of a recipe. `tokenizer`: in place of the one that the configs name; '' = theirs."""

    def __init__(self, size: RecipeSize, work_dir: Path, tokenizer: str) -> None:
        self.size, self.work_dir, self.data, self.tokenizer = size, work_dir, work_dir / 'data', tokenizer
        self.questions = size.val_images * QUESTIONS_PER_IMAGE

    def checkpoint(self, name: str, steps: int) -> str:
        return f'{self.work_dir}/{name}/iter_{steps}.pth'

    def draw_rooms(self) -> Step:
        command = [*commands.make_rooms(self.data, self.size.images, self.size.val_images), '--seed', '0']
        return Step('draw', 'draw Rooms · 합성 데이터 생성', command, self.data, 2 + self.size.images * IMAGE)

    def pretrain_in_stages(self) -> list[Step]:
        size, tokenizer, single_objects = self.size, self.data / 'tokenizer', self.work_dir / 'data_alone'
        first = self.checkpoint('pretrain_single_objects', size.single_object_steps)
        second = self.checkpoint('pretrain', size.pretrain_steps)
        draw = commands.make_single_objects(single_objects, size.single_object_images)
        seconds = 2 + size.single_object_images * IMAGE
        return [
            Step(
                'tokenizer',
                'train the tokenizer · 토크나이저 학습',
                commands.train_tokenizer(tokenizer, self.data),
                tokenizer,
                5 + size.images / 500,
            ),
            Step('draw_single_objects', 'draw single objects · 단일 물체 이미지 생성', draw, single_objects, seconds),
            self._pretrain(
                'pretrain_single_objects', 'pre-train on single objects · 사전학습 1단계', size.single_object_steps
            ),
            self._pretrain('pretrain', 'pre-train on rooms · 사전학습 2단계', size.pretrain_steps, first),
            self._pretrain(
                'pretrain_uniform_masking',
                'pre-train with uniform masking · 사전학습 3단계',
                size.uniform_masking_steps,
                second,
            ),
        ]

    def pretrain_further(self) -> Step:
        """The last stage of pre-training, continued: so few steps from random weights do not learn matching."""
        return self._train(
            'pretrain',
            'pre-train the shipped encoder further · 사전학습 계속',
            self.size.pretrain_steps,
            PRETRAIN_STEP,
            PRETRAINING_LOSSES,
            [f'optim_wrapper.optimizer.lr={FURTHER_LR}'],
            config='rooms/pretrain_uniform_masking',
            load_from=SHIPPED_ENCODER,
            val_interval=self.size.pretrain_steps,
        )

    def _pretrain(self, name: str, title: str, steps: int, load_from: str = '') -> Step:
        return self._train(name, title, steps, PRETRAIN_STEP, PRETRAINING_LOSSES, load_from=load_from)

    def train_vqa(self, name: str, title: str, load_from: str = '') -> Step:
        options = self._val_questions()
        return self._train(name, title, self.size.vqa_steps, VQA_STEP, VQA_SCALARS, options, load_from=load_from)

    def train_question_only(self) -> Step:
        steps, title = min(self.size.vqa_steps, QUESTION_ONLY_STEPS), 'the same without images · 이미지 없이'
        return self._train('question_only', title, steps, QUESTION_ONLY_STEP, VQA_SCALARS, self._val_questions())

    def _val_questions(self) -> list[str]:
        return [f'val_dataloader.dataset.limit={self.size.val_questions}'] if self.size.val_questions else []

    def _train(
        self,
        name: str,
        title: str,
        steps: int,
        step_seconds: float,
        watch: Sequence[str],
        options: Sequence[str] = (),
        *,
        config: str = '',
        load_from: str = '',
        val_interval: int = 0,
    ) -> Step:
        """Train rooms/<name>, or another config, into the folder <name>."""
        folder, val_interval = self.work_dir / name, min(val_interval or self.size.val_interval, steps)
        lengths = commands.length_options(steps, val_interval, max(1, min(50, steps // 50)))
        tokenizer = commands.tokenizer_options(self.tokenizer, 'train', 'val')
        evaluations = -(-steps // val_interval)
        seconds = START + steps * step_seconds + evaluations * (self.size.val_questions or self.questions) * TEXT
        command = commands.train(
            config or f'rooms/{name}', folder, [*lengths, *options, *tokenizer], load_from=load_from
        )
        return Step(name, title, command, folder, seconds, watch)

    def test(self, name: str, title: str) -> Step:
        """Evaluate the last checkpoint of the training `name` on all validation questions."""
        steps = self.size.vqa_steps if name != 'question_only' else min(self.size.vqa_steps, QUESTION_ONLY_STEPS)
        folder = self.work_dir / f'{name}_test'
        options = commands.tokenizer_options(self.tokenizer, 'val')
        command = commands.test(f'rooms/{name}', self.checkpoint(name, steps), folder, options)
        return Step(f'{name}_test', title, command, folder, START + self.questions * TEXT)

    def score_alignment(self, encoder: str) -> Step:
        folder = self.work_dir / 'alignment'
        seconds = START + self.size.val_images * CAPTIONS_PER_IMAGE * TEXT
        command = commands.score_alignment(encoder, self.data, folder)
        return Step('alignment', 'score word-patch alignment · 단어-패치 정렬', command, folder, seconds)

    def export(self, name: str, title: str, checkpoint: str) -> Step:
        folder = self.work_dir / name
        return Step(name, title, commands.export(checkpoint, folder), folder, START)

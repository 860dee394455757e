"""The steps of `make quickstart` and `make rooms`.

quickstart fine-tunes the encoder that kovilt ships and trains two baselines beside it. rooms pre-trains such an encoder
first, in three stages: on images of single objects, on whole rooms, and with uniform masking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kovilt.recipes import commands
from kovilt.recipes.commands import PRETRAINING_LOSSES, SHIPPED_ENCODER, VQA_SCALARS
from kovilt.recipes.steps import Step

# Seconds on 2 cores: to start a tool, to draw an image, for an optimizer step, to evaluate a question or a caption.
START, IMAGE, PRETRAIN_STEP, VQA_STEP, QUESTION_ONLY_STEP, TEXT = 8, 0.005, 0.25, 0.16, 0.04, 0.002
QUESTIONS_PER_IMAGE, CAPTIONS_PER_IMAGE = 8, 5
QUESTION_ONLY_STEPS = 2000  # at most; language alone is learned by then


@dataclass(frozen=True)
class RecipeSize:
    """How much data and training: numbers of images, and of optimizer steps of 64 texts."""

    images: int
    val_images: int
    pretrain_steps: int
    vqa_steps: int
    val_interval: int
    single_object_images: int = 0
    single_object_steps: int = 0
    uniform_masking_steps: int = 0


SIZES = {
    ('quickstart', 'default'): RecipeSize(3000, 500, 200, 900, 450),
    ('quickstart', 'tiny'): RecipeSize(40, 8, 6, 6, 3),
    ('rooms', 'default'): RecipeSize(
        40_000, 500, 6500, 12_000, 2000, single_object_images=8000, single_object_steps=3000, uniform_masking_steps=1400
    ),
    ('rooms', 'tiny'): RecipeSize(
        40, 8, 6, 6, 3, single_object_images=10, single_object_steps=6, uniform_masking_steps=6
    ),
}


def recipe_steps(recipe: str, size: RecipeSize, work_dir: Path) -> list[Step]:
    """The steps of 'quickstart' or 'rooms', in order; each writes into a folder of its own in `work_dir`."""
    make = _StepMaker(size, work_dir, tokenizer=SHIPPED_ENCODER if recipe == 'quickstart' else '')
    if recipe == 'quickstart':
        encoder = SHIPPED_ENCODER
        pretraining = [make.pretrain('pretrain', 'pre-train from scratch · 사전학습', size.pretrain_steps)]
        scratch = [make.train_vqa('vqa_scratch', 'the same from scratch · 사전학습 없이')]
    else:
        pretraining = make.pretrain_in_stages()
        encoder = make.checkpoint('pretrain_uniform_masking', size.uniform_masking_steps)
        pretraining.append(make.export('encoder', 'export the encoder · 인코더 저장', encoder))
        scratch = []
    model = make.checkpoint('vqa', size.vqa_steps)
    return [
        make.draw_rooms(),
        *pretraining,
        make.train_vqa('vqa', 'fine-tune the pre-trained encoder · 미세조정', load_from=encoder),
        *scratch,
        make.train_question_only(),
        make.test(model),
        make.score_alignment(encoder),
        make.export('model', 'export the model · 모델 저장', model),
    ]


class _StepMaker:
    """Makes the steps of a recipe. `tokenizer`: in place of the one that the configs name; '' = theirs."""

    def __init__(self, size: RecipeSize, work_dir: Path, tokenizer: str) -> None:
        self.size, self.work_dir, self.data, self.tokenizer = size, work_dir, work_dir / 'data', tokenizer
        self.evaluation_seconds = size.val_images * QUESTIONS_PER_IMAGE * TEXT

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
            self.pretrain(
                'pretrain_single_objects', 'pre-train on single objects · 사전학습 1단계', size.single_object_steps
            ),
            self.pretrain('pretrain', 'pre-train on rooms · 사전학습 2단계', size.pretrain_steps, first),
            self.pretrain(
                'pretrain_uniform_masking',
                'pre-train with uniform masking · 사전학습 3단계',
                size.uniform_masking_steps,
                second,
            ),
        ]

    def pretrain(self, name: str, title: str, steps: int, load_from: str = '') -> Step:
        return self._train(name, title, steps, PRETRAIN_STEP, PRETRAINING_LOSSES, load_from)

    def train_vqa(self, name: str, title: str, load_from: str = '') -> Step:
        return self._train(name, title, self.size.vqa_steps, VQA_STEP, VQA_SCALARS, load_from)

    def train_question_only(self) -> Step:
        steps = min(self.size.vqa_steps, QUESTION_ONLY_STEPS)
        return self._train(
            'question_only', 'the same without images · 이미지 없이', steps, QUESTION_ONLY_STEP, VQA_SCALARS
        )

    def _train(
        self, name: str, title: str, steps: int, step_seconds: float, watch: Sequence[str], load_from: str = ''
    ) -> Step:
        """Train rooms/<name>."""
        folder, val_interval = self.work_dir / name, self.size.val_interval
        options = commands.length_options(steps, min(val_interval, steps), max(1, min(50, steps // 50)))
        options += commands.tokenizer_options(self.tokenizer, 'train', 'val')
        evaluations = -(-steps // val_interval)
        seconds = START + steps * step_seconds + evaluations * self.evaluation_seconds
        command = commands.train(f'rooms/{name}', folder, options, load_from=load_from)
        return Step(name, title, command, folder, seconds, watch)

    def test(self, model: str) -> Step:
        folder = self.work_dir / 'vqa_test'
        options = commands.tokenizer_options(self.tokenizer, 'val')
        command = commands.test('rooms/vqa', model, folder, options)
        return Step('vqa_test', 'evaluate · 평가', command, folder, START + self.evaluation_seconds)

    def score_alignment(self, encoder: str) -> Step:
        folder = self.work_dir / 'alignment'
        seconds = START + self.size.val_images * CAPTIONS_PER_IMAGE * TEXT
        command = commands.score_alignment(encoder, self.data, folder)
        return Step('alignment', 'score word-patch alignment · 단어-패치 정렬', command, folder, seconds)

    def export(self, name: str, title: str, checkpoint: str) -> Step:
        folder = self.work_dir / name
        return Step(name, title, commands.export(checkpoint, folder), folder, START)

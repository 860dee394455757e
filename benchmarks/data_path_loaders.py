"""The loaders that benchmarks/data_path.py compares: HuggingFace's, and kovilt's from files and prepared data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fixtures import PATCH_SIZE, RESIZE

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from kovilt.datasets import QuestionDataset

MAX_TEXT_LEN = 40


def huggingface_processors() -> dict[str, Any]:
    from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
    from transformers.models.vilt.image_processing_vilt import ViltImageProcessor

    return {'HuggingFace, Pillow': ViltImageProcessorPil(), 'HuggingFace, torchvision': ViltImageProcessor()}


def open_rgb(file: Path) -> Any:
    """A PIL image in RGB."""
    from PIL import Image

    with Image.open(file) as image:
        return image.convert('RGB')


class QuestionsForHuggingFace:
    """A data set of questions with their opened images."""

    def __init__(self, dataset: QuestionDataset) -> None:
        records = [dataset.record(row) for row in range(len(dataset))]
        self.rows = [(record['image'], record['question']) for record in records]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Any, str]:
        image, question = self.rows[row]
        return open_rgb(image), question


class HuggingFaceCollate:
    """The usual collate function: HuggingFace's processor on all images and questions of a batch."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        from transformers import ViltProcessor

        self.processor = ViltProcessor(image_processor, tokenizer)

    def __call__(self, samples: list[tuple[Any, str]]) -> Any:
        images, questions = zip(*samples, strict=True)
        return self.processor(
            images=list(images),
            text=list(questions),
            padding=True,
            truncation=True,
            max_length=MAX_TEXT_LEN,
            return_tensors='pt',
        )


def make_loaders(folder: Path, args: argparse.Namespace) -> dict[str, tuple[DataLoader, int]]:
    """The data loaders by name, with how many epochs to time, so that the start of workers hardly counts."""
    from torch.utils.data import DataLoader

    from kovilt.datasets import QuestionDataset, load_tokenizer, prepare

    tokenizer = str(folder / 'tokenizer')
    texts = [{'type': 'TokenizeKorean', 'tokenizer': tokenizer, 'max_text_len': MAX_TEXT_LEN}]
    pipeline = [
        {'type': 'LoadImage'},
        {'type': 'ResizeViLT', **RESIZE},
        {'type': 'Patchify', 'patch_size': PATCH_SIZE},
    ]
    files: dict[str, Any] = {
        'reader': {'type': 'AIHubLivingReader', 'data_root': str(folder / 'set'), 'split': 'train'},
        'image_pipeline': pipeline,
        'answers': {'min_count': 1},
    }
    prepare(folder / 'prepared', {'train': {'type': 'QuestionDataset', **files}})
    from_files = QuestionDataset(text_pipeline=texts, **files)
    from_prepared = QuestionDataset(
        reader={'type': 'PreparedReader', 'data_root': str(folder / 'prepared'), 'split': 'train'},
        answers=str(folder / 'prepared' / 'answers.json'),
        image_pipeline=[{'type': 'LoadPrepared'}],
        text_pipeline=texts,
    )
    workers: dict[str, Any] = {'num_workers': args.workers, 'persistent_workers': args.workers > 0}
    loaders: dict[str, tuple[DataLoader, int]] = {}
    for name, processor in huggingface_processors().items():
        loader: DataLoader = DataLoader(
            QuestionsForHuggingFace(from_files),  # type: ignore[arg-type]  # torch takes any map of samples
            batch_size=args.batch_size,
            shuffle=True,
            collate_fn=HuggingFaceCollate(processor, load_tokenizer(folder / 'tokenizer')),
            **workers,
        )
        loaders[name] = loader, 1
    variants: dict[str, tuple[QuestionDataset, int | None, int]] = {
        'kovilt, 1 question an image': (from_files, 1, 1),
        'kovilt': (from_files, None, 5),
        'kovilt, prepared, 1 question an image': (from_prepared, 1, 20),
        'kovilt, prepared': (from_prepared, None, 100),
    }
    for name, (dataset, together, epochs) in variants.items():
        loaders[name] = kovilt_loader(dataset, args.batch_size, together, **workers), epochs
    return loaders


def kovilt_loader(dataset: QuestionDataset, batch_size: int, together: int | None, **options: Any) -> DataLoader:
    """kovilt's loader; `together` questions of an image come one after another, None = all of them."""
    from torch.utils.data import DataLoader

    from kovilt.datasets import GlobalBatchSampler, ImageGroupSampler, collate_pairs

    sampler = ImageGroupSampler(dataset, shuffle=True, seed=0, texts_per_image=together)
    batches = GlobalBatchSampler(sampler, batch_size)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate_pairs, **options)


def run_epochs(loader: DataLoader, epochs: int) -> None:
    """Read all batches, and end the workers, as their processor time is known only then."""
    for _ in range(epochs):
        for _ in loader:
            pass
    loader._iterator = None

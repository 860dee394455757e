"""The steps from a record to tensors: images to patches, texts to pieces."""

from kovilt.datasets.transforms.image import CropSquare, LoadImage, RandAugment, ResizeViLT
from kovilt.datasets.transforms.patches import JoinPatches, LoadPrepared, NoImage, Patchify
from kovilt.datasets.transforms.text import TokenizeKorean, load_tokenizer

__all__ = [
    'CropSquare',
    'JoinPatches',
    'LoadImage',
    'LoadPrepared',
    'NoImage',
    'Patchify',
    'RandAugment',
    'ResizeViLT',
    'TokenizeKorean',
    'load_tokenizer',
]

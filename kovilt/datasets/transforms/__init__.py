"""The steps from a record to tensors: pictures to patches, texts to pieces."""

from kovilt.datasets.transforms.image import CropSquare, LoadPicture, RandAugment, ResizeViLT
from kovilt.datasets.transforms.patches import JoinPatches, LoadPrepared, NoPicture, Patchify
from kovilt.datasets.transforms.text import TokenizeKorean, load_tokenizer

__all__ = [
    'CropSquare',
    'JoinPatches',
    'LoadPicture',
    'LoadPrepared',
    'NoPicture',
    'Patchify',
    'RandAugment',
    'ResizeViLT',
    'TokenizeKorean',
    'load_tokenizer',
]

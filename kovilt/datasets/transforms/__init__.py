"""The transforms that turn a record into tensors: images into patches, texts into tokens."""

from kovilt.datasets.transforms.distortions import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    RandomCrop,
    RandomResizeViLT,
)
from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.datasets.transforms.patches import JoinPatches, LoadPrepared, NoImage, Patchify
from kovilt.datasets.transforms.rand_augment import RandAugment
from kovilt.datasets.transforms.resize import CropSquare, ResizeViLT
from kovilt.datasets.transforms.text import TokenizeKorean, load_tokenizer

__all__ = [
    'ColorJitter',
    'CropSquare',
    'GaussianBlur',
    'GaussianNoise',
    'JoinPatches',
    'LoadImage',
    'LoadPrepared',
    'NoImage',
    'Patchify',
    'RandAugment',
    'RandomCrop',
    'RandomResizeViLT',
    'ResizeViLT',
    'TokenizeKorean',
    'load_tokenizer',
]

"""The steps from a record to tensors: pictures to patches, texts to pieces."""

from .image import CropSquare, LoadPicture, RandAugment, ResizeViLT
from .packing import JoinPatches, LoadPrepared, NoPicture, Patchify
from .text import TokenizeKorean, load_tokenizer

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

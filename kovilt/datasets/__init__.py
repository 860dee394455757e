"""From annotation files to packed batches. Importing this package registers its parts."""

from .aihub_coco import AIHubCOCOKorean
from .aihub_living import AIHubLivingVQA
from .answers import AnswerVocabulary
from .collate import collate_pairs
from .korean import normalize_korean
from .pairs import PairDataset
from .questions import QuestionDataset
from .samplers import GlobalBatchSampler, PictureSampler
from .tokenizer_training import train_tokenizer
from .transforms import LoadPicture, NoPicture, Patchify, RandAugment, ResizeViLT, TokenizeKorean, load_tokenizer

__all__ = [
    'AIHubCOCOKorean',
    'AIHubLivingVQA',
    'AnswerVocabulary',
    'GlobalBatchSampler',
    'LoadPicture',
    'NoPicture',
    'PairDataset',
    'Patchify',
    'PictureSampler',
    'QuestionDataset',
    'RandAugment',
    'ResizeViLT',
    'TokenizeKorean',
    'collate_pairs',
    'load_tokenizer',
    'normalize_korean',
    'train_tokenizer',
]

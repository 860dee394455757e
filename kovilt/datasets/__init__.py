"""From annotation files to packed batches. Importing this package registers its parts."""

from .aihub_coco import AIHubCOCOKorean
from .aihub_knowledge import AIHubKnowledgeVQA
from .aihub_living import AIHubLivingVQA
from .aihub_visual import AIHubVisualQA
from .answers import AnswerVocabulary, agreement, soft_scores
from .collate import collate_pairs
from .korean import normalize_korean
from .kvqa import KVQA
from .pairs import PairDataset
from .plain import PlainVQA
from .prepared import PreparedCaptions, PreparedVQA, verify_prepared
from .preparing import prepare
from .questions import QuestionDataset
from .samplers import GlobalBatchSampler, PictureSampler
from .tokenizer_training import train_tokenizer
from .transforms import (
    CropSquare,
    JoinPatches,
    LoadPicture,
    LoadPrepared,
    NoPicture,
    Patchify,
    RandAugment,
    ResizeViLT,
    TokenizeKorean,
    load_tokenizer,
)
from .vqav2 import VQAv2Style

__all__ = [
    'AIHubCOCOKorean',
    'AIHubKnowledgeVQA',
    'AIHubLivingVQA',
    'AIHubVisualQA',
    'AnswerVocabulary',
    'CropSquare',
    'GlobalBatchSampler',
    'JoinPatches',
    'KVQA',
    'LoadPicture',
    'LoadPrepared',
    'NoPicture',
    'PairDataset',
    'Patchify',
    'PictureSampler',
    'PlainVQA',
    'PreparedCaptions',
    'PreparedVQA',
    'QuestionDataset',
    'RandAugment',
    'ResizeViLT',
    'TokenizeKorean',
    'VQAv2Style',
    'collate_pairs',
    'load_tokenizer',
    'normalize_korean',
    'agreement',
    'prepare',
    'soft_scores',
    'train_tokenizer',
    'verify_prepared',
]

"""From annotation files to packed batches. Importing this package registers its parts."""

from kovilt.datasets.answers import AnswerVocabulary, soft_scores, vqa_score
from kovilt.datasets.collate import collate_pairs
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import PreparedCaptions, PreparedVQA, verify_prepared
from kovilt.datasets.preparing import prepare
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.readers.aihub_coco import AIHubCOCOKorean
from kovilt.datasets.readers.aihub_knowledge import AIHubKnowledgeVQA
from kovilt.datasets.readers.aihub_living import AIHubLivingVQA
from kovilt.datasets.readers.aihub_visual import AIHubVisualQA
from kovilt.datasets.readers.kvqa import KVQA
from kovilt.datasets.readers.plain import PlainVQA
from kovilt.datasets.readers.vqav2 import VQAv2Style
from kovilt.datasets.samplers import GlobalBatchSampler, ImageGroupSampler
from kovilt.datasets.tokenizer_training import train_tokenizer
from kovilt.datasets.transforms import (
    CropSquare,
    JoinPatches,
    LoadImage,
    LoadPrepared,
    NoImage,
    Patchify,
    RandAugment,
    ResizeViLT,
    TokenizeKorean,
    load_tokenizer,
)

__all__ = [
    'AIHubCOCOKorean',
    'AIHubKnowledgeVQA',
    'AIHubLivingVQA',
    'AIHubVisualQA',
    'AnswerVocabulary',
    'CropSquare',
    'GlobalBatchSampler',
    'ImageGroupSampler',
    'JoinPatches',
    'KVQA',
    'LoadImage',
    'LoadPrepared',
    'NoImage',
    'PairDataset',
    'Patchify',
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
    'prepare',
    'soft_scores',
    'train_tokenizer',
    'verify_prepared',
    'vqa_score',
]

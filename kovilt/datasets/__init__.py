"""From annotation files to packed batches. Importing this package registers its parts."""

from kovilt.datasets.answers import AnswerVocabulary, soft_scores, vqa_score
from kovilt.datasets.choices import ChoiceDataset
from kovilt.datasets.collate import collate_pairs
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.pairs import PairDataset
from kovilt.datasets.prepared import PreparedReader, verify_prepared
from kovilt.datasets.preparing import prepare
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.readers.aihub_coco import AIHubCOCOKoreanReader
from kovilt.datasets.readers.aihub_dialogue import AIHubDialogueReader
from kovilt.datasets.readers.aihub_knowledge import AIHubKnowledgeReader
from kovilt.datasets.readers.aihub_living import AIHubLivingReader
from kovilt.datasets.readers.aihub_visual import AIHubVisualReader
from kovilt.datasets.readers.base import CaptionReader, QuestionReader, Reader
from kovilt.datasets.readers.choice import ChoiceHFDatasetReader, ChoiceParquetReader, ChoiceReader, ChoiceTSVReader
from kovilt.datasets.readers.kvqa import KVQAReader
from kovilt.datasets.readers.llava import LLaVAReader
from kovilt.datasets.readers.parquet import HFDatasetReader, ParquetCaptionReader, ParquetReader
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.tsv import TSVReader
from kovilt.datasets.readers.vqav2 import VQAv2Reader
from kovilt.datasets.readers.webdataset import WebDatasetQuestionReader, WebDatasetReader
from kovilt.datasets.rows import FoundImage, ReadReport, RowSet
from kovilt.datasets.samplers import GlobalBatchSampler, ImageGroupSampler
from kovilt.datasets.tokenizer_training import train_tokenizer
from kovilt.datasets.transforms import (
    ColorJitter,
    CropSquare,
    GaussianBlur,
    GaussianNoise,
    JoinPatches,
    LoadImage,
    LoadPrepared,
    NoImage,
    Patchify,
    RandAugment,
    RandomCrop,
    RandomResizeViLT,
    ResizeViLT,
    TokenizeKorean,
    load_tokenizer,
)

__all__ = [
    'CaptionReader',
    'QuestionReader',
    'Reader',
    'FoundImage',
    'ReadReport',
    'RowSet',
    'AIHubCOCOKoreanReader',
    'AIHubDialogueReader',
    'AIHubKnowledgeReader',
    'AIHubLivingReader',
    'AIHubVisualReader',
    'AnswerVocabulary',
    'ChoiceDataset',
    'ChoiceHFDatasetReader',
    'ChoiceParquetReader',
    'ChoiceReader',
    'ChoiceTSVReader',
    'ColorJitter',
    'CropSquare',
    'GaussianBlur',
    'GaussianNoise',
    'GlobalBatchSampler',
    'HFDatasetReader',
    'ImageGroupSampler',
    'JoinPatches',
    'KVQAReader',
    'LLaVAReader',
    'LoadImage',
    'LoadPrepared',
    'NoImage',
    'PairDataset',
    'ParquetCaptionReader',
    'ParquetReader',
    'Patchify',
    'PlainReader',
    'PreparedReader',
    'QuestionDataset',
    'RandAugment',
    'RandomCrop',
    'RandomResizeViLT',
    'ResizeViLT',
    'TSVReader',
    'TokenizeKorean',
    'VQAv2Reader',
    'WebDatasetQuestionReader',
    'WebDatasetReader',
    'collate_pairs',
    'load_tokenizer',
    'normalize_korean',
    'prepare',
    'soft_scores',
    'train_tokenizer',
    'verify_prepared',
    'vqa_score',
]

"""Finds out which data sets lie in a folder, by the names of their files or, where these say too little, by keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from kovilt.datasets.folders import Folder, check_data_root, list_folders
from kovilt.datasets.korean import normalize_korean
from kovilt.datasets.readers.aihub import FoundFile, JSONFile, is_label, json_files
from kovilt.datasets.readers.aihub_coco import AIHubCOCOKoreanReader
from kovilt.datasets.readers.aihub_dialogue import AIHubDialogueReader, is_dialogue, is_dialogue_file
from kovilt.datasets.readers.aihub_knowledge import AIHubKnowledgeReader
from kovilt.datasets.readers.aihub_living import AIHubLivingReader
from kovilt.datasets.readers.aihub_visual import FILES as VISUAL_FILES
from kovilt.datasets.readers.aihub_visual import AIHubVisualReader
from kovilt.datasets.readers.base import QuestionReader, Reader
from kovilt.datasets.readers.json_rows import JSONRows
from kovilt.datasets.readers.kvqa import KVQAReader
from kovilt.datasets.readers.llava import LLaVAReader, has_conversations
from kovilt.datasets.readers.parquet import ALIASES, HFDatasetReader, ParquetCaptionReader, ParquetReader, saved_splits
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.table_reader import split_files
from kovilt.datasets.readers.tsv import TSVReader
from kovilt.datasets.readers.vqav2 import VQAv2Reader
from kovilt.datasets.readers.webdataset import WebDatasetQuestionReader, WebDatasetReader, has_questions, is_shard
from kovilt.datasets.table_files import read_schema
from kovilt.errors import KoviltError

DataSets = dict[type[Reader], set[str]]  # the splits by the reader

_PLAIN_TABLE = re.compile(r'(train|val|dev|test)\.(?:jsonl|csv)')
_NAMED: dict[type[Reader], re.Pattern[str]] = {
    # files that only one data set has; their name gives the split, or the file holds both train and val
    AIHubCOCOKoreanReader: re.compile(r'MSCOCO_train_val_Korean\.json'),
    KVQAReader: re.compile(r'(?i:kvqa)_annotations(?:_(train|val|test))?\.json'),
    VQAv2Reader: re.compile(r'v2_OpenEnded_mscoco_(train|val)2014_questions\.json'),
}


def find_data_sets(root: Path, *, allow_outside: bool = False) -> DataSets:
    """The data sets beneath a folder.

    Args:
        allow_outside: follow links that lead out of the folder.

    Raises:
        KoviltError: no such folder, an incomplete download, no known data set.
    """
    found = recognize(list(list_folders(root, allow_outside=allow_outside)))
    if not found:
        raise KoviltError(
            f'{root}: no data set that kovilt knows (train.jsonl or .csv, *.parquet, *.tsv, a folder of save_to_disk, '
            'conversations in .json, shards in .tar, [라벨]*.zip, MSCOCO_train_val_Korean.json, '
            'KVQA_annotations_train.json, v2_OpenEnded_mscoco_train2014_questions.json); give a config that names '
            'the files'
        )
    return found


def recognize(folders: list[Folder]) -> DataSets:
    """The data sets in listed folders; empty if there are none."""
    found = _named_files(folders) | _table_files(folders)
    aihub = _aihub_reader(folders)
    if aihub is None and not found and any(_label_files(folders)):
        aihub = AIHubLivingReader  # all label files are damaged, which the reader will report
    if aihub:
        found[aihub] = {'train', 'val'}
    return found or _other_tables(folders)


def find_questions(root: str, *, allow_outside: bool = False) -> tuple[type[QuestionReader], set[str]]:
    """The reader of the data set of questions in a folder, and its splits.

    Raises:
        KoviltError: as `find_data_sets` and `check_data_root`; several data sets, no questions, no training split.
    """
    path = check_data_root(root, PlainReader.HOW_TO_GET)
    found = find_data_sets(path, allow_outside=allow_outside)
    questions = {reader: splits for reader, splits in found.items() if issubclass(reader, QuestionReader)}
    if PlainReader in questions:  # a table in the folder itself goes before what lies beneath
        questions = {PlainReader: questions[PlainReader]}
    if len(questions) != 1:
        names = ', '.join(reader.__name__ for reader in found)
        what = 'several data sets of questions' if questions else 'no questions'
        raise KoviltError(f'{root}: {what} (found: {names}); give a config that names the reader')
    ((reader, splits),) = questions.items()
    if 'train' not in splits:
        raise KoviltError(f'{root}: no training questions, only {", ".join(map(repr, sorted(splits)))}')
    return reader, splits


def _named_files(folders: list[Folder]) -> DataSets:
    """By the names of files; tables of one's own lie in the first folder, the root."""
    found: DataSets = {}
    names = [name for name in folders[0].files if _PLAIN_TABLE.fullmatch(name)]
    tables = {os.path.splitext(name)[0] for name in names if not has_conversations(Path(folders[0].path, name))}
    if tables:
        found[PlainReader] = tables
    for folder in folders:
        for name in map(normalize_korean, folder.files):
            for reader, pattern in _NAMED.items():
                if match := pattern.fullmatch(name):
                    splits = {match[1]} if pattern.groups and match[1] else {'train', 'val'}
                    found.setdefault(reader, set()).update(splits)
    return found


def _table_files(folders: list[Folder]) -> DataSets:
    """Tables of HuggingFace's `datasets`, of questions or captions by their columns."""
    found: DataSets = {}
    parquet, saved = split_files(folders, ParquetReader.SUFFIXES), saved_splits(folders)
    if parquet:
        found[_reader_of_table(next(iter(parquet.values()))[0], ParquetReader)] = set(parquet)
    if saved:
        first = next(iter(sorted(next(iter(saved.values()))[0].glob('*.arrow'))), Path())
        found[_reader_of_table(first, HFDatasetReader)] = set(saved)
    return found


def _reader_of_table(path: Path, questions: type[Reader]) -> type[Reader]:
    """By the columns of a table that is no table of questions; `questions` if it is, or cannot be read."""
    try:
        names = set(read_schema(str(path)).names)
    except KoviltError:  # which the reader will report
        return questions
    if 'question' in names:
        return questions
    if has_conversations(path):
        return LLaVAReader
    return ParquetCaptionReader if {'text', *ALIASES['text']} & names else questions


def _other_tables(folders: list[Folder]) -> DataSets:
    """Formats whose files are called in any way."""
    conversations = split_files(folders[:1], ('.json', '.jsonl'), has_conversations)
    tsv = split_files(folders[:1], TSVReader.SUFFIXES)
    shards = split_files(folders, ('.tar',), is_shard)
    found: DataSets = {LLaVAReader: set(conversations), TSVReader: set(tsv)}
    if shards and has_questions(next(iter(shards.values()))[0]):
        found[WebDatasetQuestionReader] = set(shards)
    elif shards:  # of captions, of which it makes a split 'val' if there is none
        found[WebDatasetReader] = {*shards, *(['val'] if 'train' in shards else [])}
    return {reader: splits for reader, splits in found.items() if splits}


def _aihub_reader(folders: list[Folder]) -> type[Reader] | None:
    """The reader of the AI-Hub question set in the folders, by its first readable label file; None = no such set."""
    for label in _label_files(folders):
        try:
            for file in json_files(label):
                if found := _reader_of_label(file):
                    return found
        except KoviltError:
            continue
    return None


def _label_files(folders: list[Folder]) -> Iterator[FoundFile]:
    """Possible label files of AI-Hub, by the name of their folder or by their own name."""
    for folder in folders:
        is_visual = {f'{name}.json' for name in VISUAL_FILES} <= set(folder.files)
        for name in folder.files:
            stem, suffix = os.path.splitext(name)
            file = FoundFile(os.path.join(folder.path, name), (*folder.parts, normalize_korean(stem)))
            loose = is_visual or any('vqa' in part.lower() for part in file.parts)
            if suffix.lower() in ('.json', '.zip') and is_label(file.parts) or suffix.lower() == '.json' and loose:
                yield file


def _reader_of_label(file: JSONFile) -> type[Reader] | None:
    if file.parts[-1].lower() in VISUAL_FILES:
        return AIHubVisualReader
    with file.open() as stream:
        key, row = next(iter(JSONRows(stream, file.path)), (None, None))
    if key == 'annotations' and isinstance(row, dict) and 'IMAGE_NAME' in row:
        return AIHubKnowledgeReader
    if not is_label(file.parts):
        return None
    if key in ('images', 'question'):
        return AIHubLivingReader
    return AIHubDialogueReader if is_dialogue(row) or is_dialogue_file(file) else None

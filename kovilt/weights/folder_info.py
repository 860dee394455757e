"""kovilt.json of a model folder: its keys and their types, and the files whose sizes and digests it lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.files import check_file, file_sha256, read_json
from kovilt.formats.fields import Field, check_answers, check_field, check_fields
from kovilt.weights.stored_config import check_stored_model, check_stored_pipeline

FORMAT = 1
INFO, CARD = 'kovilt.json', 'README.md'
NORMALIZER = 'normalize_korean'
WEIGHTS, PREFIX_WEIGHTS, HEADS = 'model.safetensors', 'prefix_model.safetensors', 'kovilt_heads.safetensors'

_REMEDY = f'copy the folder again or, if you have changed the file on purpose, write its bytes and sha256 into {INFO}'
_REQUIRED = 'config.json', 'tokenizer_config.json'
# Files that are read if they are there, and so must be listed.
_READ = (
    *(*_REQUIRED, WEIGHTS, PREFIX_WEIGHTS, HEADS, 'model.onnx', 'model.pt2', 'preprocessor_config.json'),
    *('tokenizer.json', 'vocab.txt', 'vocab.json', 'merges.txt', 'special_tokens_map.json', 'added_tokens.json'),
)
_TEXT = Field(str)
_OBJECT = Field(dict, is_required=True)
_FIELDS = dict(
    kovilt_version=_TEXT,
    model=_OBJECT,
    image_pipeline=Field(list, is_required=True),
    max_text_len=Field(int, low=3, high=100_000, is_required=True),
    normalizer=Field(str, choices=(NORMALIZER,)),
    vocabulary_digest=_TEXT,
    answer_counts=Field(list, items=Field(int, low=0)),
    training=Field(dict),
    graph=Field(dict),
    calibration=Field(dict),
    image_detector=Field(dict),
    files=_OBJECT,
)
CALIBRATION_FIELDS = dict(
    temperature=Field(float, low=0.01, high=100, is_required=True),
    threshold=Field(float, low=0, high=1, is_required=True),
    precision_target=Field(float, low=0, high=1),
    abstention=Field(str, low=1, high=200, is_required=True),
    questions=Field(int, low=0, is_required=True),
)
_IMAGE_DETECTOR = dict(
    file=Field(str, low=1, is_required=True),
    threshold=Field(float, low=0, is_required=True),
    images=Field(int, low=1, is_required=True),
)
_FILE = dict(bytes=Field(int, low=0, is_required=True), sha256=Field(str, low=64, high=64, is_required=True))
_GRAPH = dict(
    format=Field(str, choices=('onnx', 'pt2'), is_required=True),
    precision=Field(str, choices=('float32', 'int8'), is_required=True),
    grids=Field(list, low=1, high=100_000, items=Field(list, low=2, high=2, items=Field(int, low=1)), is_required=True),
)


def read_folder_info(path: Path) -> dict[str, Any]:
    """Read kovilt.json of the model folder `path` and compare the folder's files with it.

    Raises:
        KoviltError: no model folder, a newer format, a value of a wrong type or beyond its range, a part that no file
            may name (`kovilt.registry.check_stored`), or a file that is missing, changed or not listed.
    """
    if not (path / INFO).is_file():
        why = 'no such folder' if not path.is_dir() else f'no model folder: it has no {INFO}'
        raise KoviltError(f'{path}: {why}; kovilt export makes one from a checkpoint')
    source = str(path / INFO)
    info = read_json(path / INFO)
    if info.get('format') != FORMAT:
        raise KoviltError(f'{source}: format {info.get("format")!r}, this kovilt reads {FORMAT}; update kovilt')
    check_fields(info, _FIELDS, source)
    if info.get('graph') is not None:
        check_fields(info['graph'], _GRAPH, f'{source}: graph')
    if info.get('calibration') is not None:
        check_fields(info['calibration'], CALIBRATION_FIELDS, f'{source}: calibration')
    if (detector := info.get('image_detector')) is not None:
        check_fields(detector, _IMAGE_DETECTOR, f'{source}: image_detector')
        if detector['file'] not in info['files']:
            raise KoviltError(f'{source}: image_detector names {detector["file"]!r}, which is none of its files')
    check_stored_model(info['model'], f'{source}: model')
    check_stored_pipeline(info['image_pipeline'], f'{source}: image_pipeline')
    longest = info['model']['encoder'].get('max_text_len')
    if isinstance(longest, int) and info['max_text_len'] > longest:
        raise KoviltError(f'{source}: max_text_len is {info["max_text_len"]}, but that of its encoder {longest}')
    _check_files(path, info)
    return info


def read_answers(path: Path, model_cfg: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """The answers of a model folder in the order of their classes; none if its model has no answer head.

    Raises:
        KoviltError: other than one answer for each class, one is empty or twice, or counts of other answers.
    """
    if not model_cfg.get('vqa_head'):
        return []
    file = path / 'config.json'
    labels = read_json(file).get('id2label') or {}
    check_field(labels, Field(dict), f'{file}: id2label')
    answers = answers_by_class(labels, model_cfg['vqa_head'].get('num_answers'), source=f'{file}: id2label')
    check_answers(answers, f'{file}: id2label')
    counts = info.get('answer_counts')
    if counts is not None and len(counts) != len(answers):
        raise KoviltError(f'{path / INFO}: answer_counts has {len(counts)} items for {len(answers)} answers')
    return answers


def answers_by_class(labels: Mapping[str, str], expected: int, *, source: str) -> list[str]:
    """The answers in the order of their classes, from {'0': answer, ...}; KoviltError unless there are `expected`."""
    try:
        answers = [labels[str(i)] for i in range(len(labels))]
    except KeyError as error:
        raise KoviltError(f'{source} has {len(labels)} answers but none of number {error}') from error
    if len(answers) != expected:
        raise KoviltError(f'{source} has {len(answers)} answers, the answer head {expected}')
    return answers


def size_and_digest(file: Path) -> dict[str, int | str]:
    """The entry of a file in kovilt.json."""
    return {'bytes': file.stat().st_size, 'sha256': file_sha256(file, 'weights')}


def _check_files(path: Path, info: Mapping[str, Any]) -> None:
    """KoviltError if a file of the folder is missing, or not the one whose size and digest kovilt.json states."""
    needed = {*_REQUIRED} | {name for name in _READ if (path / name).is_file()}
    for name in sorted(needed - info['files'].keys()):
        raise KoviltError(f'{path / name}: not among the files of {INFO}; copy the folder again, with what it holds')
    for name, expected in info['files'].items():
        file = path / name
        check_fields(expected, _FILE, f'{path / INFO}: files.{name}')
        if Path(name).name != name:
            raise KoviltError(f'{path / INFO}: files names {name!r}, which does not lie in the folder')
        if not file.exists():
            raise KoviltError(f'{file}: missing from the model folder; copy the folder again')
        check_file(file, 'weights')
        size = file.stat().st_size
        if size != expected['bytes']:
            raise KoviltError(f'{file}: {size} bytes instead of {expected["bytes"]}; {_REMEDY}')
        if size_and_digest(file) != expected:
            raise KoviltError(f'{file}: its sha256 is not that of {INFO}; {_REMEDY}')

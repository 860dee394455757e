"""What `kovilt train FOLDER` decides about a folder of images and questions, and the config that it writes.

The rule for the length of a training and its learning rate stands in `Schedule.of`; docs/en/own_images.md tells what it
reaches on small sets (`benchmarks/own_images.py`).
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import pprint
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import kovilt
from kovilt.config_names import find_config
from kovilt.datasets.readers.plain import PlainReader
from kovilt.datasets.readers.table_reader import TableReader
from kovilt.datasets.recognition import find_questions
from kovilt.datasets.table import digest_table
from kovilt.datasets.transforms.text import load_tokenizer
from kovilt.engine.config import load_config
from kovilt.engine.config_options import parse_option
from kovilt.errors import KoviltError
from kovilt.files import write_text
from kovilt.model_names import find_model
from kovilt.modules.processor import has_fast_bfloat16
from kovilt.recipes.commands import SHIPPED_ENCODER
from kovilt.terminal import printable
from kovilt.weights import import_weights
from kovilt.weights.extension import extend_model
from kovilt.weights.folder_info import INFO, read_folder_info

VAL_SHARE = 0.2  # of the images, where there is no table of val
MAX_UNKNOWN = 0.5  # share of unknown tokens above which the packaged encoder has learned another language
BATCH_SIZE = 32
MIN_STEPS = 400  # of small sets: with 150 the accuracy still rises when the learning rate has fallen to zero
_BASE = dict(hidden_size=768, num_layers=12, num_heads=12, mlp_ratio=4.0, patch_size=32, image_size=384)


@dataclass(frozen=True)
class Choices:
    """What the user asks for; None = the plan decides.

    model: 'auto', 'small', 'base', the name of a packaged model, a folder of a model (kovilt's, or public weights), or
        the name of public weights on HuggingFace's hub.
    tokenizer: in place of the packaged one; for public weights as `import_weights` takes it. bert: for those alone.
    minutes: of the whole command. epochs: of the fine-tuning. image_size: shorter side in pixels. columns: as those of
        a `TableReader`.
    """

    folder: str
    model: str = 'auto'
    tokenizer: str | None = None
    bert: str | None = None
    minutes: float | None = None
    epochs: int | None = None
    image_size: int | None = None
    seed: int = 0
    allow_outside: bool = False
    columns: Mapping[str, str] | None = None
    cfg_options: Sequence[str] = ()


@dataclass(frozen=True)
class Data:
    """The questions of a folder, as `reader` reads them.

    `digest` identifies questions and images; `val_share` is 0 if the data set has a validation split.
    """

    questions: dict[str, int]  # by split
    images: dict[str, int]
    answers: Counter[str]  # of the training questions
    coverage: float  # share of the validation questions whose answer occurs in training
    texts: list[str] = field(repr=False)
    val_share: float
    digest: str
    reader: str = PlainReader.__name__


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    folder: a model folder with the tokenizer. weights: it gives the weights, too. text: both in words. encoder,
    image_pipeline: of another model than the packaged one. encoder_only: its heads are for other answers.
    """

    folder: str
    weights: bool
    text: str
    encoder: dict[str, Any] | None = None
    image_pipeline: list[dict[str, Any]] | None = None
    encoder_only: bool = False


@dataclass(frozen=True)
class Schedule:
    """The length of a training, in steps of BATCH_SIZE questions, and its optimizer."""

    steps: int
    val_interval: int
    optimizer: dict[str, Any]
    head_lr_mult: float

    @classmethod
    def of(cls, questions: int, start: Start, choices: Choices, step_seconds: float) -> Schedule:
        """The rule.

        From weights a model sees each question 10 times, from random weights 30 times, and takes at least 400 steps;
        epochs that are given hold for both. It takes no more steps than fit into half of the minutes (10 by default on
        a CPU, without given epochs). Early stopping may end it before that.
        """
        epoch = math.ceil(questions / BATCH_SIZE)
        epochs = choices.epochs or (10 if start.weights else 30)
        steps = max(epochs * epoch, 1 if choices.epochs else MIN_STEPS)
        minutes = choices.minutes or (None if choices.epochs or torch.cuda.is_available() else 10)
        if minutes is not None:
            steps = min(steps, max(1, int(60 * minutes / 2 / step_seconds)))
        optimizer: dict[str, Any] = dict(type='MuonAdamW', lr=1e-3 if start.weights else 2e-3)
        if start.encoder is not None and start.encoder['hidden_size'] >= _BASE['hidden_size']:
            optimizer = dict(type='AdamW', lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
        return cls(steps, max(1, steps // 10), optimizer, 3.0 if start.weights else 1.0)


def read_data(choices: Choices) -> Data:
    """Read the questions of the folder.

    Raises:
        KoviltError: no folder or data set of questions, a malformed row, a single image, no validation split where none
            can be made.
    """
    kind, splits = find_questions(choices.folder, allow_outside=choices.allow_outside)
    val_share = 0.0 if 'val' in splits else VAL_SHARE
    if not issubclass(kind, TableReader) and (val_share or choices.columns):
        what = '--columns is for tables' if choices.columns else 'there is no validation split'
        raise KoviltError(f'{choices.folder}: {kind.__name__}: {what}; train a config of this data set')
    questions, images, answers, texts, val_answers = {}, {}, Counter[str](), list[str](), list[str]()
    digest = hashlib.sha256()
    for split in ('train', 'val'):
        rows = kind(split=split, **_reader_arguments(choices, choices.folder, val_share)).read_rows()
        digest.update(digest_table(rows.table) + rows.images.image_ids.tobytes())
        questions[split], images[split] = len(rows), len(rows.images)
        found = rows.columns['answer'].to_pylist()
        if split == 'train':
            answers, texts = Counter(found), list(rows.texts())
        else:
            val_answers = found
    covered = sum(answer in answers for answer in val_answers) / max(1, len(val_answers))
    return Data(questions, images, answers, covered, texts, val_share, digest.hexdigest()[:16], kind.__name__)


def _reader_arguments(choices: Choices, data_root: str, val_share: float) -> dict[str, Any]:
    """The arguments of the reader but its split, without those that are its defaults."""
    arguments: dict[str, Any] = dict(data_root=data_root)
    if val_share:
        arguments |= dict(val_share=val_share, val_seed=choices.seed)
    if choices.allow_outside:
        arguments |= dict(allow_outside=True)
    if choices.columns:
        arguments |= dict(columns=dict(choices.columns))
    return arguments


def make_start(choices: Choices, data: Data, out: Path) -> Start:
    """Choose where the training starts; a tokenizer that is extended, and public weights, are written to `out`.

    Raises:
        KoviltError: as `extend_model`, `import_weights` and `read_folder_info`; no such model; a graph or a METER; a
            tokenizer or BERT where none can be chosen.
    """
    model = choices.model
    if model == 'auto':
        model = 'base' if torch.cuda.is_available() else 'small'
    if model in ('small', 'base'):
        if choices.bert:
            raise KoviltError('--bert goes with public weights, --model FOLDER or OWNER/NAME on the hub; leave it out')
        found = extend_model(SHIPPED_ENCODER, data.texts, out, tokenizer=choices.tokenizer, overwrite=True)
        chosen = choices.tokenizer or f'the packaged one and {found.new_tokens:,} tokens of yours'
        words = f'tokenizer: {chosen}, {found.unknown_after:.1%} unknown (packaged alone: {found.unknown_before:.1%})'
        if model == 'base':
            hint = 'small sets learn more with --model small, or from public weights: --model OWNER/NAME'
            why = f', because there is a GPU; {hint}' if choices.model == 'auto' else ''
            return Start(str(out.absolute()), False, f'base size from random weights{why}; {words}', dict(_BASE))
        if found.unknown_before <= MAX_UNKNOWN:
            return Start(str(out.absolute()), True, f'the packaged encoder; {words}')
        return Start(str(out.absolute()), False, f'random weights: the packaged encoder knows other words; {words}')
    try:
        folder = find_model(model)
    except KoviltError as error:
        raise KoviltError(f'--model {error}; or give small, base, a folder, or OWNER/NAME on the hub') from error
    text = f'{model}, with its tokenizer'
    if not (folder / INFO).is_file():
        report = import_weights(folder, out, tokenizer=choices.tokenizer, bert=choices.bert, overwrite=True)
        text = f'{report.details["imported from"].partition(" (")[0]}; tokenizer: '
        text += str(choices.tokenizer or choices.bert or 'its own')
        folder = out
    elif choices.tokenizer or choices.bert:
        raise KoviltError(f'{model}: a model folder with its tokenizer; leave out --tokenizer and --bert')
    info = read_folder_info(folder)
    if info.get('graph'):
        raise KoviltError(f'{model}: holds a graph, which is not trained; name the model that it was exported from')
    if (kind := info['model']['type']).startswith('METER'):  # whose preprocessor and sizes are others
        raise KoviltError(f'{model}: holds a {kind}; give a ViLT, or train METER by a config such as meter_vqa_aihub')
    load_tokenizer(folder)  # refuses one that cannot read Korean
    encoder = {key: value for key, value in info['model']['encoder'].items() if key != 'vocab_size'}
    has_answers = info['model']['type'].endswith('ForVQA')
    return Start(str(folder.absolute()), True, text, encoder, info['image_pipeline'], encoder_only=has_answers)


def write_config(
    file: Path,
    choices: Choices,
    data: Data,
    start: Start,
    schedule: Schedule,
    about: str,
    *,
    cache_images: bool = True,
    num_workers: int = 0,
    options: Sequence[str] = (),
) -> None:
    """Write the config of the training, and beside it that of the same training without images.

    Args:
        about: the docstring of the config.
        num_workers: processes that read the images of a training that does not cache them.
        options: `a.b=value` texts, which have been tried on the config without them.

    Raises:
        KoviltError: the image size is below that of a patch.
    """
    root = str(Path(os.path.expanduser(choices.folder)).absolute())
    reader = dict(type=data.reader) | _reader_arguments(choices, root, data.val_share)
    dataset: dict[str, Any] = dict(
        reader=reader, text_pipeline=[dict(type='TokenizeKorean', tokenizer=start.folder, max_text_len=40)]
    )
    model: dict[str, Any] = {}
    pipeline, encoder = start.image_pipeline, start.encoder
    if encoder is not None:
        model = dict(
            encoder=dict(_delete_=True, type='ViLT', vocab_size=None, max_text_len=40) | encoder | dict(drop_rate=0.1)
        )
        dataset['text_pipeline'][0]['max_text_len'] = encoder.get('max_text_len', 40)
    side = choices.image_size or (None if pipeline or not encoder else encoder['image_size'])
    if side:
        patch = (encoder or {}).get('patch_size', 16)
        if side < patch:
            raise KoviltError(
                f'--image-size {side}: a patch of this model has {patch} pixels a side; give at least that'
            )
        pipeline = [
            dict(type='LoadImage'),
            dict(type='ResizeViLT', short=side, long=int(1333 / 800 * side), divisor=patch),
            dict(type='Patchify', patch_size=patch),
        ]
    if pipeline:
        dataset['image_pipeline'] = pipeline
    optimizer = dict(schedule.optimizer)
    wrapper: dict[str, Any] = dict(optimizer=optimizer, paramwise_cfg=dict(head_lr_mult=schedule.head_lr_mult))
    if optimizer['type'] != 'MuonAdamW':
        optimizer['_delete_'] = True
    if has_fast_bfloat16() or torch.cuda.is_available():
        wrapper['precision'] = 'bfloat16'
        if optimizer['type'] == 'MuonAdamW':
            optimizer['precision'] = 'bfloat16'
    interval = max(1, min(50, schedule.steps // 20))
    loading: dict[str, Any] = {}
    if not cache_images:
        loading = dict(num_workers=num_workers, persistent_workers=True, dataset=dataset | dict(cache_images=False))
    values: dict[str, Any] = dict(
        train_dataloader=dict(batch_size=min(BATCH_SIZE, data.questions['train']), dataset=dataset) | loading,
        val_dataloader=dict(dataset=dataset),
        load_from=start.folder if start.weights else None,
        optim_wrapper=wrapper,
        train_cfg=dict(max_iters=schedule.steps, val_interval=schedule.val_interval),
        default_hooks=dict(
            logger=dict(interval=interval),
            run_record=dict(interval=interval),
            checkpoint=dict(interval=schedule.val_interval),
        ),
        randomness=dict(seed=choices.seed),
        work_dir=str(file.absolute().parent / 'again'),  # of this config alone; the recipe names other folders
    )
    if model:
        values['model'] = model
        # Measured with the packaged encoder alone; an encoder that has learned to answer needs no other [CLS].
        hooks = load_config('kovilt_vqa_custom_small', []).to_dict()['custom_hooks']
        values['custom_hooks'] = [hook for hook in hooks if hook['type'] != 'InitCLSFromMaskHook']
    if start.encoder_only:
        values['load_encoder_only'] = True
    if options:
        values = {key: copy.deepcopy(value) for key, value in values.items()}  # the loaders share parts
        resolved = load_config(file).to_dict()
        for key, value in map(parse_option, options):
            _set(values, resolved, key.split('.'), value)
    is_installed = (Path(kovilt.__file__).parent / '.mim' / 'model-index.yml').is_file()
    base = 'kovilt::kovilt_vqa_custom_small.py' if is_installed else str(find_config('kovilt_vqa_custom_small'))
    lines = [f'_base_ = {base!r}']
    lines += [f'{key} = {pprint.pformat(value, width=110, sort_dicts=False)}' for key, value in values.items()]
    # The plan names files and an answer of the user, which may hold what ends or spoils a text of Python.
    about = printable(about, keep='\n').replace('\\', '\\\\').replace('"""', '\\"\\"\\"')
    write_text(file, f'"""{about}\n"""\n' + '\n'.join(lines) + '\n')
    no_image: list[dict[str, Any]] = [dict(type='NoImage')]
    write_text(
        file.with_name('question_only.py'),
        f'"""The same training without images."""\n_base_ = {f"./{file.name}"!r}\n'
        f'train_dataloader = dict(dataset=dict(image_pipeline={no_image!r}))\n'
        f'val_dataloader = dict(dataset=dict(image_pipeline={no_image!r}))\n',
    )


def _set(values: dict[str, Any], resolved: Any, keys: list[str], value: Any) -> None:
    """Set an option in the values that a config states. Of a list it then states the whole, as `resolved` has it."""
    key, *rest = keys
    if not rest:
        values[key] = value
        return
    found = resolved.get(key) if isinstance(resolved, dict) else None
    if not isinstance(found, list):
        _set(values.setdefault(key, {}), found, rest, value)
        return
    node: Any = found
    for part in rest[:-1]:
        node = node[int(part) if isinstance(node, list) else part]
    node[int(rest[-1]) if isinstance(node, list) else rest[-1]] = value
    values[key] = found

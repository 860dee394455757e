"""Load a trained model from a model folder, or from a training checkpoint, which carries its config."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel

from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import (
    check_encoder,
    check_weights,
    choose_checkpoint,
    describe_checkpoint,
    load_checkpoint_file,
    load_weights,
)
from kovilt.formats.plain_config import read_plain_config
from kovilt.model_names import find_model
from kovilt.models.choice import ViLTForMultipleChoice
from kovilt.models.sizes import build_model_or_refuse, complete_model_config
from kovilt.registry import TRANSFORMS
from kovilt.weights.folder import TrainedModel, check_kind, load_model_folder
from kovilt.weights.importing import is_public_model, open_public_model
from kovilt.weights.stored_config import check_stored_model, check_stored_pipeline
from kovilt.weights.stored_model import build_stored_model

_PLUGIN = 'if a package of yours registers it, import that package first, or name the config that does'
_TRAINING_KEYS = ('epoch', 'iter', 'seed', 'experiment_name', 'time', 'kovilt_version', 'torch_version')


def load_trained(
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    tokenizer: str | None = None,
    kind: str | tuple[str, ...] | None = None,
    graphs: bool = False,
    trust: bool = False,
) -> TrainedModel:
    """Load a model folder, also HuggingFace's own of a ViLT, a training checkpoint (.pth), or the best checkpoint of a
    work folder, else its latest.

    A line of the log names the checkpoint that was taken and, after training with EMAHook, its weights.

    Args:
        path: folder or file, or the name of a model that kovilt carries (`find_model`).
        config: config file of a checkpoint; None = the one that the checkpoint carries.
        tokenizer: what `load_tokenizer` takes, in place of the tokenizer that the config names.
        kind: the required model class, such as 'ViLTForVQA', or several; None = any.
        graphs, trust: of `load_model_folder`.

    Raises:
        KoviltError: no such model, a damaged file, a model of another class, sizes that disagree.
    """
    path = find_model(path)
    if not path.exists():
        raise KoviltError(f'{path}: no such model folder or checkpoint')
    checkpoint = choose_checkpoint(path)
    if checkpoint.is_file():
        trained = _load_checkpoint(checkpoint, config, kind)
        print_log(f'{trained.source}: loaded', logger='current')
    elif config is None and is_public_model(path):
        trained = open_public_model(path)
        check_kind(trained.info['model']['type'], kind, path)
    elif config is None:
        trained = load_model_folder(path, kind=kind, graphs=graphs, trust=trust)
    else:
        raise KoviltError(f'{path}: a model folder carries its own config; leave out {config}')
    if tokenizer is not None:
        for step in trained.text_pipeline:
            if 'tokenizer' in step:
                step['tokenizer'] = tokenizer
    return trained


def as_choice_model(trained: TrainedModel, source: str | os.PathLike[str]) -> TrainedModel:
    """A pre-trained model as one that chooses among given answers by its matching (ITM) head, without any fine-tuning.

    Raises:
        KoviltError: pre-trained without a matching head; `source` names the model.
    """
    config = trained.info['model']
    kept = {key: config[key] for key in ('encoder', 'data_preprocessor') if key in config}
    kind = config['type'].replace('ForPreTraining', 'ForMultipleChoice')
    config = dict(kept, type=kind, choice_head=dict(type='ChoiceHead'))
    model = build_model_or_refuse(config, answers=(), source=str(source), is_stored=True)
    try:
        model.load_state_dict(ViLTForMultipleChoice.from_matching(trained.model.state_dict()))
    except KoviltError as error:
        raise KoviltError(f'{source}: {error}') from None
    info = {**trained.info, 'model': config}
    return dataclasses.replace(trained, model=model.eval(), info=info)


def build_pipelines(trained: TrainedModel) -> tuple[list[Any], list[Any]]:
    """Build the transforms of an image and those of a text, in order, and check the tokenizer.

    Raises:
        KoviltError: a transform is not registered or refuses its arguments, or the tokenizer is not that of training.
    """
    try:
        images = [TRANSFORMS.build(step) for step in trained.image_pipeline]
        texts = [TRANSFORMS.build(step) for step in trained.text_pipeline]
    except (KeyError, TypeError, ValueError) as error:
        raise KoviltError(f'a transform of the model cannot be built ({_first_sentence(error)}); {_PLUGIN}') from error
    for step in texts:
        if hasattr(step, 'tokenizer'):
            check_tokenizer(trained, step.tokenizer)
    return images, texts


def check_tokenizer(trained: TrainedModel, tokenizer: Any) -> None:
    """KoviltError unless `tokenizer` gives its tokens the same ids as the tokenizer of training."""
    from kovilt.datasets.transforms.text import tokenizer_sizes

    expected, sizes = trained.info.get('vocabulary_digest'), tokenizer_sizes(tokenizer)
    if expected is not None and sizes['vocabulary_digest'] != expected:
        raise KoviltError(f'tokenizer {tokenizer.name_or_path}: the model was trained with another one; name that one')
    rows = trained.info['model']['encoder'].get('vocab_size')
    if isinstance(rows, int) and sizes['vocab_size'] > rows:
        raise KoviltError(
            f'tokenizer {tokenizer.name_or_path}: {sizes["vocab_size"]} tokens, but the model has {rows}; name its own'
        )


def _load_checkpoint(
    path: Path, config: str | os.PathLike[str] | None, kind: str | tuple[str, ...] | None
) -> TrainedModel:
    checkpoint = load_checkpoint_file(path)
    meta, source = checkpoint['meta'], f'config in {path}'
    if config is not None:
        from kovilt.engine.config import load_config  # not needed, and slow to import, to load a model folder

        source = str(config)
        cfg = load_config(source).to_dict()
    elif isinstance(meta.get('cfg'), str):
        cfg = read_plain_config(meta['cfg'], source=source)
    else:
        raise KoviltError(f'{path}: no config in it; name the config that it was trained with')
    loaders = (cfg.get(name) for name in ('test_dataloader', 'val_dataloader'))
    datasets = (loader.get('dataset') for loader in loaders if isinstance(loader, dict))
    pipelines = {'image_pipeline', 'text_pipeline'}
    dataset = next((one for one in datasets if isinstance(one, dict) and pipelines <= one.keys()), None)
    model_cfg = cfg.get('model')
    if not isinstance(model_cfg, dict) or dataset is None:
        missing = 'model' if model_cfg is None else 'val_dataloader, whose dataset would say how to prepare images'
        raise KoviltError(f'{source}: it has no {missing}')
    if config is None:
        check_stored_model(model_cfg, f'{source}: model')
        for key in sorted(pipelines):
            check_stored_pipeline(dataset[key], f'{source}: {key}')
    check_kind(model_cfg.get('type'), kind, path)
    data_sizes, dataset_meta = meta.get('data_sizes', {}), meta.get('dataset_meta', {})
    model_cfg = complete_model_config(model_cfg, data_sizes=data_sizes)
    answers = dataset_meta.get('answers', ())

    def compare(model: BaseModel) -> None:
        check_encoder(model, checkpoint, path)
        check_weights(model, checkpoint, path)

    model = build_stored_model(
        model_cfg,
        weights=checkpoint['state_dict'],
        compare=compare,
        answers=answers,
        source=f'{source}: model',
        is_stored=config is None,
    )
    load_weights(model, checkpoint, path)
    lengths = [step['max_text_len'] for step in dataset['text_pipeline'] if 'max_text_len' in step]
    info = {
        'model': model_cfg,
        'max_text_len': min(lengths, default=model.encoder.max_text_len),
        'vocabulary_digest': data_sizes.get('vocabulary_digest'),
        'answer_counts': dataset_meta.get('answer_counts'),
        'training': {key: meta[key] for key in _TRAINING_KEYS if key in meta},
    }
    source = f'{path} ({describe_checkpoint(checkpoint)})'
    return TrainedModel(model.eval(), dataset['image_pipeline'], dataset['text_pipeline'], info, source)


def _first_sentence(error: Exception) -> str:
    """The first sentence of an error of a registry or a constructor, without the advice that follows."""
    return ' '.join(str(error.args[0] if error.args else error).split()).split('. ')[0]

"""A trained model from where it lies: its folder, or a checkpoint of its training, which carries the config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kovilt.errors import KoviltError
from kovilt.registry import TRANSFORMS
from kovilt.weights.folder import TrainedModel, check_kind, load_model_folder

_PLUGIN = 'if a package of yours registers it, import that package first, or name the config that does'
_WORTH_KNOWING = ('epoch', 'iter', 'seed', 'experiment_name', 'time', 'kovilt_version', 'torch_version')


def load_trained(
    path: str | os.PathLike,
    *,
    config: str | os.PathLike | None = None,
    tokenizer: str | None = None,
    kind: str | tuple[str, ...] | None = None,
    graphs: bool = False,
    trust: bool = False,
) -> TrainedModel:
    """Loads a model folder, a training checkpoint (.pth), or the latest checkpoint of a work folder.

    Args:
        path: folder or file.
        config: config file of a checkpoint; None = the one that the checkpoint carries.
        tokenizer: what `load_tokenizer` takes, in place of the tokenizer that the config names.
        kind: the model class that is wanted, such as 'ViLTForVQA', or several; None takes any.
        graphs: a model folder with a graph in place of weights will do.
        trust: a graph in a .pt2 file, which is a program, may be run.

    Raises:
        KoviltError: nothing there, a damaged file, a model of another kind, sizes that disagree.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise KoviltError(f'{path}: no such model folder or checkpoint')
    checkpoint = _checkpoint_file(path)
    if checkpoint is not None:
        trained = _load_checkpoint(checkpoint, config, kind)
    elif config is None:
        trained = load_model_folder(path, kind=kind, graphs=graphs, trust=trust)
    else:
        raise KoviltError(f'{path}: a model folder carries its own config; leave out {config}')
    if tokenizer is not None:
        for step in trained.text_pipeline:
            if 'tokenizer' in step:
                step['tokenizer'] = tokenizer
    return trained


def check_tokenizer(trained: TrainedModel, tokenizer: Any) -> None:
    """KoviltError unless `tokenizer` numbers its pieces as that of training did; else every word is another."""
    from kovilt.datasets.transforms.text import tokenizer_sizes

    expected = trained.info.get('vocabulary_digest')
    if expected is not None and tokenizer_sizes(tokenizer)['vocabulary_digest'] != expected:
        raise KoviltError(f'tokenizer {tokenizer.name_or_path}: the model was trained with another one; name that one')


def build_pipelines(trained: TrainedModel) -> tuple[list[Any], list[Any]]:
    """The transforms of an image and those of a text, in order, with the tokenizer compared to that of training."""
    try:
        images = [TRANSFORMS.build(step) for step in trained.image_pipeline]
        texts = [TRANSFORMS.build(step) for step in trained.text_pipeline]
    except (KeyError, TypeError, ValueError) as error:
        raise KoviltError(f"a step of the model's pipelines cannot be built ({_reason(error)}); {_PLUGIN}") from error
    for step in texts:
        if hasattr(step, 'tokenizer'):
            check_tokenizer(trained, step.tokenizer)
    return images, texts


def _checkpoint_file(path: Path) -> Path | None:
    """The checkpoint that `path` is or, as a work folder, holds; None when it is no place of checkpoints."""
    from kovilt.formats.checkpoint import latest_checkpoint

    return path if path.is_file() else latest_checkpoint(path)


def _load_checkpoint(path: Path, config: str | os.PathLike | None, kind: str | tuple[str, ...] | None) -> TrainedModel:
    from kovilt.engine.config import load_config
    from kovilt.formats.checkpoint import check_encoder, load_checkpoint_file, load_weights
    from kovilt.formats.plain_config import read_plain_config
    from kovilt.models.sizes import build_model, complete_model_config

    checkpoint = load_checkpoint_file(path)
    meta = checkpoint['meta']
    if config is not None:
        cfg = load_config(config).to_dict()
    elif isinstance(meta.get('cfg'), str):
        cfg = read_plain_config(meta['cfg'], source=f'config in {path}')
    else:
        raise KoviltError(f'{path}: no config in it; name the config that it was trained with')
    source = str(config or f'config in {path}')
    model_cfg, dataset = cfg.get('model'), _dataset(cfg)
    if not isinstance(model_cfg, dict) or dataset is None:
        missing = 'model' if model_cfg is None else 'val_dataloader, whose dataset would say how to prepare images'
        raise KoviltError(f'{source}: it has no {missing}')
    check_kind(model_cfg.get('type'), kind, path)
    sizes, known = meta.get('data_sizes', {}), meta.get('dataset_meta', {})
    model_cfg = complete_model_config(model_cfg, data_sizes=sizes)
    try:
        model = build_model(model_cfg, answers=known.get('answers', ()))
    except KeyError as error:
        raise KoviltError(f'{source}: its model cannot be built ({_reason(error)}); {_PLUGIN}') from error
    except (TypeError, ValueError) as error:
        raise KoviltError(f'{source}: its model cannot be built ({_reason(error)})') from error
    check_encoder(model, checkpoint, path)
    load_weights(model, checkpoint, path)
    texts, longest = dataset['text_pipeline'], model.encoder.max_text_len
    info = {
        'model': model_cfg,
        'max_text_len': min((step['max_text_len'] for step in texts if 'max_text_len' in step), default=longest),
        'vocabulary_digest': sizes.get('vocabulary_digest'),
        'answer_counts': known.get('answer_counts'),
        'training': {key: meta[key] for key in _WORTH_KNOWING if key in meta},
    }
    return TrainedModel(model.eval(), dataset['image_pipeline'], texts, info)


def _dataset(cfg: Mapping[str, Any]) -> dict[str, Any] | None:
    """The dataset whose pipelines are those of evaluation; the test set's, else the validation set's."""
    for name in ('test_dataloader', 'val_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        if 'image_pipeline' in dataset and 'text_pipeline' in dataset:
            return dataset
    return None


def _reason(error: Exception) -> str:
    """What a registry or a constructor complains about, without the advice that follows it."""
    return ' '.join(str(error.args[0] if error.args else error).split()).split('. ')[0]

"""What a run is made of: the values of its config, its data and its code, by dotted keys.

The processes of a run compare all of it before their first step. Checkpoints hold it, so that a resumed run can tell
what has changed (`changes.py`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config

import kovilt
from kovilt.engine.config_options import flatten_config
from kovilt.engine.data_sizes import read_data_sizes
from kovilt.formats.checkpoint import digest_answers

if TYPE_CHECKING:
    from kovilt.engine.runner import KoviltRunner

# Keys of files and folders, which lie elsewhere on another machine. What is read from them stands in `data`,
# `tokenizer` and `answers`.
_PATHS = ('data_root', 'tokenizer', 'answers', 'teacher_answers', 'cache', 'work_dir', 'load_from')
_START_OPTIONS = ('resume', 'launcher')

# Capitals, accents, full-width letters, Hanja, jamo, digits and punctuation: what tokenizers of one vocabulary can
# treat differently.
_PROBES = ('소파는 무슨 색이에요?', 'Café ＡＢＣ-12,345.6원', '漢字 ㅋㅋ (고양이·강아지) 한 마리', 'the TV\u3000is on')


def collect_run_facts(runner: KoviltRunner) -> dict[str, Any]:
    """What the run of a KoviltRunner is made of; the values are those of JSON.

    - the config under its own keys (`optim_wrapper.optimizer.lr`) without paths; the seed is that of the run;
    - `pairs_per_step`: the batch size of all processes;
    - `data.train.rows`, `data.val.rows`: digests of all texts, answers and image ids, and of which rows are used;
    - `data.train.images`, `data.val.images`: digests of the contents of images (`PairDataset.digest_images`);
    - `vocabulary`, `tokenizer`: digests of the tokenizer's tokens and of the ids that it gives to some texts;
    - `answers`: a digest of the answers in label order;
    - `code.kovilt`, `code.torch`, `code.plugins.<module>`: versions, and digests of the modules of `custom_imports`.
    """
    facts = collect_model_facts(runner)
    for split, loop in (('train', runner.train_loop), ('val', runner.val_loop)):
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        if dataset is not None:
            facts |= {f'data.{split}.{name}': value for name, value in _describe_data(dataset).items()}
    return {**facts, **dict(_describe_code(runner.cfg))}


def collect_model_facts(runner: KoviltRunner) -> dict[str, Any]:
    """The facts that decide the sizes of the model, known before it is built: config, tokenizer, answers."""
    facts = describe_config(runner.cfg) | {'randomness.seed': runner.seed, 'pairs_per_step': runner.pairs_per_step}
    return facts | _describe_texts(runner._train_dataloader.dataset)


def describe_config(config: Config) -> dict[str, Any]:
    """The values of a config by dotted keys, as values of JSON; without paths and what a start decides."""
    return {
        '.'.join(keys): json.loads(json.dumps(value, default=str))
        for keys, value in flatten_config(config.to_dict())
        if keys[-1] not in _PATHS and keys[0] not in _START_OPTIONS
    }


def _describe_data(dataset: Any) -> dict[str, Any]:
    summary = dataset.summary() if hasattr(dataset, 'summary') else {}
    facts = {'rows': summary.get('digest', len(dataset))}
    if hasattr(dataset, 'digest_images'):
        facts['images'] = dataset.digest_images()
    return facts


def _describe_texts(dataset: Any) -> dict[str, str]:
    facts = {}
    if (tokenizer := getattr(dataset, 'tokenizer', None)) is not None:
        facts['vocabulary'] = read_data_sizes(dataset)['vocabulary_digest']
        facts['tokenizer'] = _digest(json.dumps(tokenizer(list(_PROBES))['input_ids']).encode())
    if vocabulary := getattr(dataset, 'answer_vocabulary', None):
        facts['answers'] = digest_answers(vocabulary.answers)
    return facts


def _describe_code(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield 'code.kovilt', kovilt.__version__
    yield 'code.torch', '.'.join(str(torch.__version__).split('.')[:2])
    imports = (config.get('custom_imports') or {}).get('imports') or ()
    for name in [imports] if isinstance(imports, str) else imports:
        file = Path(getattr(sys.modules.get(name), '__file__', None) or '')
        files = sorted(file.parent.rglob('*.py')) if file.name == '__init__.py' else [file]
        yield f'code.plugins.{name}', _digest(*(path.read_bytes() for path in files if path.is_file()))


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()

"""A model repository of NVIDIA's Triton Inference Server, whose ONNX Runtime backend computes kovilt's graph.

    kovilt/config.pbtxt   tensors, batches and labels as Triton's ModelConfig; without a name, which is the folder's
    kovilt/answers.txt    the answers, a line each, which Triton gives with their scores
    kovilt/1/             the ONNX model folder; Triton reads its model.onnx, clients its tokenizer and settings
    README.md             how to start the server, to prepare images and questions, and to ask

Triton knows neither images nor texts: clients prepare both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kovilt.files import atomic_folder, read_json, write_text
from kovilt.terminal import printable
from kovilt.weights.card import render
from kovilt.weights.folder import check_destination
from kovilt.weights.folder_info import INFO, answers_by_class

_MODEL = 'kovilt'
_FOLDER = f'{_MODEL}/1'  # of the first version


def write_triton_repository(
    out: str | os.PathLike[str], write_onnx_folder: Callable[[Path, str], object], *, overwrite: bool = False
) -> Path:
    """Write the folder `out` completely or not at all; returns its absolute path.

    Args:
        write_onnx_folder: writes the ONNX model folder at a path, with a name in its card.

    Raises:
        KoviltError: `out` exists or cannot be written, or what `write_onnx_folder` raises.
    """
    out = Path(os.path.abspath(os.path.expanduser(out)))
    check_destination(out, overwrite, kind='Triton model repository', holds=f'{_FOLDER}/{INFO}')
    with atomic_folder(out) as draft:
        write_onnx_folder(draft / _FOLDER, _FOLDER)
        config, info = (read_json(draft / _FOLDER / name) for name in ('config.json', INFO))
        answers = answers_by_class(config['id2label'], len(config['id2label']), source='id2label')
        values = {
            'config': config,
            'info': info,
            'calibration': info.get('calibration'),
            'resize': next(step for step in info['image_pipeline'] if str(step['type']).endswith('ResizeViLT')),
            'max_batch': 32,
            'max_delay': 5000,  # microseconds that a pair waits for others, as in `kovilt serve`
            'max_patches': max(rows * columns for rows, columns in info['graph']['grids']),
        }
        write_text(draft / _MODEL / 'config.pbtxt', render('triton.pbtxt.j2', **values))
        write_text(draft / _MODEL / 'answers.txt', ''.join(f'{printable(answer)}\n' for answer in answers))
        write_text(draft / 'README.md', render('triton.md.j2', name=printable(out.name), **values))
    return out

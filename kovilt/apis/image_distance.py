"""Fit the image detector of a model to images like those of its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kovilt.apis.pair_transforms import ImageLike
from kovilt.apis.vqa import VQAInferencer
from kovilt.datasets.folders import list_folders
from kovilt.datasets.image_store import folder_images
from kovilt.datasets.members import Member
from kovilt.errors import KoviltError
from kovilt.models.answering import AnsweringModel
from kovilt.weights.image_detector import ImageDetector, fit_image_detector


def find_images(folder: Path, limit: int) -> list[Path | Member]:
    """The images of a folder, its folders and zips, in the order of their names; at most `limit`, evenly chosen.

    Raises:
        KoviltError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise KoviltError(f'{folder}: no such folder')
    places = [place for part in list_folders(folder) for _, place in folder_images(part)]
    if not places:
        raise KoviltError(f'{folder}: no images in it; give a folder with JPEG, PNG, WebP, BMP, GIF or TIFF files')
    chosen = np.linspace(0, len(places) - 1, min(limit, len(places))).round().astype(int)
    return [places[number] for number in chosen]


def fit_to_images(
    inferencer: VQAInferencer,
    images: Sequence[ImageLike | Member],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImageDetector:
    """Fit a detector to images; a model folder keeps it by `store_image_detector`.

    Raises:
        KoviltError: as `image_vectors` and `fit_image_detector`.
    """
    return fit_image_detector(image_vectors(inferencer, images, progress))


def image_vectors(
    inferencer: VQAInferencer,
    images: Sequence[ImageLike | Member],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """The vectors of images by which the model of `inferencer` tells them apart, float32 (N, F), on the CPU.

    Raises:
        KoviltError: a graph, an encoder of a plugin without `image_features`, or an image that cannot be read.
    """
    model = inferencer.model
    if not isinstance(model, AnsweringModel) or not hasattr(model.encoder, 'image_features'):
        kind = type(getattr(model, 'encoder', model)).__name__
        raise KoviltError(f'{inferencer.source}: a {kind} gives no image_features; name a model with its weights')
    parts, size = [], inferencer.batch_size
    progress(0, len(images))
    for start in range(0, len(images), size):
        read = [inferencer.transforms.read_image(image) for image in images[start : start + size]]
        patches = torch.from_numpy(np.concatenate([one['patches'] for one in read]))
        batch: Any = {'patches': patches, 'grids': torch.tensor([one['grid'] for one in read])}
        with torch.inference_mode():
            parts.append(model.image_features(model.data_preprocessor(batch)).cpu())
        progress(start + len(read), len(images))
    return torch.cat(parts)

"""The Mahalanobis detector of a model folder: how far an image is from those that the model was trained on.

Lee, Lee, Lee and Shin, A Simple Unified Framework for Detecting Out-of-Distribution Samples (NeurIPS 2018), with a
single Gaussian, as images have no classes here, on the vectors of `AnsweringModel.image_features`.

The folder keeps it in a file that is named by its digest, then names that in kovilt.json: whoever reads the folder
after the writer was killed finds the old detector or the new one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from kovilt.errors import KoviltError
from kovilt.files import atomic_path, read_json, write_json
from kovilt.formats.tensor_files import load_safetensors
from kovilt.weights.calibration import check_calibratable
from kovilt.weights.folder_info import INFO, size_and_digest

QUANTILE = 0.99  # share of the images of training whose distance is below the threshold
MIN_IMAGES = 20
_FOLDS = 5
_NAME = 'image_detector-{}.safetensors'


@dataclass(frozen=True)
class ImageDetector:
    """A Gaussian of image vectors, with F components.

    mean: (F,).
    whitening: (F, F), by which centered vectors are multiplied; their covariance is then the identity.
    threshold: the distance above which an image is called unlike training.
    images: on how many it was fitted.
    """

    mean: Tensor
    whitening: Tensor
    threshold: float
    images: int

    def distances(self, features: Tensor) -> Tensor:
        """The Mahalanobis distance of each vector (I, F) from the mean, (I,); about sqrt(F) for images of training.

        Raises:
            KoviltError: the vectors are those of another model.
        """
        if features.shape[1] != len(self.mean):
            sizes = f'{len(self.mean)} components, but this model gives {features.shape[1]}'
            raise KoviltError(f'image_detector: vectors of {sizes}; fit it again by kovilt distance')
        mean, whitening = self.mean.to(features.device), self.whitening.to(features.device)
        return ((features - mean) @ whitening).norm(dim=1)


def fit_image_detector(features: Tensor) -> ImageDetector:
    """Fit a detector to the vectors of images (N, F), in float64.

    The threshold is the quantile of distances from Gaussians that were fitted without the image in question (five
    folds): from the one that was fitted with it an image is nearer.

    Raises:
        KoviltError: fewer than MIN_IMAGES images, or images that are all alike.
    """
    if len(features) < MIN_IMAGES:
        raise KoviltError(f'{len(features)} images are too few for a detector; give at least {MIN_IMAGES}, or hundreds')
    x = features.double().cpu().numpy()
    folds = np.arange(len(x)) % _FOLDS
    distances = np.empty(len(x))
    for fold in range(_FOLDS):
        mean, whitening = _gaussian(x[folds != fold])
        distances[folds == fold] = np.linalg.norm((x[folds == fold] - mean) @ whitening, axis=1)
    mean, whitening = _gaussian(x)
    threshold = float(np.quantile(distances, QUANTILE))
    return ImageDetector(torch.from_numpy(mean).float(), torch.from_numpy(whitening).float(), threshold, len(x))


def _gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (F,) and whitening matrix (F, F) of vectors (N, F)."""
    mean = x.mean(axis=0)
    covariance, _ = shrunk_covariance(x - mean)
    try:  # covariance = L L^T: vectors times L^-T have the identity as covariance
        return mean, np.linalg.inv(np.linalg.cholesky(covariance)).T
    except np.linalg.LinAlgError:
        message = 'the images are all alike to the model, so no other can be told from them; give different ones'
        raise KoviltError(message) from None


def shrunk_covariance(x: np.ndarray) -> tuple[np.ndarray, float]:
    """The covariance of centered vectors (N, F), shrunk towards a multiple of the identity, and the share of that.

    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices (2004): the share is the one
    that is best in expectation, so that the matrix can be inverted whatever N.
    """
    count, size = x.shape
    sample = x.T @ x / count
    variance = np.trace(sample) / size
    spread = ((sample - variance * np.eye(size)) ** 2).sum()  # d^2, times F
    # b^2, times F: the mean of |x x^T - sample|^2 over N, where the squares of x x^T are those of |x|^2
    noise = (((x**2).sum(axis=1) ** 2).mean() - (sample**2).sum()) / count
    share = float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0
    return (1 - share) * sample + share * variance * np.eye(size), share


def write_image_detector(folder: Path, detector: ImageDetector) -> dict[str, Any]:
    """Write the file of a detector into a folder; returns the value of `image_detector` of its kovilt.json."""
    content = save({'mean': detector.mean.contiguous(), 'whitening': detector.whitening.contiguous()})
    file = folder / _NAME.format(hashlib.sha256(content).hexdigest()[:16])
    with atomic_path(file) as draft:
        draft.write_bytes(content)
    return {'file': file.name, 'threshold': detector.threshold, 'images': detector.images}


def store_image_detector(folder: str | os.PathLike[str], detector: ImageDetector) -> None:
    """Keep a detector in a model folder, in place of an earlier one; nothing else is changed.

    Raises:
        KoviltError: no model folder, one that kovilt carries, or one that cannot be written.
    """
    check_calibratable(folder)
    path = Path(folder)
    try:
        stored = write_image_detector(path, detector)
        info = read_json(path / INFO)
        old = info.get('image_detector') or {}
        files = {name: entry for name, entry in info['files'].items() if name != old.get('file')}
        files[stored['file']] = size_and_digest(path / stored['file'])
        write_json(path / INFO, {**info, 'image_detector': stored, 'files': files})
        for other in path.glob(_NAME.format('*')):  # the old one, and those of writers that were killed
            if other.name != stored['file']:
                other.unlink(missing_ok=True)
    except OSError as error:
        raise KoviltError(f'{folder}: the detector cannot be written ({error.strerror})') from error


def read_image_detector(folder: Path, info: Mapping[str, Any]) -> ImageDetector | None:
    """The detector that a checked kovilt.json names; None = the folder has none.

    Raises:
        KoviltError: its file does not hold what a detector has.
    """
    stored = info.get('image_detector')
    if stored is None:
        return None
    file = folder / stored['file']
    tensors = load_safetensors(file)
    mean, whitening = tensors.get('mean'), tensors.get('whitening')
    if mean is None or whitening is None or mean.ndim != 1 or whitening.shape != (len(mean), len(mean)):
        raise KoviltError(f'{file}: no detector of images (mean and whitening); fit it again by kovilt distance')
    if not all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in (mean, whitening)):
        raise KoviltError(f'{file}: holds other than finite float32 values; fit it again by kovilt distance')
    return ImageDetector(mean, whitening, stored['threshold'], stored['images'])

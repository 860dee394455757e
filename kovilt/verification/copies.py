"""Finds copies of images that were encoded again, rescaled or slightly cropped.

A perceptual hash of each image gives a few candidates, which a comparison of the pixels confirms. The hash alone would
not do: images of one kind, such as charts or the scenes of Rooms, have similar hashes. The limits were chosen on Rooms,
charts, pages of text and photos: JPEG quality 30 to 95, half to double size and crops of 1 % at each side are found
there, and no two different images pass for copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import imagehash
import numpy as np
from PIL import Image

from kovilt.datasets.transforms.load_image import LoadImage
from kovilt.errors import KoviltError
from kovilt.processes import map_in_processes
from kovilt.verification.findings import ImageLocation

HASH_SIDE = 16  # the hash has 16 x 16 bits, one a frequency of the cosine transform
MAX_DISTANCE = 64  # bits: copies differ in up to 40, cropped by 2 % in up to 62; other images of Rooms in 48 or more
_CANDIDATES = 4  # the images of nearest hash, whose pixels are compared
_MIN_CONTRAST = 2.0  # standard deviation in grey levels; the hash of an image of one color is noise
_CHUNK = 8  # images that a process compares at a time

_SIDE = 256  # pixels: the longer side of two images when they are compared
_MAX_STRETCH = 1.1  # ratio of the aspect ratios of a copy and its original
_WINDOW = 16  # pixels: side of the windows whose correlation is taken
_MIN_DEVIATION = 5.0  # grey levels: a window with less shows nothing
_MIN_CORRELATION, _MIN_TENTH = 0.82, 0.6  # of the windows: the mean, and what nine of ten exceed
_BLUR = 9  # pixels: so that the edges, which a copy does not keep, matter less
_MAX_DIFFERENCE = 20.0  # grey levels, blurred: copies have up to 16, a chart with one other bar 118
_MAX_CROP = 0.1  # share of a side that a crop may take away
_ALIGNED_SIDE = 128  # pixels: enough to find the shift and scale of a crop


def fingerprint(pixels: np.ndarray) -> bytes | None:
    """The perceptual hash (pHash) of an image, uint8 RGB (H, W, 3); None for an image without contrast."""
    side = 4 * HASH_SIDE  # pHash takes the lowest quarter of the frequencies of this size
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)
    if grey.std() < _MIN_CONTRAST:
        return None
    return np.packbits(imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIDE).hash).tobytes()


def find_copies(
    places: Sequence[ImageLocation],
    fingerprints: Sequence[bytes | None],
    suspects: Sequence[int],
    originals: Sequence[int],
    *,
    workers: int,
) -> dict[int, int]:
    """The suspects that are copies of an original, with that original; all numbers are positions in `places`."""
    suspects = [number for number in suspects if fingerprints[number]]
    originals = [number for number in originals if fingerprints[number]]
    if not suspects or not originals:
        return {}
    ours, theirs = (
        np.frombuffer(b''.join(fingerprints[number] or b'' for number in numbers), np.uint8).reshape(len(numbers), -1)
        for numbers in (suspects, originals)
    )
    # each (suspects, candidates), nearest first; 10,000 suspects and 100,000 originals take 20 s on one core
    distances, nearest = cv2.batchDistance(ours, theirs, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=_CANDIDATES)
    candidates = {
        suspect: [originals[position] for position in near[far <= MAX_DISTANCE]]
        for suspect, near, far in zip(suspects, np.asarray(nearest), np.asarray(distances), strict=True)
        if far[0] <= MAX_DISTANCE
    }
    jobs = [(places[suspect], [places[number] for number in row]) for suspect, row in candidates.items()]
    confirmed = map_in_processes(_first_copy, jobs, workers=workers, chunk_size=_CHUNK)
    return {
        suspect: row[position]
        for (suspect, row), position in zip(candidates.items(), confirmed, strict=True)
        if position is not None
    }


def is_copy(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images, uint8 RGB (H, W, 3), are the same but for encoding, scale, brightness and a slight crop."""
    stretch = (one.shape[0] * other.shape[1]) / (one.shape[1] * other.shape[0])
    if not 1 / _MAX_STRETCH < stretch < _MAX_STRETCH:
        return False
    scale = min(_SIDE, max(one.shape), max(other.shape)) / max(one.shape)
    size = tuple(round(scale * side) for side in one.shape[1::-1])
    if min(size) < _WINDOW:
        return False
    first, second = (
        cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
        for pixels in (one, other)
    )
    if _is_same(first, second, np.ones_like(first)):
        return True
    aligned = _align(first, second)
    return aligned is not None and _is_same(first, *aligned)


def _first_copy(job: tuple[ImageLocation, list[ImageLocation]]) -> int | None:
    """The position of the first original that the suspect is a copy of."""
    suspect, originals = job
    try:
        pixels = _load(suspect)
        return next((at for at, original in enumerate(originals) if is_copy(pixels, _load(original))), None)
    except KoviltError:  # changed since it was checked
        return None


def _load(place: ImageLocation) -> np.ndarray:
    return LoadImage().transform({'img_path': place})['img']


def _is_same(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> bool:
    """Whether two grey images agree everywhere; all float32 (H, W), `inside` is 1 where both show something."""
    known = inside > 0.999
    if not known.any():
        return False
    gain = np.clip(first[known].std() / max(second[known].std(), 1e-3), 0.8, 1.25)
    second = (second - second[known].mean()) * gain + first[known].mean()
    if np.abs(cv2.blur((first - second) * known, (_BLUR, _BLUR))).max() > _MAX_DIFFERENCE:
        return False
    mean_1, mean_2, square_1, square_2, product = (
        cv2.blur(values, (_WINDOW, _WINDOW))
        for values in (first, second, first * first, second * second, first * second)
    )
    variance_1, variance_2 = (np.maximum(square_1 - mean_1**2, 0), np.maximum(square_2 - mean_2**2, 0))
    margin = np.zeros_like(known)
    half = _WINDOW // 2
    margin[half:-half, half:-half] = True
    whole = cv2.erode(known.astype(np.uint8), np.ones((_WINDOW, _WINDOW), np.uint8)) > 0
    shows = whole & margin & (np.maximum(variance_1, variance_2) > _MIN_DEVIATION**2)
    if not shows.any():
        return False
    noise = 9.0  # the variance that encoding adds; it keeps windows of weak texture from deciding
    correlation = ((product - mean_1 * mean_2 + noise) / (np.sqrt(variance_1 * variance_2) + noise))[shows]
    return bool(correlation.mean() > _MIN_CORRELATION and np.quantile(correlation, 0.1) > _MIN_TENTH)


def _align(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The second grey image laid over the first by an affine map close to none, and where it shows something."""
    scale = min(1.0, _ALIGNED_SIDE / max(first.shape))
    small_1, small_2 = (
        cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for grey in (first, second)
    )
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(small_1, small_2, start, cv2.MOTION_AFFINE, stop)
    except cv2.error:  # the two have nothing in common
        return None
    shift = np.array(found, dtype=np.float32)
    if np.abs(shift[:, :2] - np.eye(2)).max() > _MAX_CROP:
        return None
    shift[:, 2] /= scale
    height, width = first.shape
    second, inside = (
        cv2.warpAffine(values, shift, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for values in (second, np.ones_like(second))
    )
    return second, inside

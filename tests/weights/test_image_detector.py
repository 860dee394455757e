"""The detector is a Gaussian with Ledoit and Wolf's covariance, and the folder keeps it whole or not at all."""

import os

import numpy as np
import pytest
import torch
from tiny_models import IMAGE_PIPELINE, MAX_TEXT_LEN, tiny_config, tiny_model, tiny_tokenizer

from kovilt.apis.export import export_trained
from kovilt.errors import KoviltError
from kovilt.files import read_json, write_json
from kovilt.model_names import ASSETS
from kovilt.weights import image_detector, load_model_folder, save_model_folder
from kovilt.weights.image_detector import (
    MIN_IMAGES,
    ImageDetector,
    fit_image_detector,
    shrunk_covariance,
    store_image_detector,
)


@pytest.fixture
def folder(tmp_path):
    return save_model_folder(
        tiny_model(),
        tiny_tokenizer(),
        tmp_path / 'model',
        model_cfg=tiny_config(),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


def vectors(count=60, size=5, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + 3).float()


@pytest.mark.parametrize(('count', 'size'), [(60, 5), (20, 30), (8, 3)])
def test_the_covariance_is_shrunk_by_the_papers_formula(count, size):
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, size)) * np.linspace(0.5, 3, size)
    x -= x.mean(axis=0)
    sample = np.cov(x, rowvar=False, bias=True)
    mean = np.trace(sample) / size

    def squares(matrix):
        return np.trace(matrix @ matrix.T) / size

    spread = squares(sample - mean * np.eye(size))
    noise = sum(squares(np.outer(one, one) - sample) for one in x) / count**2
    share = min(noise, spread) / spread
    found, own = shrunk_covariance(x)
    assert own == pytest.approx(share) and 0 < own <= 1
    np.testing.assert_allclose(found, (1 - share) * sample + share * mean * np.eye(size))
    assert np.linalg.eigvalsh(found).min() > 0  # also of fewer vectors than components


def test_distances_are_mahalanobis_and_know_what_is_far():
    x = vectors()
    detector = fit_image_detector(x)
    centered = x.double().numpy() - x.double().numpy().mean(axis=0)
    inverse = np.linalg.inv(shrunk_covariance(centered)[0])
    expected = [np.sqrt(one @ inverse @ one) for one in centered]
    np.testing.assert_allclose(detector.distances(x).numpy(), expected, rtol=1e-4)
    assert detector.images == 60 and (detector.distances(x) > detector.threshold).float().mean() <= 0.02
    assert (detector.distances(vectors() + 40) > detector.threshold).all()


def test_the_threshold_holds_for_images_that_it_has_not_seen():
    """Of as many components as a third of the images, the fitted images are much nearer than others."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(1500, 80)) * np.geomspace(0.05, 20, 80)).float()
    detector = fit_image_detector(x[:240])
    own, other = (detector.distances(part) for part in (x[:240], x[240:]))
    assert (other > own.quantile(0.99)).float().mean() > 0.1 > 0.04 > (other > detector.threshold).float().mean()


def test_what_cannot_be_fitted_is_told():
    with pytest.raises(KoviltError, match=f'19 images are too few for a detector; give at least {MIN_IMAGES}'):
        fit_image_detector(vectors(19))
    with pytest.raises(KoviltError, match='all alike'):
        fit_image_detector(torch.ones(30, 4))
    with pytest.raises(KoviltError, match='all alike'):
        fit_image_detector(torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]]).repeat(20, 1))


def test_a_folder_keeps_it_and_exports_take_it_along(folder, tmp_path):
    before = load_model_folder(folder)
    assert before.image_detector is None
    for seed in (0, 1):
        detector = fit_image_detector(vectors(size=16, seed=seed))
        store_image_detector(folder, detector)
        after = load_model_folder(folder)
        for found in (
            after.image_detector,
            load_model_folder(export_trained(after, tmp_path / str(seed))).image_detector,
        ):
            assert torch.equal(found.whitening, detector.whitening) and torch.equal(found.mean, detector.mean)
            assert (found.threshold, found.images) == (detector.threshold, 60)
    assert len(list(folder.glob('image_detector-*'))) == 1
    kept = {key: value for key, value in after.info.items() if key not in ('image_detector', 'files')}
    assert kept == {key: value for key, value in before.info.items() if key != 'files'}


def test_a_writer_that_is_killed_leaves_the_old_one(folder, monkeypatch):
    old, new = (fit_image_detector(vectors(size=16, seed=seed)) for seed in (0, 1))
    store_image_detector(folder, old)

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_detector, 'write_json', killed)
    with pytest.raises(KeyboardInterrupt):
        store_image_detector(folder, new)
    assert torch.equal(load_model_folder(folder).image_detector.mean, old.mean)
    monkeypatch.setattr(image_detector, 'write_json', write_json)
    store_image_detector(folder, new)
    assert torch.equal(load_model_folder(folder).image_detector.mean, new.mean)
    assert len(list(folder.glob('image_detector-*'))) == 1


def test_a_damaged_one_is_named(folder):
    store_image_detector(folder, fit_image_detector(vectors(size=16)))
    (file,) = folder.glob('image_detector-*')
    info, content = read_json(folder / 'kovilt.json'), file.read_bytes()
    file.write_bytes(content[:-1] + b'\0')
    with pytest.raises(KoviltError, match=f'{file.name}: its sha256 is not'):
        load_model_folder(folder)
    os.remove(file)
    with pytest.raises(KoviltError, match=f'{file.name}: missing'):
        load_model_folder(folder)
    for change, match in (
        ({'threshold': -1}, 'image_detector: threshold is -1'),
        ({'file': '../other'}, "image_detector names '../other', which is none of its files"),
        ({'file': 'model.safetensors'}, 'model.safetensors: no detector of images'),
    ):
        file.write_bytes(content)
        write_json(folder / 'kovilt.json', info | {'image_detector': info['image_detector'] | change})
        with pytest.raises(KoviltError, match=match):
            load_model_folder(folder)


def test_a_packaged_model_is_not_changed(tmp_path):
    for other, match in ((tmp_path, 'no model folder'), (ASSETS / 'rooms', 'comes with kovilt')):
        with pytest.raises(KoviltError, match=match):
            store_image_detector(other, fit_image_detector(vectors()))


def test_a_detector_of_another_model_is_refused():
    detector = ImageDetector(torch.zeros(16), torch.eye(16), threshold=2.0, images=20)
    with pytest.raises(KoviltError, match='16 components, but this model gives 8; fit it again'):
        detector.distances(torch.zeros(2, 8))

import numpy as np
import pytest
import torch

from kovilt.datasets import ColorJitter, GaussianBlur, GaussianNoise, RandomCrop, RandomResizeViLT, ResizeViLT

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
ALL = [
    RandomCrop(min_side=0.5),
    ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    GaussianBlur(prob=0.9, max_sigma=0.05),
    GaussianNoise(prob=0.9, max_std=20.0),
    RandomResizeViLT(shorts=[16, 32, 48], divisor=8),
]


def distort(step, image: np.ndarray, seed: int) -> np.ndarray:
    return step.transform({'img': image, 'image_seed': seed})['img']


@pytest.mark.parametrize('step', ALL, ids=lambda step: type(step).__name__)
def test_a_distortion_depends_on_the_seed_alone_and_leaves_its_input(step):
    before = IMAGE.copy()
    once = [distort(step, IMAGE, seed) for seed in range(30)]
    np.random.seed(5)
    torch.manual_seed(5)
    assert all(np.array_equal(distort(step, IMAGE, seed), image) for seed, image in enumerate(once))
    assert len({image.tobytes() for image in once}) >= (3 if isinstance(step, RandomResizeViLT) else 20)
    assert np.array_equal(IMAGE, before) and step.augments
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in once)


@pytest.mark.parametrize('step', ALL, ids=lambda step: type(step).__name__)
def test_left_stays_left_and_top_stays_top(step):
    """A ramp still rises to the right and to the bottom."""
    ramp = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    image = np.repeat(ramp[:, :, None], 3, axis=2)
    for seed in range(40):
        gray = distort(step, image, seed).astype(float).mean(2)
        height, width = gray.shape
        assert gray[:, width // 2 :].mean() > gray[:, : width // 2].mean()
        assert gray[height // 2 :].mean() > gray[: height // 2].mean()


def test_a_crop_is_a_window_of_the_image():
    place = np.stack([*np.indices((60, 80)), np.zeros((60, 80))], axis=2).astype(np.uint8)
    seen = set()
    for seed in range(300):
        window = distort(RandomCrop(min_side=0.5), place, seed)
        top, left = window[0, 0, :2].tolist()
        height, width = window.shape[:2]
        assert 30 <= height <= 60 and 40 <= width <= 80
        assert np.array_equal(window, place[top : top + height, left : left + width])
        seen |= {('top', top), ('left', left), ('end', top + height), ('right', left + width)}
    assert {('top', 0), ('left', 0), ('end', 60), ('right', 80)} <= seen
    assert np.array_equal(distort(RandomCrop(min_side=1.0), place, 0), place)


def test_colors_change_within_their_limits():
    gray = np.full((8, 8, 3), 100, np.uint8)
    levels = {int(distort(ColorJitter(brightness=0.4), gray, seed)[0, 0, 0]) for seed in range(300)}
    assert 60 <= min(levels) < 65 and 135 < max(levels) <= 140
    red = np.full((8, 8, 3), (200, 20, 20), np.uint8)
    turned = [distort(ColorJitter(hue=0.02), red, seed)[0, 0] for seed in range(100)]
    assert all(color[0] > 190 and max(color[1:]) < 50 for color in turned)
    assert len({color.tobytes() for color in turned}) > 3
    far = [distort(ColorJitter(hue=0.5), red, seed)[0, 0] for seed in range(100)]
    assert any(color[1] > color[0] for color in far) and any(color[2] > color[0] for color in far)
    assert np.array_equal(distort(ColorJitter(), IMAGE, 3), IMAGE)


def test_a_blur_means_the_same_at_every_resolution():
    """Half a black and half a white image: the width of the edge is the same share of the image."""
    widths = []
    for side in (64, 256):
        image = np.zeros((side, side, 3), np.uint8)
        image[:, side // 2 :] = 255
        row = distort(GaussianBlur(prob=1.0, max_sigma=0.1), image, 1)[0, :, 0]
        widths.append(float(((row > 20) & (row < 235)).mean()))
    assert widths[0] == pytest.approx(widths[1], abs=0.04) and widths[1] > 0.02


def test_noise_has_its_standard_deviation_and_stays_in_range():
    flat = np.full((100, 100, 3), 128, np.uint8)
    spread = [float(distort(GaussianNoise(prob=1.0, max_std=20.0), flat, seed).std()) for seed in range(100)]
    assert max(spread) <= 20.5 and max(spread) > 18 and min(spread) < 2
    dark = distort(GaussianNoise(prob=1.0, max_std=50.0), np.zeros((50, 50, 3), np.uint8), 2)
    assert dark.max() < 250  # nothing below black turned round to white


def test_transforms_of_one_pipeline_are_independent():
    blur, noise = GaussianBlur(prob=0.5, max_sigma=0.1), GaussianNoise(prob=0.5, max_std=40.0)
    changed = np.array(
        [[not np.array_equal(distort(step, IMAGE, seed), IMAGE) for step in (blur, noise)] for seed in range(400)]
    )
    assert changed.mean(0) == pytest.approx([0.5, 0.5], abs=0.08)
    assert changed.all(1).mean() == pytest.approx(0.25, abs=0.08)


def test_every_size_is_used_and_follows_the_rule_of_vilt():
    step = RandomResizeViLT(shorts=[16, 32, 48], divisor=8)
    found = {distort(step, IMAGE, seed).shape[:2] for seed in range(60)}
    rule = [ResizeViLT(short=short, long=int(1333 / 800 * short), divisor=8) for short in (16, 32, 48)]
    assert found == {one.target(80, 60)[::-1] for one in rule}


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (lambda: RandomCrop(min_side=0.0), 'min_side is 0.0; it must be above 0'),
        (lambda: ColorJitter(brightness=1.5), 'brightness is 1.5'),
        (lambda: ColorJitter(hue=0.6), 'hue is 0.6'),
        (lambda: GaussianBlur(prob=1.1, max_sigma=0.1), 'prob is 1.1'),
        (lambda: GaussianNoise(prob=0.5, max_std=-1.0), 'max_std is -1.0'),
        (lambda: RandomResizeViLT(shorts=[], divisor=16), 'at least one size'),
        (lambda: RandomResizeViLT(shorts=[8], divisor=16), 'expecting divisor 16 <= short 8'),
    ],
)
def test_arguments_out_of_range_are_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()

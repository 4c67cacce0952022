from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcn_train.data import (
    IGNORE_INDEX,
    Compose,
    Example,
    Mirror,
    RandomCrop,
    RandomScale,
    augmentation,
)
from fcn_train.data.transforms import resize

from .marked import marked

steady = settings(deadline=None, derandomize=True)
sides = st.integers(1, 40)
seeds = st.integers(0, 2**32)


def label_of(image: np.ndarray) -> np.ndarray:
    label: np.ndarray = (3 * image[:, :, 0] + 5 * image[:, :, 1]) % 20
    return label


@steady
@given(sides, sides, seeds)
def test_mirror_moves_image_and_label_alike(height: int, width: int, seed: int) -> None:
    example = marked(height, width)
    mirrored = Mirror(1.0)(example, np.random.default_rng(seed))
    assert np.array_equal(mirrored.image, example.image[:, ::-1])
    assert np.array_equal(mirrored.label, label_of(mirrored.image))


def test_mirror_happens_as_often_as_asked() -> None:
    example = marked(2, 3)
    rng = np.random.default_rng(0)
    for probability in (0.0, 0.25, 1.0):
        flips = [Mirror(probability)(example, rng).image[0, 0, 1] == 2 for _ in range(400)]
        assert np.mean(flips) == pytest.approx(probability, abs=0.07)


@steady
@given(sides, sides, sides, sides, seeds)
def test_crop_is_a_window_of_the_padded_image(
    height: int, width: int, crop_height: int, crop_width: int, seed: int
) -> None:
    example = marked(height, width)
    crop = RandomCrop(crop_height, crop_width, fill=(1, 2, 3))
    image, label = crop(example, np.random.default_rng(seed))
    assert image.shape == (crop_height, crop_width, 3)
    assert label.shape == (crop_height, crop_width)
    inside = label != IGNORE_INDEX
    assert inside.sum() == min(height, crop_height) * min(width, crop_width)
    assert np.array_equal(label[inside], label_of(image)[inside])
    assert (image[~inside] == (1, 2, 3)).all()
    rows, columns = image[:, :, 0][inside], image[:, :, 1][inside]
    assert np.ptp(rows) == min(height, crop_height) - 1
    assert np.ptp(columns) == min(width, crop_width) - 1


def test_crop_reaches_every_place() -> None:
    example = marked(5, 4)
    rng = np.random.default_rng(0)
    corners = {tuple(RandomCrop(3, 3)(example, rng).image[0, 0, :2]) for _ in range(200)}
    assert corners == {(row, column) for row in range(3) for column in range(2)}


def test_small_image_lies_at_any_place_of_the_crop() -> None:
    example = marked(1, 1)
    rng = np.random.default_rng(0)
    places = {int(RandomCrop(2, 3)(example, rng).label.argmin()) for _ in range(200)}
    assert places == set(range(6))


@steady
@given(sides, sides, st.floats(0.3, 1.0), st.floats(1.0, 3.0), seeds)
def test_scale_keeps_the_aspect_and_the_range(
    height: int, width: int, low: float, high: float, seed: int
) -> None:
    image, label = RandomScale(low, high)(marked(height, width), np.random.default_rng(seed))
    assert image.shape[:2] == label.shape
    for before, after in zip((height, width), label.shape, strict=True):
        assert max(1, before * low - 0.5) <= after <= max(1, before * high + 0.5)
    assert set(np.unique(label)) <= set(np.unique(marked(height, width).label))


def test_scaled_label_stays_aligned_with_its_image() -> None:
    """A step edge in the image, resampled, is where the step edge in the label is."""
    label = np.zeros((30, 40), dtype=np.uint8)
    label[11:, :] = 1
    label[:, 27:] = 1
    example = Example(np.repeat(label[:, :, None] * 200, 3, axis=2), label)
    for height, width in ((60, 80), (45, 60), (21, 28), (90, 31)):
        image, scaled = resize(example, height, width)
        agree = (image[:, :, 0] > 100) == (scaled == 1)
        assert agree.mean() > 0.97


def test_void_is_not_blended_into_classes() -> None:
    label = np.full((8, 8), 255, dtype=np.uint8)
    label[2:6, 2:6] = 4
    example = Example(np.zeros((8, 8, 3), dtype=np.uint8), label)
    assert set(np.unique(resize(example, 19, 23).label)) == {4, 255}


@steady
@given(seeds)
def test_transforms_depend_on_nothing_but_their_arguments(seed: int) -> None:
    transform = augmentation(mirror=True, scale=(0.5, 2.0), crop=16)
    example = marked(20, 13)
    before = example.image.copy()
    first, second = (transform(example, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.label, second.label)
    assert np.array_equal(example.image, before)


def test_augmentation_names_what_it_does() -> None:
    everything = augmentation(mirror=True, scale=(0.5, 2.0), crop=64)
    assert everything == Compose((Mirror(), RandomScale(0.5, 2.0), RandomCrop(64, 64)))
    example = marked(4, 5)
    rng = np.random.default_rng(0)
    assert augmentation(mirror=False, crop=0)(example, rng) is example


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mirror(1.5), r"probability must be in 0\.\.1, got 1\.5"),
        (lambda: RandomScale(2.0, 1.0), r"scale must satisfy 0 < low <= high, got \(2\.0, 1\.0\)"),
        (lambda: RandomScale(0.0, 1.0), r"got \(0\.0, 1\.0\)"),
        (lambda: RandomCrop(0, 4), "crop must be at least 1 x 1, got 0 x 4"),
        (lambda: augmentation(crop=-1), "crop must be at least 1 x 1, got -1 x -1"),
    ],
)
def test_arguments_out_of_range_are_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()

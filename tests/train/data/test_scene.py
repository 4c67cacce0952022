from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fcn_train.data import SAMPLE_CLASS_NAMES
from fcn_train.data.scene import draw_scene


@pytest.mark.parametrize("kind", range(1, 21))
def test_each_class_draws_one_object_of_its_own(kind: int) -> None:
    image, label = draw_scene([kind], 96, 128, np.random.default_rng(kind))
    assert image.shape == (96, 128, 3)
    assert image.dtype == label.dtype == np.uint8
    assert set(np.unique(label)) == {0, kind, 255}
    assert (label == kind).sum() > 60
    assert image.std() > 5


def test_scene_follows_from_the_generator_alone() -> None:
    first, second = (draw_scene([1, 7, 13], 48, 64, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.label, second.label)


def test_objects_hide_each_other_but_not_wholly() -> None:
    seen = []
    for seed in range(20):
        label = draw_scene([1, 5, 9, 13, 17], 96, 128, np.random.default_rng(seed)).label
        seen.append(len(set(np.unique(label)) - {0, 255}))
    assert np.mean(seen) > 4.5


def test_no_property_alone_tells_a_class() -> None:
    """Every class shares color and texture with another, and color and outline with one more."""
    kinds = [tuple(name.split()) for name in SAMPLE_CLASS_NAMES[1:]]
    assert len(set(kinds)) == 20
    for kind in kinds:
        others = [{i for i in range(3) if kind[i] == other[i]} for other in kinds if other != kind]
        assert {0, 1} in others
        assert {0, 2} in others
    assert all(first != second for first, second in combinations(kinds, 2))

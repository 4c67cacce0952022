"""Jitter: what moves, what becomes free."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_train.data.example import Example
from fcn_train.data.jitter import Jitter
from fcn_train.data.transforms import augmentation

FILL = (1, 2, 3)


def example(height: int = 5, width: int = 7) -> Example:
    label = np.arange(10, 10 + height * width, dtype=np.uint8).reshape(height, width)
    image = np.stack([label] * 3, axis=2)
    return Example(image, label, (label + 100,), label.astype(np.uint16) + 1, image + 1)


@pytest.mark.parametrize("most", [0, 1, 3, 20])
def test_pixels_move_together(most: int) -> None:
    before = example()
    moves = set()
    for seed in range(60):
        after = Jitter(most, FILL)(before, np.random.default_rng(seed))
        assert after.label.shape == before.label.shape
        kept = after.label != 255
        assert (after.image[kept] == after.label[kept][:, None]).all()
        assert (after.image[~kept] == FILL).all()
        assert (after.more_labels[0][kept] == after.label[kept] + 100).all()
        assert (after.more_labels[0][~kept] == 255).all()
        assert after.depth is not None
        assert after.hha is not None
        assert (after.depth == np.where(kept, after.label.astype(int) + 1, 0)).all()
        assert (after.hha[~kept] == 0).all()
        down, right = np.random.default_rng(seed).integers(-most, most + 1, 2)
        moves.add((int(down), int(right)))
        rows, columns = np.nonzero(kept)
        if len(rows):
            source = before.label[rows - down, columns - right]
            assert (after.label[rows, columns] == source).all()
        assert kept.sum() == max(0, 5 - abs(down)) * max(0, 7 - abs(right))
    if most == 1:
        assert len(moves) == 9
    if most == 0:
        assert moves == {(0, 0)}


def test_it_is_part_of_augmentation() -> None:
    assert augmentation(mirror=False).transforms == ()
    (jitter,) = augmentation(mirror=False, jitter=4, fill=FILL).transforms
    assert jitter == Jitter(4, FILL)
    with pytest.raises(ValueError, match="jitter must be >= 0, got -1"):
        Jitter(-1, FILL)

"""Jitter: images moved by a few pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.example import Example


@dataclass(frozen=True)
class Jitter:
    """Moves all pixels by whole numbers in [-most, most], up or down and left or right.

    The size stays. Pixels without content get the color `fill`, the label `IGNORE_INDEX` and no
    depth.
    """

    most: int
    fill: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"jitter must be >= 0, got {self.most}")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        down, right = (int(step) for step in rng.integers(-self.most, self.most + 1, 2))

        def moved(values: np.ndarray, fill: int | tuple[int, int, int]) -> np.ndarray:
            result = np.empty_like(values)
            result[:] = fill
            source = values[max(0, -down) :, max(0, -right) :]
            target = result[max(0, down) :, max(0, right) :]
            rows, columns = np.minimum(source.shape[:2], target.shape[:2])
            target[:rows, :columns] = source[:rows, :columns]
            return result

        return example.changed(
            lambda image: moved(image, self.fill),
            lambda label: moved(label, IGNORE_INDEX),
            lambda depth: moved(depth, 0),
        )

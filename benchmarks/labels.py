"""Label maps to count: regions as a trained network and an annotator draw them, or pure noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


def region_labels(
    batch: int, num_classes: int, height: int, width: int, ignore_index: int, seed: int = 0
) -> tuple[Labels, Labels]:
    """(prediction, target): ellipses over a background, with a void ring in the target.

    Every predicted region is moved by a few pixels, and about one in ten has the wrong class, which
    leaves some 90 % of the pixels on the diagonal.
    """
    rng = np.random.default_rng(seed)
    prediction = np.zeros((batch, height, width), dtype=np.int64)
    target = np.zeros_like(prediction)
    regions = max(6, height * width // 30_000)
    for n in range(batch):
        prediction[n] = target[n] = rng.integers(num_classes)
        for _ in range(regions):
            center = rng.uniform(0, (height, width))
            radii = np.maximum(rng.uniform(0.03, 0.18, 2) * min(height, width), 4)
            label = int(rng.integers(num_classes))
            guess = label if rng.random() > 0.1 else int(rng.integers(num_classes))
            _draw(target[n], center, radii, ignore_index)
            _draw(target[n], center, radii - 2, label)
            _draw(prediction[n], center + rng.normal(0, 1.5, 2), radii, guess)
    return prediction, target


def random_labels(
    batch: int, num_classes: int, height: int, width: int, ignore_index: int, seed: int = 0
) -> tuple[Labels, Labels]:
    """(prediction, target): every pixel drawn independently, one target pixel in twenty void."""
    rng = np.random.default_rng(seed)
    shape = (batch, height, width)
    prediction, target = rng.integers(num_classes, size=(2, *shape))
    target[rng.random(shape) < 0.05] = ignore_index
    return prediction, target


def _draw(
    map: Labels, center: npt.NDArray[np.float64], radii: npt.NDArray[np.float64], label: int
) -> None:
    low = np.maximum(np.floor(center - radii), 0).astype(int)
    high = np.minimum(np.ceil(center + radii) + 1, map.shape).astype(int)
    y, x = np.ogrid[low[0] : max(low[0], high[0]), low[1] : max(low[1], high[1])]
    inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 <= 1
    map[low[0] : high[0], low[1] : high[1]][inside] = label

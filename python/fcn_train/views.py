"""The views of an image that a network sees: the whole image or windows, mirrored and scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fcn_ext.prediction import CoarseWindows, tile_windows
from fcn_train.errors import UsageError
from fcn_train.heads import head_list, in_order
from fcn_train.options import TileWeights

NONE = "none"
FLIP = "flip"
SCALES = 1 / 16, 16
MOST_TILE = 2**31 - 1  # the most that every count of pixels can hold


@dataclass(frozen=True)
class Views:
    """How an image is predicted; by default whole and unchanged.

    Attributes:
        tile: side of the windows, in pixels; 0 is the whole image.
        overlap: the fewest pixels that neighboring windows share.
        tta: "none", or how each window is seen: "flip" for its mirror image, too, and factors that
            it is scaled by, with commas between; no factor is 1. The probabilities are averaged.
        tile_weights: how much the pixels of a window count against those of its neighbors.
    """

    tile: int = 0
    overlap: int = 0
    tta: str = NONE
    tile_weights: TileWeights = "constant"

    @property
    def several(self) -> bool:
        """Whether there may be more than one view."""
        return self.tile > 0 or self.tta != NONE

    @property
    def flips(self) -> tuple[bool, ...]:
        return (False, True) if FLIP in self._parts() else (False,)

    @property
    def scales(self) -> tuple[float, ...]:
        """Raises ValueError if one is not a number."""
        return tuple(float(part) for part in self._parts() if part != FLIP) or (1.0,)

    def _parts(self) -> list[str]:
        return [] if self.tta == NONE else [part.strip() for part in self.tta.split(",")]

    def check(self) -> None:
        """Raises UsageError for impossible views, naming the option."""
        if self.tile < 0:
            raise UsageError(f"--tile must be >= 1, or 0 for the whole image, got {self.tile}")
        if self.tile > MOST_TILE:
            raise UsageError(f"--tile must be <= {MOST_TILE}, got {self.tile}")
        for name, given in (
            ("--overlap", self.overlap != 0),
            ("--tile-weights", self.tile_weights != "constant"),
        ):
            if given and not self.tile:
                raise UsageError(f"{name} has no meaning without --tile")
        if self.tile and not 0 <= self.overlap < self.tile:
            raise UsageError(f"--overlap must be in [0, --tile = {self.tile}), got {self.overlap}")
        try:
            scales = self.scales
        except ValueError:
            scales = (math.nan,)
        least, most = SCALES
        once = len(set(scales)) == len(scales) and self._parts().count(FLIP) <= 1
        if not once or not all(least <= scale <= most for scale in scales):
            raise UsageError(
                "--tta must be none, or flip and different factors from 1/16 to 16 with commas "
                f"between, such as flip,0.75,1,1.25, got {self.tta!r}"
            )

    def average(self, model: Any, images: Tensor) -> list[CoarseWindows]:
        """The result of ``model`` over all views of ``images`` (N, channels, H, W), for each
        head."""
        size = (images.shape[2], images.shape[3])
        heads = head_list(model)
        averages = [CoarseWindows(size) for _ in heads]
        for window in tile_windows(size, self.tile or max(size), self.overlap):
            top, left, height, width = window
            crop = images[:, :, top : top + height, left : left + width]
            for scale in self.scales:
                seen = scaled(crop, scale)
                seen_size = None if seen is crop else (seen.shape[2], seen.shape[3])
                for flip in self.flips:
                    made = in_order(model.scores(seen.flip(3) if flip else seen))
                    for average, scores, head in zip(averages, made, heads, strict=True):
                        average.add(
                            scores,
                            window,
                            head.geometry,
                            flip=flip,
                            seen_size=seen_size,
                            importance=self.tile_weights,
                        )
        return averages


AT_ONCE = Views()
"""The whole image, unchanged."""


def scaled(images: Tensor, scale: float) -> Tensor:
    """``images`` with sides ``scale`` times as long, at least one pixel; the same tensor if nothing
    changes. Filtered when shrunk, as the images of training are."""
    size = tuple(max(1, int(side * scale + 0.5)) for side in images.shape[2:])
    if size == images.shape[2:]:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)

"""What a network sees of an image: all of it or windows, as they are and as mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fcn_ext.prediction import CoarseWindows, tile_windows
from fcn_train.errors import UsageError
from fcn_train.heads import in_order


@dataclass(frozen=True)
class Views:
    """How an image is predicted; by default at once, as it is.

    Attributes:
        tile: side of the windows, in pixels; 0 is the whole image.
        overlap: pixels that neighboring windows share at least.
        tta: each window is seen as its mirror image, too. The probabilities are averaged.
    """

    tile: int = 0
    overlap: int = 0
    tta: bool = False

    @property
    def several(self) -> bool:
        """Whether there may be more than one."""
        return self.tile > 0 or self.tta

    def check(self) -> None:
        """Raises UsageError for windows that there cannot be, naming the option."""
        if self.tile < 0:
            raise UsageError(f"--tile must be >= 1, or 0 for the whole image, got {self.tile}")
        if self.overlap and not self.tile:
            raise UsageError("--overlap has no meaning without --tile")
        if self.tile and not 0 <= self.overlap < self.tile:
            raise UsageError(f"--overlap must be in [0, --tile = {self.tile}), got {self.overlap}")

    def average(self, model: Any, images: Tensor) -> list[CoarseWindows]:
        """What ``model`` makes of all views of ``images`` (N, channels, H, W), for each head."""
        size = (images.shape[2], images.shape[3])
        heads = model.heads.values()
        averages = [CoarseWindows(size) for _ in heads]
        for window in tile_windows(size, self.tile or max(size), self.overlap):
            top, left, height, width = window
            crop = images[:, :, top : top + height, left : left + width]
            for flip in (False, True) if self.tta else (False,):
                made = in_order(model.scores(crop.flip(3) if flip else crop))
                for average, scores, head in zip(averages, made, heads, strict=True):
                    average.add(scores, window, head.geometry, flip=flip)
        return averages

"""What a net sees of the images in prediction rows: windows, scales, sizes."""

from __future__ import annotations

from benchmarks.cases import MapCase, Size
from fcn_ext.prediction import tile_windows

Window = tuple[int, int, int, int]
VIEWS = [(scale, flip) for scale in (0.75, 1.0, 1.25) for flip in (False, True)]
"""Scale of the image, and whether it is mirrored, as in mmsegmentation's ``SegTTAModel``."""


def windows(case: MapCase) -> list[Window]:
    """Windows with half of the image's height as side, a third of it shared (mmsegmentation's two
    thirds of a stride)."""
    side = max(1, case.height // 2)
    return tile_windows(case.size, side, side // 3)


def own_sizes(case: MapCase, batch: int) -> list[Size]:
    """The original sizes of images that were resized to one size for the net."""
    height, width = case.size
    kinds = ((height, width * 4 // 3), (height * 4 // 3, width), (height, width))
    return [kinds[index % len(kinds)] for index in range(batch)]


def score_size(size: Size, stride: int, scale: float = 1.0) -> Size:
    height, width = (max(1, round(side * scale)) for side in size)
    return -(-height // stride), -(-width // stride)

"""How the levels of a head fit together: strides, kernels, crops and paddings, from the grids of
maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..geometry import Deconvolution, Grid, crop_offset

__all__ = ["Level", "last_level", "skip_levels"]


@dataclass(frozen=True)
class Level:
    """An upsampling, and the map that its result is added to.

    Attributes:
        name: the published name of the upsampling layer.
        step: its stride and kernel size.
        offset: where the finer of the two is cropped.
        padding: of the 1x1 convolution that scores a skip.
        grid: where the cells of the result lie.
    """

    name: str
    step: Deconvolution
    offset: int
    padding: int
    grid: Grid


def skip_levels(top: Grid, skips: Sequence[tuple[str, Grid]]) -> list[Level]:
    """The steps from the top map's scores to those of each skip, from coarse to fine.

    Raises:
        ValueError: the strides do not go from coarse to fine by whole factors, or no kernel fits
            two grids.
    """
    levels: list[Level] = []
    grid, name = top, ""
    for skip, finer in skips:
        stride = grid.stride / finer.stride
        if stride.denominator != 1:
            raise ValueError(
                f"skips must go from coarse to fine by whole strides, got {skip} with stride "
                f"{finer.stride} after one of {grid.stride}"
            )
        step = _step(grid, int(stride), finer)
        grid = grid.upsample(step.stride, kernel_size=step.kernel_size)
        # Upsampled scores may reach past the skip's map: by `before` cells at its beginning, and
        # at its end by up to r - 1 more, r being how many of its cells one of the top map spans,
        # as pooling rounds sizes up. Padding holds the window inside for images of every size.
        before = int(grid.shift - finer.shift)
        padding = max(0, before + int(top.stride / finer.stride) - 1)
        offset = crop_offset(finer.window(1, padding=padding), grid)
        levels.append(Level(name or f"upscore{step.stride}", step, offset, padding, grid))
        name = f"upscore_{skip}"
    return levels


def last_level(grid: Grid, levels: Sequence[Level], skips: Sequence[str]) -> Level:
    """The step from the scores on ``grid`` to the image.

    Raises:
        ValueError: no kernel fits.
    """
    stride = int(grid.stride)
    step = _step(grid, stride, Grid())
    full = grid.upsample(stride, kernel_size=step.kernel_size)
    name = f"upscore{stride}" if levels else "upscore"
    if name in {level.name for level in levels}:  # in no published net
        name = f"upscore_{skips[-1]}"
    return Level(name, step, crop_offset(full, Grid()), 0, full)


def _step(grid: Grid, stride: int, reference: Grid) -> Deconvolution:
    """The upsampling that puts ``grid`` a whole number of cells away from ``reference``: a kernel
    of side 2 * stride - 1 is centered on a cell, one of side 2 * stride between two."""
    even = Deconvolution(stride)
    gap = grid.upsample(stride, kernel_size=even.kernel_size).shift - reference.shift
    return even if gap.denominator == 1 else Deconvolution(stride, 2 * stride - 1)

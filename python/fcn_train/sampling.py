"""Draws the pixels of a target that count in a step's loss; the others become void."""

from __future__ import annotations

import torch
from torch import Tensor

from fcn_ext.geometry import Grid
from fcn_ext.models import FCN, Head
from fcn_train.data import IGNORE_INDEX
from fcn_train.share import Part


def sampled(
    target: Tensor,
    head: FCN | Head,
    cells: float,
    shares: Tensor | None,
    part: Part | None = None,
) -> Tensor:
    """``target`` (N, H, W) with a share ``cells`` of the cells of ``head``'s scores and, if given,
    a share ``shares[c]`` of the pixels of each class c. A ``part`` of a batch keeps the pixels that
    it would keep in the whole batch."""
    if cells < 1:
        target = sampled_cells(target, head.score_grid, cells, part)
    return target if shares is None else sampled_classes(target, shares, part)


def sampled_cells(target: Tensor, grid: Grid, share: float, part: Part | None = None) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels of cells that are not kept.

    Each cell of ``grid`` is kept with probability ``share``, drawn from torch's generator on the
    CPU. A pixel belongs to the cell whose center is nearest (Long et al., section 4.3).
    """
    rows, columns = (_nearest_cells(size, grid) for size in target.shape[1:])
    if not len(rows) or not len(columns):
        return target
    kept = _drawn((len(target), int(rows[-1]) + 1, int(columns[-1]) + 1), part) < share
    pixels = kept[:, rows][:, :, columns].to(target.device)
    return torch.where(pixels, target, IGNORE_INDEX)


def sampled_classes(target: Tensor, shares: Tensor, part: Part | None = None) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels that are not kept. Those of class c are
    kept with probability ``shares[c]``, drawn from torch's generator on the CPU."""
    # Void is never kept, and is void anyway.
    table = torch.zeros(IGNORE_INDEX + 1)
    table[: len(shares)] = shares.cpu()
    kept = (
        _drawn(tuple(target.shape), part).to(target.device) < table.to(target.device)[target.long()]
    )
    return torch.where(kept, target, IGNORE_INDEX)


def _drawn(shape: tuple[int, ...], part: Part | None) -> Tensor:
    """Uniform random numbers in [0, 1) for images, (N, ...)."""
    if part is None:
        return torch.rand(shape)
    return torch.rand(part.size, *shape[1:])[part.start : part.stop]


def _nearest_cells(size: int, grid: Grid) -> Tensor:
    """The cell of each of ``size`` pixels along an axis, counted from the first pixel's cell."""
    cells = [round(grid.scale * pixel + grid.shift) for pixel in range(size)]
    return torch.tensor([cell - cells[0] for cell in cells], dtype=torch.int64)

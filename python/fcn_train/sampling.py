"""Which pixels of a target count in a step's loss: the others become void."""

from __future__ import annotations

import torch
from torch import Tensor

from fcn_ext.geometry import Grid
from fcn_ext.models import FCN, Head
from fcn_train.data import IGNORE_INDEX


def sampled(target: Tensor, head: FCN | Head, cells: float, shares: Tensor | None) -> Tensor:
    """``target`` (N, H, W) with a share of ``cells`` of the cells of the scores of ``head``, and
    ``shares`` (C,) of the pixels of each class where given."""
    if cells < 1:
        target = sampled_cells(target, head.score_grid, cells)
    return target if shares is None else sampled_classes(target, shares)


def sampled_cells(target: Tensor, grid: Grid, share: float) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels of cells that are not kept.

    Each cell of ``grid`` is kept with probability ``share``, drawn from torch's generator on the
    CPU. A pixel is of the cell whose center is nearest (Long et al., section 4.3).
    """
    rows, columns = (_nearest_cells(size, grid) for size in target.shape[1:])
    if not len(rows) or not len(columns):
        return target
    kept = torch.rand(len(target), int(rows[-1]) + 1, int(columns[-1]) + 1) < share
    pixels = kept[:, rows][:, :, columns].to(target.device)
    return torch.where(pixels, target, IGNORE_INDEX)


def sampled_classes(target: Tensor, shares: Tensor) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels that are not kept: those of class c are
    with probability ``shares[c]``, drawn from torch's generator on the CPU."""
    # Void keeps nothing, and is void anyway.
    table = torch.zeros(IGNORE_INDEX + 1)
    table[: len(shares)] = shares.cpu()
    kept = torch.rand(target.shape).to(target.device) < table.to(target.device)[target.long()]
    return torch.where(kept, target, IGNORE_INDEX)


def _nearest_cells(size: int, grid: Grid) -> Tensor:
    """The cell of each of ``size`` pixels along an axis, counted from that of the first."""
    cells = [round(grid.scale * pixel + grid.shift) for pixel in range(size)]
    return torch.tensor([cell - cells[0] for cell in cells], dtype=torch.int64)

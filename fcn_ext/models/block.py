"""Blocks: parallel convolutions that count as one layer of a trunk."""

from __future__ import annotations

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Grid

__all__ = ["Block"]


class Block(nn.Module):
    """Parallel convolutions, each followed by a ReLU, whose results are concatenated.

    Args:
        batch_norm: batch normalization between each convolution and its ReLU.

    Attributes:
        out_channels: channels of the result.
    """

    out_channels: int

    def __init__(self, *, batch_norm: bool) -> None:
        super().__init__()
        self.batch_norm = batch_norm

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The results of all branches, concatenated."""

    @abstractmethod
    def grid_after(self, grid: Grid) -> Grid:
        """The grid of the result, from the branch with the largest receptive field; all have the
        same cells."""

    def _add(self, name: str, inputs: int, channels: int, size: int) -> None:
        """A convolution that keeps the size of its map."""
        self.add_module(name, nn.Conv2d(inputs, channels, size, padding=size // 2))
        if self.batch_norm:
            self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def _run(self, name: str, x: Tensor) -> Tensor:
        x = getattr(self, name)(x)
        if self.batch_norm:
            x = getattr(self, f"{name}_bn")(x)
        return F.relu(x, inplace=True)

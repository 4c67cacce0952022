"""What the trunks of all nets share: a classifier's layers, made fully convolutional."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import integer, number
from ..geometry import Grid

__all__ = ["FullyConnectedTrunk", "Padding", "Trunk"]

Padding = Literal["published", "same"]

_FC_CHANNELS = 4096


class Trunk(nn.Module):
    """Convolutions and poolings, and dropout before what scores their last map.

    Weights start from He's normal initialisation, biases from zero.

    Args:
        in_channels: channels of the images.
        width: factor on the channel count of every layer.
        padding: ``"published"`` pads the image by 100 pixels at the first convolution, so that
            every later crop stays inside for any image size (Long et al., 2015, and the published
            net definitions). ``"same"`` keeps the size at every convolution.
        batch_norm: batch normalisation after the convolutions.
        dropout: probability at which an element is zeroed in training, where the classifier had
            dropout.

    Attributes:
        out_channels: channels of the map that is scored.
        pool_channels: channels of the map that each pooling leaves.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    # The layer whose map is scored.
    top: ClassVar[str]
    out_channels: int

    def __init__(
        self,
        *,
        in_channels: int,
        width: float,
        padding: Padding,
        batch_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        in_channels = count(in_channels, "in_channels")
        width, dropout = number(width, "width"), number(dropout, "dropout")
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"width must be finite and > 0, got {width!r}")
        if padding not in get_args(Padding):
            raise ValueError(f"padding must be one of {get_args(Padding)}, got {padding!r}")
        if not isinstance(batch_norm, bool):
            raise TypeError(f"batch_norm must be a bool, got {batch_norm!r}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must lie in [0, 1], got {dropout!r}")

        self.in_channels = in_channels
        self.width = width
        self.padding: Padding = padding
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.pool_channels: dict[str, int] = {}

    @abstractmethod
    def trunk(self, images: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """The map of ``top``, and those of the poolings named in ``keep`` (``"pool4"``, ...)."""

    @abstractmethod
    def trunk_grids(self) -> dict[str, Grid]:
        """Where the cells of the maps of the poolings and of ``top`` lie in the image."""

    @abstractmethod
    def caffe_layers(self) -> dict[str, str]:
        """The layers with parameters, first to last, and what Caffe's classifier calls them."""

    def torchvision_layers(self) -> dict[str, str]:
        """The same layers and what torchvision's classifier calls them, if it has the net."""
        return {}

    def _initialise(self) -> None:
        """The initial values of all layers so far."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class FullyConnectedTrunk(Trunk):
    """A trunk that ends in fc6 and fc7, now convolutions. Arguments as :class:`Trunk`, and:

    ``padding="published"`` pads nothing at fc6; ``batch_norm`` leaves fc6 and fc7 alone; an
    element of either is dropped.

    Args:
        fc_channels: channels of fc6 and fc7; by default ``4096 * width``.
    """

    top = "fc7"

    def __init__(self, *, fc_channels: int | None, **options: Any) -> None:
        super().__init__(**options)
        if fc_channels is not None:
            fc_channels = count(fc_channels, "fc_channels")
        self.out_channels = fc_channels or max(1, round(_FC_CHANNELS * self.width))

    @abstractmethod
    def torchvision_layers(self) -> dict[str, str]: ...

    def caffe_layers(self) -> dict[str, str]:
        return {layer: layer for layer in self.torchvision_layers()}

    def _add_fully_connected(self, inputs: int, kernel_size: int, padding: int) -> None:
        """fc6 and fc7, and the initial values of all layers so far."""
        self.fc6 = nn.Conv2d(inputs, self.out_channels, kernel_size, padding=padding)
        self.drop6 = nn.Dropout(self.dropout)
        self.fc7 = nn.Conv2d(self.out_channels, self.out_channels, 1)
        self.drop7 = nn.Dropout(self.dropout)
        self._initialise()

    def _fully_connected(self, x: Tensor) -> Tensor:
        x = self.drop6(F.relu(self.fc6(x), inplace=True))
        fc7: Tensor = self.drop7(F.relu(self.fc7(x), inplace=True))
        return fc7


def count(value: Any, name: str) -> int:
    """``value`` as an int, or an exception unless it is an integer >= 1."""
    number_of = integer(value, name)
    if number_of < 1:
        raise ValueError(f"{name} must be >= 1, got {number_of}")
    return number_of

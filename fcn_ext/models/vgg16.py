"""The trunk that FCN-32s, FCN-16s and FCN-8s share: VGG16 made fully convolutional."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from .._arguments import integer, number
from .geometry import Grid

__all__ = ["CONVOLUTIONS", "Padding", "VGG16Trunk"]

Padding = Literal["published", "same"]

# (channels, convolutions) of the five stages, each ended by a 2x2 pooling: VGG16 is
# configuration D of Simonyan and Zisserman, 2015.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

# "1_1" ... "5_3", by stage.
CONVOLUTIONS = tuple(
    tuple(f"{stage}_{index + 1}" for index in range(depth))
    for stage, (_, depth) in enumerate(_STAGES, start=1)
)

_FC_CHANNELS = 4096
_FC6_KERNEL = 7

# Published: the image is padded so far that fc6 without padding, and every later crop, stay
# inside for any image size (Long et al., 2015, and the published net definitions).
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1_1": 100, "fc6": 0},
    "same": {"conv1_1": 1, "fc6": 3},
}


class VGG16Trunk(nn.Module):
    """The layers conv1_1 ... conv5_3, fc6 and fc7, the last two as convolutions.

    Every convolution is followed by a ReLU (with ``batch_norm``, those of the five stages by
    batch normalisation first); pooling rounds sizes up, as Caffe's does; fc6 and fc7 are followed
    by element-wise dropout. Weights start from He's normal initialisation, biases from zero.

    Args:
        in_channels: channels of the images.
        width: factor on the channel count of every layer.
        padding: ``"published"`` pads the image by 100 pixels at conv1_1 and nothing at fc6,
            ``"same"`` keeps the size at every convolution.
        batch_norm: batch normalisation after the convolutions of the five stages, as in
            torchvision's ``vgg16_bn``.
        fc_channels: channels of fc6 and fc7; by default ``4096 * width``.
        dropout: probability at which an element of fc6 and fc7 is zeroed in training.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: float,
        padding: Padding,
        batch_norm: bool,
        fc_channels: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        in_channels = count(in_channels, "in_channels")
        width, dropout = number(width, "width"), number(dropout, "dropout")
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"width must be finite and > 0, got {width!r}")
        if padding not in get_args(Padding):
            raise ValueError(f"padding must be one of {get_args(Padding)}, got {padding!r}")
        if fc_channels is not None:
            fc_channels = count(fc_channels, "fc_channels")
        if not isinstance(batch_norm, bool):
            raise TypeError(f"batch_norm must be a bool, got {batch_norm!r}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must lie in [0, 1], got {dropout!r}")

        self.in_channels = in_channels
        self.padding: Padding = padding
        self.batch_norm = batch_norm
        pads = _PADDINGS[padding]

        # Channels of the map that each pooling leaves.
        self.pool_channels: dict[str, int] = {}
        inputs = in_channels
        for stage, (names, (base, _)) in enumerate(zip(CONVOLUTIONS, _STAGES, strict=True), 1):
            channels = max(1, round(base * width))
            for name in names:
                conv = nn.Conv2d(inputs, channels, 3, padding=pads.get(f"conv{name}", 1))
                self.add_module(f"conv{name}", conv)
                if batch_norm:
                    self.add_module(f"bn{name}", nn.BatchNorm2d(channels))
                inputs = channels
            self.add_module(f"pool{stage}", nn.MaxPool2d(2, stride=2, ceil_mode=True))
            self.pool_channels[f"pool{stage}"] = channels

        self.fc_channels = fc_channels or max(1, round(_FC_CHANNELS * width))
        self.fc6 = nn.Conv2d(inputs, self.fc_channels, _FC6_KERNEL, padding=pads["fc6"])
        self.drop6 = nn.Dropout(dropout)
        self.fc7 = nn.Conv2d(self.fc_channels, self.fc_channels, 1)
        self.drop7 = nn.Dropout(dropout)

        for name, parameter in self.named_parameters():
            if parameter.dim() == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def trunk(self, images: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """The map of fc7, and those of the poolings named in ``keep`` (``"pool4"``, ...)."""
        kept = {}
        x = images
        for stage, names in enumerate(CONVOLUTIONS, start=1):
            for name in names:
                x = getattr(self, f"conv{name}")(x)
                if self.batch_norm:
                    x = getattr(self, f"bn{name}")(x)
                x = F.relu(x, inplace=True)
            x = getattr(self, f"pool{stage}")(x)
            if f"pool{stage}" in keep:
                kept[f"pool{stage}"] = x
        x = self.drop6(F.relu(self.fc6(x), inplace=True))
        x = self.drop7(F.relu(self.fc7(x), inplace=True))
        return x, kept

    def trunk_grids(self) -> dict[str, Grid]:
        """Where the cells of the maps of pool1 ... pool5, fc6 and fc7 lie in the image."""
        grids = {}
        grid = Grid()
        for stage, names in enumerate(CONVOLUTIONS, start=1):
            for name in names:
                grid = grid.through(getattr(self, f"conv{name}"))
            grids[f"pool{stage}"] = grid = grid.through(getattr(self, f"pool{stage}"))
        grids["fc6"] = grid = grid.through(self.fc6)
        grids["fc7"] = grid.through(self.fc7)
        return grids


def count(value: Any, name: str) -> int:
    """``value`` as an int, or an exception unless it is an integer >= 1."""
    number_of = integer(value, name)
    if number_of < 1:
        raise ValueError(f"{name} must be >= 1, got {number_of}")
    return number_of

"""The trunk of FCN-AlexNet: AlexNet, in Caffe's or in torchvision's build, fully convolutional."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Grid
from .trunk import FullyConnectedTrunk, Padding

__all__ = ["AlexNetTrunk", "AlexNetVariant"]

AlexNetVariant = Literal["caffe", "torchvision"]

# Channels of conv1 ... conv5. Caffe's (CaffeNet: Krizhevsky et al., 2012, but for the order of
# pooling and normalisation) halves conv2, conv4 and conv5 into groups that once sat on two GPUs;
# torchvision's is the one of Krizhevsky, 2014, for a single one, without response normalisation.
_CHANNELS: dict[AlexNetVariant, tuple[int, ...]] = {
    "caffe": (96, 256, 384, 384, 256),
    "torchvision": (64, 192, 384, 256, 256),
}
_KERNELS = (11, 5, 3, 3, 3)
_STRIDES = (4, 1, 1, 1, 1)
_IN_TWO_GROUPS = (2, 4, 5)
_POOLED = (1, 2, 5)
_NORMALISED = (1, 2)

_FC6_KERNEL = 6

# Poolings of 3x3 by 2 take a row off either end unless they are padded; fc6, whose kernel is even,
# then gives one cell more than it has.
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1": 100, "pool": 0, "fc6": 0},
    "same": {"conv1": 5, "pool": 1, "fc6": 3},
}


class AlexNetTrunk(FullyConnectedTrunk):
    """The layers conv1 ... conv5, fc6 and fc7. Arguments as :class:`FullyConnectedTrunk`, and:

    Every convolution is followed by a ReLU, conv1, conv2 and conv5 then by a 3x3 pooling with
    stride 2 that rounds sizes up. In Caffe's build the first two poolings are followed by local
    response normalisation (5 channels, alpha 1e-4, beta 0.75).

    Args:
        variant: ``"caffe"``, the published net's, or ``"torchvision"``.
        batch_norm: batch normalisation after each convolution, in place of that of responses.
    """

    def __init__(self, *, variant: AlexNetVariant, **options: Any) -> None:
        super().__init__(**options)
        if variant not in get_args(AlexNetVariant):
            raise ValueError(f"variant must be one of {get_args(AlexNetVariant)}, got {variant!r}")
        self.variant: AlexNetVariant = variant
        pads = _PADDINGS[self.padding]
        inputs = self.in_channels
        for index, base in enumerate(_CHANNELS[variant], start=1):
            kernel, stride = _KERNELS[index - 1], _STRIDES[index - 1]
            channels = 2 * max(1, round(base * self.width / 2))  # halves of equal size
            conv = nn.Conv2d(
                inputs,
                channels,
                kernel,
                stride=stride,
                padding=pads.get(f"conv{index}", kernel // 2),
                groups=2 if variant == "caffe" and index in _IN_TWO_GROUPS else 1,
            )
            self.add_module(f"conv{index}", conv)
            if self.batch_norm:
                self.add_module(f"bn{index}", nn.BatchNorm2d(channels))
            if index in _POOLED:
                pool = nn.MaxPool2d(3, stride=2, padding=pads["pool"], ceil_mode=True)
                self.add_module(f"pool{index}", pool)
                self.pool_channels[f"pool{index}"] = channels
            if variant == "caffe" and not self.batch_norm and index in _NORMALISED:
                self.add_module(f"norm{index}", nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75))
            inputs = channels
        self._add_fully_connected(inputs, _FC6_KERNEL, pads["fc6"])

    def trunk(self, images: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        kept = {}
        x = images
        for index in range(1, 6):
            x = getattr(self, f"conv{index}")(x)
            if self.batch_norm:
                x = getattr(self, f"bn{index}")(x)
            x = F.relu(x, inplace=True)
            if index in _POOLED:
                x = getattr(self, f"pool{index}")(x)
                if f"pool{index}" in keep:
                    kept[f"pool{index}"] = x
            if hasattr(self, f"norm{index}"):
                x = getattr(self, f"norm{index}")(x)
        return self._fully_connected(x), kept

    def trunk_grids(self) -> dict[str, Grid]:
        grids = {}
        grid = Grid()
        for index in range(1, 6):
            grid = grid.through(getattr(self, f"conv{index}"))
            if index in _POOLED:
                grids[f"pool{index}"] = grid = grid.through(getattr(self, f"pool{index}"))
        grids["fc6"] = grid = grid.through(self.fc6)
        grids["fc7"] = grid.through(self.fc7)
        return grids

    def torchvision_layers(self) -> dict[str, str]:
        # In its `features`, a convolution is followed by its ReLU, and some by a pooling; its
        # `classifier` begins with a dropout.
        layers = {f"conv{n}": f"features.{i}" for n, i in enumerate((0, 3, 6, 8, 10), start=1)}
        return {**layers, "fc6": "classifier.1", "fc7": "classifier.4"}

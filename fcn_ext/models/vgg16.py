"""The trunk that FCN-32s, FCN-16s and FCN-8s share: VGG16 made fully convolutional."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Grid
from .trunk import FullyConnectedTrunk, Padding

__all__ = ["VGG16Trunk"]

# (channels, convolutions) of the five stages, each ended by a 2x2 pooling: VGG16 is
# configuration D of Simonyan and Zisserman, 2015.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

# "1_1" ... "5_3", by stage.
_CONVOLUTIONS = tuple(
    tuple(f"{stage}_{index + 1}" for index in range(depth))
    for stage, (_, depth) in enumerate(_STAGES, start=1)
)

_FC6_KERNEL = 7

_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1_1": 100, "fc6": 0},
    "same": {"conv1_1": 1, "fc6": 3},
}


class VGG16Trunk(FullyConnectedTrunk):
    """The layers conv1_1 ... conv5_3, fc6 and fc7. Arguments as :class:`FullyConnectedTrunk`.

    Every convolution is followed by a ReLU (with ``batch_norm``, those of the five stages by
    batch normalisation first, as in torchvision's ``vgg16_bn``); pooling rounds sizes up, as
    Caffe's does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pads = _PADDINGS[self.padding]
        inputs = self.in_channels
        for stage, (names, (base, _)) in enumerate(zip(_CONVOLUTIONS, _STAGES, strict=True), 1):
            channels = max(1, round(base * self.width))
            for name in names:
                conv = nn.Conv2d(inputs, channels, 3, padding=pads.get(f"conv{name}", 1))
                self.add_module(f"conv{name}", conv)
                if self.batch_norm:
                    self.add_module(f"bn{name}", nn.BatchNorm2d(channels))
                inputs = channels
            self.add_module(f"pool{stage}", nn.MaxPool2d(2, stride=2, ceil_mode=True))
            self.pool_channels[f"pool{stage}"] = channels
        self._add_fully_connected(inputs, _FC6_KERNEL, pads["fc6"])

    def trunk(self, images: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        kept = {}
        x = images
        for stage, names in enumerate(_CONVOLUTIONS, start=1):
            for name in names:
                x = getattr(self, f"conv{name}")(x)
                if self.batch_norm:
                    x = getattr(self, f"bn{name}")(x)
                x = F.relu(x, inplace=True)
            x = getattr(self, f"pool{stage}")(x)
            if f"pool{stage}" in keep:
                kept[f"pool{stage}"] = x
        return self._fully_connected(x), kept

    def trunk_grids(self) -> dict[str, Grid]:
        grids = {}
        grid = Grid()
        for stage, names in enumerate(_CONVOLUTIONS, start=1):
            for name in names:
                grid = grid.through(getattr(self, f"conv{name}"))
            grids[f"pool{stage}"] = grid = grid.through(getattr(self, f"pool{stage}"))
        grids["fc6"] = grid = grid.through(self.fc6)
        grids["fc7"] = grid.through(self.fc7)
        return grids

    def torchvision_layers(self) -> dict[str, str]:
        # In its `features`, a convolution is followed by its batch norm and its ReLU, and a stage
        # by its pooling.
        layers = {}
        index = 0
        for names in _CONVOLUTIONS:
            for name in names:
                layers[f"conv{name}"] = f"features.{index}"
                if self.batch_norm:
                    layers[f"bn{name}"] = f"features.{index + 1}"
                index += 3 if self.batch_norm else 2
            index += 1
        return {**layers, "fc6": "classifier.0", "fc7": "classifier.3"}

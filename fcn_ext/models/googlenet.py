"""The trunk of FCN-GoogLeNet: GoogLeNet, in Caffe's build, without its pooling to one vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..geometry import Grid
from .block import Block
from .response_norm import LocalResponseNorm
from .trunk import ClassifierTrunk, Padding

__all__ = ["GoogLeNetTrunk", "Inception"]

_STEM = ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3")
# The convolutions of an inception, with Caffe's names.
_KERNELS = {"1x1": 1, "3x3_reduce": 1, "3x3": 3, "5x5_reduce": 1, "5x5": 5, "pool_proj": 1}
_WAYS = tuple(_KERNELS)
# Their channels (Szegedy et al., 2015, Table 1).
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED_AFTER = {"3b": "pool3", "4e": "pool4"}

# 3x3 poolings with stride 2 lose a row at either end unless they are padded.
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1": 100, "pool": 0},
    "same": {"conv1": 3, "pool": 1},
    "classifier": {"conv1": 3, "pool": 0},
}


class Inception(Block):
    """Four parallel branches: 1x1; 3x3 and 5x5, each after a 1x1 that reduces the channels; a 3x3
    max pooling and a 1x1. Each convolution is followed by a ReLU.

    Args:
        inputs: channels of the map.
        channels: of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj.
        batch_norm: batch normalization between each convolution and its ReLU.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__(batch_norm=batch_norm)
        width = dict(zip(_WAYS, channels, strict=True))
        inputs_of = {"3x3": width["3x3_reduce"], "5x5": width["5x5_reduce"]}
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        for name, size in _KERNELS.items():
            self._add(name, inputs_of.get(name, inputs), width[name], size)
        self.out_channels = width["1x1"] + width["3x3"] + width["5x5"] + width["pool_proj"]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self._run("1x1", x),
                self._run("3x3", self._run("3x3_reduce", x)),
                self._run("5x5", self._run("5x5_reduce", x)),
                self._run("pool_proj", self.pool(x)),
            ],
            dim=1,
        )

    def grid_after(self, grid: Grid) -> Grid:
        return grid.through(self.get_submodule("5x5"))  # type: ignore[arg-type]


class GoogLeNetTrunk(ClassifierTrunk):
    """The layers conv1/7x7_s2 ... inception_5b. Arguments as :class:`ClassifierTrunk`.

    Every convolution is followed by a ReLU; poolings round sizes up. pool1 is followed and pool2
    preceded by local response normalization (5 channels, alpha 1e-4, beta 0.75). The average over
    7x7 cells at the end is left out (Long et al., section 4.1), and so are the two auxiliary
    classifiers. The maps are conv1_7x7_s2, pool1, conv2_3x3, pool2, pool3, pool4 and inception_5b.

    Args:
        batch_norm: after every convolution, in place of the local response normalization.
        dropout: on the elements of inception_5b.
    """

    def __init__(self, *, dropout: float = 0.4, **options: Any) -> None:
        super().__init__(dropout=dropout, **options)
        pads = _PADDINGS[self.padding]

        def scaled(channels: int) -> int:
            return max(1, round(channels * self.width))

        def add_conv(name: str, conv: nn.Conv2d) -> None:
            self._add_conv(name, f"{name}_bn", conv)

        def add_pooling(name: str, channels: int) -> None:
            self._add(name, nn.MaxPool2d(3, stride=2, padding=pads["pool"], ceil_mode=True))
            self._end_stage(name, channels)

        def add_response_norm(name: str) -> None:
            if not self.batch_norm:
                self._add(name, LocalResponseNorm(5, alpha=1e-4, beta=0.75))

        narrow, inputs = scaled(64), scaled(192)
        conv1 = nn.Conv2d(self.in_channels, narrow, 7, stride=2, padding=pads["conv1"])
        add_conv("conv1_7x7_s2", conv1)
        self._end_stage("conv1_7x7_s2", narrow)
        add_pooling("pool1", narrow)
        add_response_norm("norm1")
        add_conv("conv2_3x3_reduce", nn.Conv2d(narrow, narrow, 1))
        add_conv("conv2_3x3", nn.Conv2d(narrow, inputs, 3, padding=1))
        self._end_stage("conv2_3x3", inputs)
        add_response_norm("norm2")
        add_pooling("pool2", inputs)
        for name, channels in _INCEPTIONS.items():
            widths = tuple(map(scaled, channels))
            inception = Inception(inputs, widths, batch_norm=self.batch_norm)
            self._add(f"inception_{name}", inception)
            inputs = inception.out_channels
            if name in _POOLED_AFTER:
                add_pooling(_POOLED_AFTER[name], inputs)
        self._add("drop", nn.Dropout(self.dropout))
        self._end_stage("inception_5b", inputs)
        self._finish()

    def caffe_layers(self) -> dict[str, str]:
        layers = {name: name.replace("_", "/", 1) for name in _STEM}
        for name in _INCEPTIONS:
            for way in _WAYS:
                layers[f"inception_{name}.{way}"] = f"inception_{name}/{way}"
        tails = ("", "_bn") if self.batch_norm else ("",)
        named = {f"{layer}{t}": f"{source}{t}" for layer, source in layers.items() for t in tails}
        return self._present(named)

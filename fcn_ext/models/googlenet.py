"""The trunk of FCN-GoogLeNet: GoogLeNet, in Caffe's build, without its pooling to one vector."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Grid
from .trunk import Padding, Trunk

__all__ = ["GoogLeNetTrunk", "Inception"]

_STEM = ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3")
# The convolutions of an inception by Caffe's names.
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

# Poolings of 3x3 by 2 take a row off either end unless they are padded.
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1": 100, "pool": 0},
    "same": {"conv1": 3, "pool": 1},
}


class _Convolutions(nn.Module):
    """Convolutions by name, each followed by batch normalisation, if any, and a ReLU."""

    def _add(
        self,
        name: str,
        inputs: int,
        channels: int,
        kernel_size: int,
        batch_norm: bool,
        *,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        conv = nn.Conv2d(inputs, channels, kernel_size, stride=stride, padding=padding)
        self.add_module(name, conv)
        if batch_norm:
            self.add_module(f"{name}_bn", nn.BatchNorm2d(channels))

    def _run(self, name: str, x: Tensor) -> Tensor:
        x = getattr(self, name)(x)
        if hasattr(self, f"{name}_bn"):
            x = getattr(self, f"{name}_bn")(x)
        return F.relu(x, inplace=True)


class Inception(_Convolutions):
    """Four ways through one map, side by side: 1x1; 3x3 and 5x5, each behind a 1x1 that narrows
    the map; a 3x3 maximum and a 1x1.

    Args:
        inputs: channels of the map.
        channels: of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj.
        batch_norm: batch normalisation after each convolution.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        width = dict(zip(_WAYS, channels, strict=True))
        inputs_of = {"3x3": width["3x3_reduce"], "5x5": width["5x5_reduce"]}
        for name in _WAYS:
            self._add(name, inputs_of.get(name, inputs), width[name], _KERNELS[name], batch_norm)
        self.out_channels = width["1x1"] + width["3x3"] + width["5x5"] + width["pool_proj"]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self._run("1x1", x),
                self._run("3x3", self._run("3x3_reduce", x)),
                self._run("5x5", self._run("5x5_reduce", x)),
                self._run("pool_proj", F.max_pool2d(x, 3, stride=1, padding=1)),
            ],
            dim=1,
        )


class GoogLeNetTrunk(Trunk, _Convolutions):
    """The layers conv1/7x7_s2 ... inception_5b. Arguments as :class:`Trunk`, and:

    Every convolution is followed by a ReLU; poolings round sizes up. pool1 is followed and pool2
    preceded by local response normalisation (5 channels, alpha 1e-4, beta 0.75). The average over
    7x7 cells at the end is left out (Long et al., section 4.1), and so are the two classifiers on
    the way.

    Args:
        batch_norm: batch normalisation after each convolution, in place of that of responses.
        dropout: of the elements of inception_5b.
    """

    top = "inception_5b"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pads = _PADDINGS[self.padding]

        def scaled(channels: int) -> int:
            return max(1, round(channels * self.width))

        def add_pooling(name: str, channels: int) -> None:
            pool = nn.MaxPool2d(3, stride=2, padding=pads["pool"], ceil_mode=True)
            self.add_module(name, pool)
            self.pool_channels[name] = channels

        norm, inputs = self.batch_norm, self.in_channels
        self._add("conv1_7x7_s2", inputs, scaled(64), 7, norm, stride=2, padding=pads["conv1"])
        add_pooling("pool1", scaled(64))
        self._add("conv2_3x3_reduce", scaled(64), scaled(64), 1, norm)
        self._add("conv2_3x3", scaled(64), scaled(192), 3, norm)
        if not norm:
            self.norm1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
            self.norm2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        inputs = scaled(192)
        add_pooling("pool2", inputs)
        for name, channels in _INCEPTIONS.items():
            inception = Inception(inputs, tuple(map(scaled, channels)), batch_norm=norm)
            self.add_module(f"inception_{name}", inception)
            inputs = inception.out_channels
            if name in _POOLED_AFTER:
                add_pooling(_POOLED_AFTER[name], inputs)
        self.out_channels = inputs
        self.drop = nn.Dropout(self.dropout)
        self._initialise()

    def trunk(self, images: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        kept = {}

        def pooled(name: str, x: Tensor) -> Tensor:
            x = getattr(self, name)(x)
            if name in keep:
                kept[name] = x
            return x

        x = pooled("pool1", self._run("conv1_7x7_s2", images))
        x = x if self.batch_norm else self.norm1(x)
        x = self._run("conv2_3x3", self._run("conv2_3x3_reduce", x))
        x = pooled("pool2", x if self.batch_norm else self.norm2(x))
        for name in _INCEPTIONS:
            x = getattr(self, f"inception_{name}")(x)
            if name in _POOLED_AFTER:
                x = pooled(_POOLED_AFTER[name], x)
        return self.drop(x), kept

    def trunk_grids(self) -> dict[str, Grid]:
        grids = {}
        grid = Grid()
        for layer in ("conv1_7x7_s2", "pool1", "conv2_3x3", "pool2"):
            grids[layer] = grid = grid.through(getattr(self, layer))
        for name in _INCEPTIONS:
            # The way that sees most; all four leave the same grid of cells.
            grid = grid.through(getattr(getattr(self, f"inception_{name}"), "5x5"))
            if name in _POOLED_AFTER:
                pool = _POOLED_AFTER[name]
                grids[pool] = grid = grid.through(getattr(self, pool))
        grids[self.top] = grid
        return grids

    def caffe_layers(self) -> dict[str, str]:
        layers = {name: name.replace("_", "/", 1) for name in _STEM}
        for name in _INCEPTIONS:
            for way in _WAYS:
                layers[f"inception_{name}.{way}"] = f"inception_{name}/{way}"
        tails = ("", "_bn") if self.batch_norm else ("",)
        return {f"{layer}{t}": f"{source}{t}" for layer, source in layers.items() for t in tails}

"""The light trunk: SqueezeNet v1.1, fully convolutional from the start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..geometry import Grid
from .block import Block
from .trunk import ClassifierTrunk, Padding

__all__ = ["Fire", "SqueezeNetTrunk"]

_CONV1_CHANNELS = 64
# Channels of squeeze1x1, and of each of the two branches after it, by the fire's number (Iandola et
# al., 2016; version 1.1 is in the authors' repository).
_FIRES = {
    2: (16, 64),
    3: (16, 64),
    4: (32, 128),
    5: (32, 128),
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
_POOLED = (1, 3, 5, 9)
# torchvision's `features` count poolings and ReLUs in.
_TORCHVISION = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
_TORCHVISION_NAMES = {
    "squeeze1x1": "squeeze",
    "expand1x1": "expand1x1",
    "expand3x3": "expand3x3",
}

# 3x3 poolings with stride 2 lose a row at either end unless they are padded.
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1": 100, "pool": 0},
    "same": {"conv1": 1, "pool": 1},
    "classifier": {"conv1": 0, "pool": 0},
}


class Fire(Block):
    """A 1x1 that reduces the channels, then a 1x1 and a 3x3 in parallel. Each is followed by a
    ReLU.

    Args:
        inputs: channels of the map.
        squeezed: channels of squeeze1x1.
        expanded: channels of expand1x1 and of expand3x3.
        batch_norm: batch normalization between each convolution and its ReLU.
    """

    def __init__(self, inputs: int, squeezed: int, expanded: int, *, batch_norm: bool) -> None:
        super().__init__(batch_norm=batch_norm)
        self._add("squeeze1x1", inputs, squeezed, 1)
        self._add("expand1x1", squeezed, expanded, 1)
        self._add("expand3x3", squeezed, expanded, 3)
        self.out_channels = 2 * expanded

    def forward(self, x: Tensor) -> Tensor:
        x = self._run("squeeze1x1", x)
        return torch.cat([self._run("expand1x1", x), self._run("expand3x3", x)], dim=1)

    def grid_after(self, grid: Grid) -> Grid:
        return grid.through(self.get_submodule("expand3x3"))  # type: ignore[arg-type]


class SqueezeNetTrunk(ClassifierTrunk):
    """The layers conv1 ... fire9 of SqueezeNet v1.1, and pool9. Arguments as
    :class:`ClassifierTrunk`.

    Every convolution is followed by a ReLU; poolings are 3x3 with stride 2 and round sizes up.
    SqueezeNet itself ends at stride 16, in fire9. pool9, a pooling like those before it, brings
    the trunk to the stride of 32 that the others have, so that nets on it have the same three
    levels. It has no weights. The maps are pool1, fire3, pool3, fire5, pool5, fire9 and pool9.

        >>> sum(p.numel() for p in SqueezeNetTrunk().parameters())  # VGG16: 134 million
        722496

    Args:
        batch_norm: after every convolution.
        dropout: on the elements of pool9.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pads = _PADDINGS[self.padding]

        def scaled(channels: int) -> int:
            return max(1, round(channels * self.width))

        def add_pooling(number: int) -> None:
            self._add(f"pool{number}", nn.MaxPool2d(3, 2, padding=pads["pool"], ceil_mode=True))

        inputs = scaled(_CONV1_CHANNELS)
        conv1 = nn.Conv2d(self.in_channels, inputs, 3, stride=2, padding=pads["conv1"])
        self._add_conv("conv1", "conv1_bn", conv1)
        add_pooling(1)
        self._end_stage("pool1", inputs)
        for number, (squeezed, expanded) in _FIRES.items():
            fire = Fire(inputs, scaled(squeezed), scaled(expanded), batch_norm=self.batch_norm)
            self._add(f"fire{number}", fire)
            inputs = fire.out_channels
            if number in _POOLED:
                self._end_stage(f"fire{number}", inputs)
                add_pooling(number)
                if number == max(_POOLED):
                    self._add(f"drop{number}", nn.Dropout(self.dropout))
                self._end_stage(f"pool{number}", inputs)
        self._finish()

    def caffe_layers(self) -> dict[str, str]:
        return self._named("conv1", {n: f"fire{n}/" for n in _FIRES}, {})

    def torchvision_layers(self) -> dict[str, str]:
        fires = {number: f"features.{index}." for number, index in _TORCHVISION.items()}
        return self._named("features.0", fires, _TORCHVISION_NAMES)

    def _named(self, conv1: str, fires: dict[int, str], ways: dict[str, str]) -> dict[str, str]:
        """The layers and their names elsewhere: that of conv1, prefixes of fires, names of
        branches."""
        layers = {"conv1": conv1}
        for number, beginning in fires.items():
            for way in _TORCHVISION_NAMES:
                layers[f"fire{number}.{way}"] = f"{beginning}{ways.get(way, way)}"
        tails = ("", "_bn") if self.batch_norm else ("",)
        named = {f"{layer}{t}": f"{source}{t}" for layer, source in layers.items() for t in tails}
        return self._present(named)

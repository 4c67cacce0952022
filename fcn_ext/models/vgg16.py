"""The trunk that FCN-32s, FCN-16s and FCN-8s share: VGG16 made fully convolutional."""

from __future__ import annotations

from typing import Any

from torch import nn

from .trunk import FullyConnectedTrunk, Padding

__all__ = ["VGG16Trunk"]

# (channels, convolutions) of the five stages, each of which ends in a 2x2 pooling: VGG16 is
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
    "classifier": {"conv1_1": 1, "fc6": 0},
}


class VGG16Trunk(FullyConnectedTrunk):
    """The layers conv1_1 ... conv5_3, fc6 and fc7. Arguments as :class:`FullyConnectedTrunk`.

    Every convolution is followed by a ReLU (with ``batch_norm``, those of the five stages by
    batch normalization first, as in torchvision's ``vgg16_bn``); pooling rounds sizes up, as
    Caffe's does. The maps are pool1 ... pool5, fc6 and fc7.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pads = _PADDINGS[self.padding]
        inputs = self.in_channels
        for stage, (names, (base, _)) in enumerate(zip(_CONVOLUTIONS, _STAGES, strict=True), 1):
            channels = max(1, round(base * self.width))
            for name in names:
                conv = nn.Conv2d(inputs, channels, 3, padding=pads.get(f"conv{name}", 1))
                self._add_conv(f"conv{name}", f"bn{name}", conv)
                inputs = channels
            self._add(f"pool{stage}", nn.MaxPool2d(2, stride=2, ceil_mode=True))
            self._end_stage(f"pool{stage}", channels)
        self._add_fully_connected(inputs, _FC6_KERNEL, pads["fc6"])
        self._finish()

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
        return self._present({**layers, "fc6": "classifier.0", "fc7": "classifier.3"})

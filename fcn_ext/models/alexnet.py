"""The trunk of FCN-AlexNet: AlexNet, in Caffe's or in torchvision's build, fully convolutional."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from .._arguments import one_of_literal
from .response_norm import LocalResponseNorm
from .trunk import FullyConnectedTrunk, Padding

__all__ = ["AlexNetTrunk", "AlexNetVariant"]

AlexNetVariant = Literal["caffe", "torchvision"]

# Channels of conv1 ... conv5. Caffe's (CaffeNet: Krizhevsky et al., 2012, but with pooling before
# normalization) splits conv2, conv4 and conv5 into two groups, once for two GPUs; torchvision's is
# that of Krizhevsky, 2014, for one GPU, without response normalization.
_CHANNELS: dict[AlexNetVariant, tuple[int, ...]] = {
    "caffe": (96, 256, 384, 384, 256),
    "torchvision": (64, 192, 384, 256, 256),
}
_KERNELS = (11, 5, 3, 3, 3)
_STRIDES = (4, 1, 1, 1, 1)
_IN_TWO_GROUPS = (2, 4, 5)
_POOLED = (1, 2, 5)
_NORMALIZED = (1, 2)

_FC6_KERNEL = 6

# 3x3 poolings with stride 2 lose a row at either end unless they are padded; fc6, whose kernel is
# even, then gives one cell more than its input has.
_PADDINGS: dict[Padding, dict[str, int]] = {
    "published": {"conv1": 100, "pool": 0, "fc6": 0},
    "same": {"conv1": 5, "pool": 1, "fc6": 3},
    "classifier": {"conv1": 0, "pool": 0, "fc6": 0},
}
_TORCHVISIONS_CONV1 = 2  # its padding in torchvision's classifier


class AlexNetTrunk(FullyConnectedTrunk):
    """The layers conv1 ... conv5, fc6 and fc7. Arguments as :class:`FullyConnectedTrunk`, and:

    Every convolution is followed by a ReLU, conv1, conv2 and conv5 then by a 3x3 pooling with
    stride 2 that rounds sizes up. In Caffe's build the first two poolings are followed by local
    response normalization (5 channels, alpha 1e-4, beta 0.75). The maps are pool1, pool2, pool5,
    fc6 and fc7.

    Args:
        variant: ``"caffe"`` is that of the published net, CaffeNet: convolutions in two groups,
            local response normalization. ``"torchvision"`` is the one that torchvision has weights
            for: other channel counts, neither groups nor normalization.
        width: rounds channel counts to even numbers.
        batch_norm: after the five convolutions, in place of the local response normalization.
    """

    def __init__(self, *, variant: AlexNetVariant = "caffe", **options: Any) -> None:
        super().__init__(**options)
        one_of_literal(variant, AlexNetVariant, "variant")
        self.variant: AlexNetVariant = variant
        pads = dict(_PADDINGS[self.padding])
        if (self.padding, variant) == ("classifier", "torchvision"):
            pads["conv1"] = _TORCHVISIONS_CONV1
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
            self._add_conv(f"conv{index}", f"bn{index}", conv)
            if index in _POOLED:
                pool = nn.MaxPool2d(3, stride=2, padding=pads["pool"], ceil_mode=True)
                self._add(f"pool{index}", pool)
                self._end_stage(f"pool{index}", channels)
            if variant == "caffe" and not self.batch_norm and index in _NORMALIZED:
                self._add(f"norm{index}", LocalResponseNorm(5, alpha=1e-4, beta=0.75))
            inputs = channels
        self._add_fully_connected(inputs, _FC6_KERNEL, pads["fc6"])
        self._finish()

    def torchvision_layers(self) -> dict[str, str]:
        # In its `features`, a convolution is followed by its ReLU, and some by a pooling; its
        # `classifier` begins with a dropout.
        layers = {f"conv{n}": f"features.{i}" for n, i in enumerate((0, 3, 6, 8, 10), start=1)}
        return self._present({**layers, "fc6": "classifier.1", "fc7": "classifier.4"})

"""AlexNet's and SqueezeNet's maps, and skips on any trunk, in plain functions, with every kernel,
stride, padding and crop typed in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .plain_googlenet import maps as googlenet

Layers = dict[str, Tensor]


@dataclass(frozen=True)
class Skips:
    """What lies between a trunk's maps and the image, with 100 pixels of padding before the trunk.

    Attributes:
        top: the map that is scored first.
        maps: those at strides 16 and 8.
        paddings: of their score layers.
        offsets: of their crops.
        last_offset: of the crop to the image, at 32s, 16s and 8s alike.
    """

    top: str
    maps: tuple[str, str]
    paddings: tuple[int, int]
    offsets: tuple[int, int]
    last_offset: int


SKIPS = {
    "fcn-alexnet": Skips("fc7", ("pool2", "pool1"), (0, 0), (5, 10), 18),
    "fcn-alexnet-torchvision": Skips("fc7", ("pool2", "pool1"), (0, 0), (5, 10), 18),
    "fcn-googlenet": Skips("inception_5b", ("pool3", "pool2"), (1, 3), (1, 3), 98),
    "fcn-squeezenet": Skips("pool9", ("fire9", "fire5"), (1, 3), (1, 3), 100),
}


def trunk_maps(family: str, layers: Layers, x: Tensor) -> dict[str, Tensor]:
    """The maps that a family's nets score, from weights by Caffe's names."""
    if family == "fcn-googlenet":
        return googlenet(layers, x, conv1_padding=100)
    if family == "fcn-squeezenet":
        return squeezenet(layers, x)
    return alexnet(layers, x, caffe=family == "fcn-alexnet")


def logits(
    skips: Skips,
    scales: tuple[float, ...],
    scores: Layers,
    maps: dict[str, Tensor],
    size: torch.Size,
    kernels: list[Tensor] | None = None,
) -> Tensor:
    """The scores of ``top``, and of as many maps as there are scales, at full size.

    ``kernels`` are dense ones for each upsampling, by default bilinear.
    """
    x = F.conv2d(maps[skips.top], scores["score_fr.weight"], scores["score_fr.bias"])
    strides = [2] * len(scales) + [32 // 2 ** len(scales)]
    if kernels is None:
        kernels = [bilinear(x.shape[1], stride) for stride in strides]
    levels = zip(skips.maps, skips.paddings, skips.offsets, strict=True)
    for scale, kernel, (name, padding, offset) in zip(scales, kernels, levels, strict=False):
        x = F.conv_transpose2d(x, kernel, stride=2)
        weight, bias = scores[f"score_{name}.weight"], scores[f"score_{name}.bias"]
        x = x + crop(F.conv2d(scale * maps[name], weight, bias, padding=padding), offset, x.shape)
    x = F.conv_transpose2d(x, kernels[-1], stride=strides[-1])
    return crop(x, skips.last_offset, size)


def bilinear(channels: int, stride: int) -> Tensor:
    """The dense kernel of odd side, which has a tap right on each cell, and mixes no classes."""
    taps = 1 - torch.arange(1 - stride, stride, dtype=torch.float64).abs() / stride
    kernel = torch.zeros(channels, channels, len(taps), len(taps), dtype=torch.float64)
    for channel in range(channels):
        kernel[channel, channel] = torch.outer(taps, taps)
    return kernel


def crop(x: Tensor, offset: int, size: torch.Size) -> Tensor:
    window = x[:, :, offset : offset + size[2], offset : offset + size[3]]
    assert window.shape[2:] == size[2:]
    return window


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def alexnet(layers: Layers, x: Tensor, *, caffe: bool, padding: int = 100) -> dict[str, Tensor]:
    """pool1, pool2 and fc7 of Caffe's build, or of torchvision's; ``padding`` is conv1's."""

    def conv(name: str, x: Tensor, groups: int = 1, **geometry: int) -> Tensor:
        weight, bias = layers[f"{name}.weight"], layers[f"{name}.bias"]
        return F.conv2d(x, weight, bias, groups=groups if caffe else 1, **geometry).relu()

    def normalize(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75) if caffe else x

    pool1 = pool(conv("conv1", x, stride=4, padding=padding))
    pool2 = pool(conv("conv2", normalize(pool1), groups=2, padding=2))
    x = conv("conv3", normalize(pool2), padding=1)
    x = conv("conv5", conv("conv4", x, groups=2, padding=1), groups=2, padding=1)
    return {"pool1": pool1, "pool2": pool2, "fc7": conv("fc7", conv("fc6", pool(x)))}


def squeezenet(layers: Layers, x: Tensor, padding: int = 100) -> dict[str, Tensor]:
    """fire5, fire9, and fire9 pooled once more; ``padding`` is conv1's."""

    def conv(name: str, x: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
        weight, bias = layers[f"{name}.weight"], layers[f"{name}.bias"]
        return F.conv2d(x, weight, bias, padding=padding, stride=stride).relu()

    def fire(number: int, x: Tensor) -> Tensor:
        x = conv(f"fire{number}/squeeze1x1", x)
        ways = conv(f"fire{number}/expand1x1", x), conv(f"fire{number}/expand3x3", x, padding=1)
        return torch.cat(ways, 1)

    x = pool(conv("conv1", x, padding=padding, stride=2))
    x = pool(fire(3, fire(2, x)))
    fire5 = fire(5, fire(4, x))
    fire9 = fire(9, fire(8, fire(7, fire(6, pool(fire5)))))
    return {"fire5": fire5, "fire9": fire9, "pool9": pool(fire9)}

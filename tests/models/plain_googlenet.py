"""GoogLeNet once more, from Caffe's layer names and plain functions, its channels typed in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Input channels; then those of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj.
INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def caffe_shapes() -> dict[str, tuple[int, ...]]:
    """The trunk's weights and biases as Caffe's model has them."""
    kernels = {
        "conv1/7x7_s2": (64, 3, 7, 7),
        "conv2/3x3_reduce": (64, 64, 1, 1),
        "conv2/3x3": (192, 64, 3, 3),
    }
    for name, (inputs, one, three_reduce, three, five_reduce, five, proj) in INCEPTIONS.items():
        layer = f"inception_{name}"
        kernels[f"{layer}/1x1"] = (one, inputs, 1, 1)
        kernels[f"{layer}/3x3_reduce"] = (three_reduce, inputs, 1, 1)
        kernels[f"{layer}/3x3"] = (three, three_reduce, 3, 3)
        kernels[f"{layer}/5x5_reduce"] = (five_reduce, inputs, 1, 1)
        kernels[f"{layer}/5x5"] = (five, five_reduce, 5, 5)
        kernels[f"{layer}/pool_proj"] = (proj, inputs, 1, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, shape in kernels.items():
        shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = shape, shape[:1]
    return shapes


def maps(layers: dict[str, Tensor], x: Tensor, conv1_padding: int) -> dict[str, Tensor]:
    """pool2, pool3 and inception_5b of Caffe's GoogLeNet."""

    def conv(name: str, x: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
        weight, bias = layers[f"{name}.weight"], layers[f"{name}.bias"]
        return F.conv2d(x, weight, bias, padding=padding, stride=stride).relu()

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def normalize(x: Tensor) -> Tensor:
        squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
        around = sum(squares[:, c : c + x.shape[1]] for c in range(5))
        return x / (1 + 1e-4 / 5 * around) ** 0.75

    x = normalize(pool(conv("conv1/7x7_s2", x, padding=conv1_padding, stride=2)))
    x = pool(normalize(conv("conv2/3x3", conv("conv2/3x3_reduce", x), padding=1)))
    found = {"pool2": x}
    for name in INCEPTIONS:
        if name in ("4a", "5a"):
            x = pool(x)
        if name == "4a":
            found["pool3"] = x
        layer = f"inception_{name}"
        ways = [
            conv(f"{layer}/1x1", x),
            conv(f"{layer}/3x3", conv(f"{layer}/3x3_reduce", x), padding=1),
            conv(f"{layer}/5x5", conv(f"{layer}/5x5_reduce", x), padding=2),
            conv(f"{layer}/pool_proj", F.max_pool2d(x, 3, 1, padding=1)),
        ]
        x = torch.cat(ways, 1)
    return {**found, "inception_5b": x}

"""What tests of several files need."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from fcn_ext.models import FCN, Head, VGG16Trunk, build_model

Net = TypeVar("Net", bound=nn.Module)

PUBLISHED = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "fcn-alexnet"]
ALL = [
    *(*PUBLISHED, "fcn-alexnet-torchvision", "fcn-googlenet", "fcn-squeezenet"),
    *("fcn-alexnet-8s", "fcn-googlenet-8s", "fcn-squeezenet-8s-atonce"),
]
SIZES = [(1, 1), (33, 47), (64, 5)]


def build_on_meta(name: str, **options) -> FCN:
    with torch.device("meta"):
        return build_model(name, **options)


def randomize(net: Net) -> Net:
    for parameter in net.parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
        nn.init.normal_(parameter, std=std)
    return net


def randomized(name: str, **options) -> FCN:
    return randomize(build_model(name, **options).double().eval())


def net_of_streams(names, skips=(), **options) -> FCN:
    trunks = {name: VGG16Trunk(width=1 / 32, dropout=0.0) for name in names}
    return randomize(FCN(trunks, Head(trunks, 5, skips=skips, **options))).double().eval()


# Exported with images of 96 x 80 and asked for these. What torch 2.11 exports of a pooling with
# ceil_mode (torch's own F.max_pool2d alone) takes only sizes that round as the example did.
BINDS_POOLING = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)
OTHER_SIZES = [(128, 144)] if BINDS_POOLING else [(64, 65), (90, 141)]

"""What tests of several files need."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from fcn_ext.models import FCN, build_model

Net = TypeVar("Net", bound=nn.Module)

PUBLISHED = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce", "fcn-alexnet"]
ALL = [*PUBLISHED, "fcn-alexnet-torchvision", "fcn-googlenet"]
SIZES = [(1, 1), (33, 47), (64, 5)]


def build_on_meta(name: str, **options) -> FCN:
    with torch.device("meta"):
        return build_model(name, **options)


def randomize(net: Net) -> Net:
    for parameter in net.parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
        nn.init.normal_(parameter, std=std)
    return net

"""Nets by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .fcn import FCN
from .fcn_alexnet import FCNAlexNet
from .fcn_googlenet import FCNGoogLeNet
from .fcn_vgg16 import FCN8s, FCN16s, FCN32s

__all__ = ["build_model"]

_BUILDERS: dict[str, Callable[..., FCN]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": partial(FCN8s, at_once=True),
    "fcn-alexnet": FCNAlexNet,
    "fcn-alexnet-torchvision": partial(FCNAlexNet, variant="torchvision"),
    "fcn-googlenet": FCNGoogLeNet,
}


def build_model(name: str, **options: Any) -> FCN:
    """The net called ``name``: fcn32s, fcn16s, fcn8s or fcn8s-atonce on VGG16, fcn-alexnet or
    fcn-alexnet-torchvision on AlexNet, fcn-googlenet on GoogLeNet.

    ``options`` are the arguments of its class, ``num_classes`` among them.

    Raises:
        ValueError: ``name`` is none of these, or an option is out of range.
        TypeError: an option is unknown.
    """
    if name not in _BUILDERS:
        raise ValueError(f"name must be one of {', '.join(_BUILDERS)}, got {name!r}")
    return _BUILDERS[name](**options)

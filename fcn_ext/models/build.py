"""Nets by name: the table of published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .alexnet import AlexNetTrunk
from .fcn import FCN
from .googlenet import GoogLeNetTrunk
from .heads import Head
from .trunk import Trunk
from .upsampling import UpsamplingKind
from .vgg16 import VGG16Trunk

__all__ = ["FCN8s", "FCN16s", "FCN32s", "FCNAlexNet", "FCNGoogLeNet", "build_model"]

# The Scale layers of the published at-once definition, on the first and on the second skip.
_AT_ONCE_SCALES = (0.01, 0.0001)


@dataclass(frozen=True)
class _Net:
    """A row: the trunk, and the maps that its head fuses, from coarse to fine."""

    trunk: Callable[..., Trunk]
    skips: tuple[str, ...] = ()
    at_once: bool = False


_NETS = {
    "fcn32s": _Net(VGG16Trunk),
    "fcn16s": _Net(VGG16Trunk, ("pool4",)),
    "fcn8s": _Net(VGG16Trunk, ("pool4", "pool3")),
    "fcn8s-atonce": _Net(VGG16Trunk, ("pool4", "pool3"), at_once=True),
    "fcn-alexnet": _Net(AlexNetTrunk),
    "fcn-alexnet-torchvision": _Net(partial(AlexNetTrunk, variant="torchvision")),
    # The paper reports this net and no definition of it was ever published; what the text leaves
    # open (section 4.1, Table 1) follows the published ones.
    "fcn-googlenet": _Net(GoogLeNetTrunk),
}


def build_model(name: str, num_classes: int = 21, **options: Any) -> FCN:
    """The net called ``name``.

    ===========================  ==========================================================
    fcn32s, fcn16s, fcn8s        on VGG16; fcn16s fuses pool4, fcn8s pool4 and pool3
    fcn8s-atonce                 the same with ``at_once``
    fcn-alexnet                  on Caffe's AlexNet
    fcn-alexnet-torchvision      on torchvision's AlexNet
    fcn-googlenet                on GoogLeNet
    ===========================  ==========================================================

        >>> build_model("fcn8s", num_classes=11, padding="same", width=0.25).last_stride
        8

    Args:
        num_classes: channels of the scores.
        at_once: scale the first skip's map by 0.01 and the second's by 0.0001 before they are
            scored, as the published net does that is trained at once and not in the stages 32s,
            16s, 8s. By default as the name says.
        upsampling: fixed, the default, or learned, for each layer: see
            :class:`fcn_ext.models.Head`.
        options: of the trunk, :class:`fcn_ext.models.VGG16Trunk`,
            :class:`~fcn_ext.models.AlexNetTrunk` or :class:`~fcn_ext.models.GoogLeNetTrunk`:
            ``in_channels``, ``width``, ``padding``, ``batch_norm``, ``dropout``, ``fc_channels``
            (not GoogLeNet).

    Raises:
        ValueError: ``name`` is none of these, or an option is out of range.
        TypeError: an option is unknown, or of the wrong type.
    """
    if name not in _NETS:
        raise ValueError(f"name must be one of {', '.join(_NETS)}, got {name!r}")
    return _build(_NETS[name], num_classes, **options)


def _build(
    net: _Net,
    num_classes: int,
    *,
    at_once: bool | None = None,
    upsampling: UpsamplingKind | Mapping[str, UpsamplingKind] = "fixed",
    **options: Any,
) -> FCN:
    if at_once is None:
        at_once = net.at_once
    if at_once and not net.skips:
        raise TypeError("at_once is an option of nets with skips alone, got at_once=True")
    scales = _AT_ONCE_SCALES if at_once else (1.0,) * len(net.skips)
    trunk = net.trunk(**options)
    skips = dict(zip(net.skips, scales, strict=False))
    return FCN(trunk, Head(trunk, num_classes, skips=skips, upsampling=upsampling))


def FCN32s(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-32s: the scores of VGG16's fc7, upsampled 32 times. Options as :func:`build_model`."""
    return build_model("fcn32s", num_classes, **options)


def FCN16s(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-16s: fuses the scores of VGG16's fc7 and pool4. Options as :func:`build_model`."""
    return build_model("fcn16s", num_classes, **options)


def FCN8s(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-8s: fuses the scores of VGG16's fc7, pool4 and pool3. Options as :func:`build_model`,
    ``at_once`` among them."""
    return build_model("fcn8s", num_classes, **options)


def FCNAlexNet(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-AlexNet: the scores of AlexNet's fc7, upsampled 32 times.

    Options as :func:`build_model`, and ``variant`` of :class:`fcn_ext.models.AlexNetTrunk`.
    """
    return build_model("fcn-alexnet", num_classes, **options)


def FCNGoogLeNet(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-GoogLeNet: the scores of GoogLeNet's inception_5b, upsampled 32 times.

    Options as :func:`build_model`.
    """
    return build_model("fcn-googlenet", num_classes, **options)

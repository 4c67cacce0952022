"""Nets by name: the table of published ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .._arguments import finite, flag, is_list, is_one_of, shown
from .alexnet import AlexNetTrunk
from .fcn import FCN
from .googlenet import GoogLeNetTrunk
from .heads import Head
from .multi_head import MultiHeadFCN
from .parts import check_name
from .squeezenet import SqueezeNetTrunk
from .trunk import Trunk
from .upsampling import UpsamplingKind
from .vgg16 import VGG16Trunk

__all__ = [
    "MODEL_NAMES",
    "FCN8s",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FCNGoogLeNet",
    "FCNSqueezeNet",
    "build_model",
    "build_multi_head_model",
]

# The Scale layers of the published at-once definition, on the first and on the second skip.
_AT_ONCE_SCALES = (0.01, 0.0001)


@dataclass(frozen=True)
class _Net:
    """A row: the trunk, and the maps that its head fuses, from coarse to fine."""

    trunk: Callable[..., Trunk]
    skips: tuple[str, ...] = ()
    at_once: bool = False


def _family(
    first: str, then: str, trunk: Callable[..., Trunk], skips: tuple[str, str]
) -> dict[str, _Net]:
    """The nets on one trunk: ``first`` alone, and with one and two skips, staged and at once.

    Args:
        first: the name of the net without skips.
        then: what the names of the others begin with.
        skips: the maps at strides 16 and 8.
    """
    return {
        first: _Net(trunk),
        f"{then}16s": _Net(trunk, skips[:1]),
        f"{then}16s-atonce": _Net(trunk, skips[:1], at_once=True),
        f"{then}8s": _Net(trunk, skips),
        f"{then}8s-atonce": _Net(trunk, skips, at_once=True),
    }


_torchvisions_alexnet = partial(AlexNetTrunk, variant="torchvision")

# The nets on VGG16 except fcn16s-atonce, and fcn-alexnet, were published. The paper reports an
# FCN-GoogLeNet, but its definition was never published; what the text leaves open (section 4.1,
# Table 1) follows the published nets. So do the skips on the other trunks: as on VGG16, they are
# the maps at strides 16 and 8.
_NETS = {
    **_family("fcn32s", "fcn", VGG16Trunk, ("pool4", "pool3")),
    **_family("fcn-alexnet", "fcn-alexnet-", AlexNetTrunk, ("pool2", "pool1")),
    **_family(
        "fcn-alexnet-torchvision",
        "fcn-alexnet-torchvision-",
        _torchvisions_alexnet,
        ("pool2", "pool1"),
    ),
    **_family("fcn-googlenet", "fcn-googlenet-", GoogLeNetTrunk, ("pool3", "pool2")),
    **_family("fcn-squeezenet", "fcn-squeezenet-", SqueezeNetTrunk, ("fire9", "fire5")),
    # Each of VGG16's maps alone, from the paper's journal version.
    **{f"fcn-{top}": _Net(partial(VGG16Trunk, top=top)) for top in ("pool5", "pool4", "pool3")},
}

MODEL_NAMES = tuple(_NETS)
"""The names that :func:`build_model` knows."""


def build_model(name: str, num_classes: int = 21, **options: Any) -> FCN:
    """The net called ``name``.

    ===========================  ===================  =========  ===================
    name                         on                   at 16s     at 8s
    ===========================  ===================  =========  ===================
    fcn32s, fcn16s, fcn8s        VGG16                pool4      pool4, pool3
    fcn-alexnet                  Caffe's AlexNet      pool2      pool2, pool1
    fcn-alexnet-torchvision      torchvision's        pool2      pool2, pool1
    fcn-googlenet                GoogLeNet            pool3      pool3, pool2
    fcn-squeezenet               SqueezeNet v1.1      fire9      fire9, fire5
    fcn-pool5, -pool4, -pool3    that map of VGG16
    ===========================  ===================  =========  ===================

    A name without a stride, such as fcn-alexnet, is the net at stride 32, without skips;
    fcn-alexnet-16s and fcn-alexnet-8s fuse the maps in the table. All nets with skips also exist
    with ``at_once`` under a name of their own: fcn8s-atonce, fcn-googlenet-16s-atonce. The nets in
    the last row score one map and have no layers after it. ``MODEL_NAMES`` has all names.

        >>> build_model("fcn8s", num_classes=11, padding="same", width=0.25).last_stride
        8

    Args:
        name: one of these.
        num_classes: channels of the scores.
        at_once: scale the first skip's map by 0.01 and the second's by 0.0001 before they are
            scored, as in the published net that is trained at once instead of in the stages 32s,
            16s, 8s. The default follows from the name.
        skip_scales: other factors for this, one for each skip, from coarse to fine.
        upsampling: fixed, the default, or learned, for each layer: see
            :class:`fcn_ext.models.Head`.
        context: also score the mean of the last map; see :class:`fcn_ext.models.Head`.
        streams: names of streams for late fusion: each has a trunk and score layers of its own, and
            the scores are averaged. ``["color", "hha"]`` with fcn32s is the published
            nyud-fcn32s-color-hha, and with fcn16s the paper's FCN-16s RGB-HHA. Images have the
            channels of all streams, in this order; ``{"color": 3, "depth": 1}`` says how many each
            has.
        options: of the trunk, :class:`fcn_ext.models.VGG16Trunk`,
            :class:`~fcn_ext.models.AlexNetTrunk`, :class:`~fcn_ext.models.GoogLeNetTrunk` or
            :class:`~fcn_ext.models.SqueezeNetTrunk`: ``in_channels``, ``width``, ``padding``,
            ``batch_norm``, ``dropout``, ``top``, ``fc_channels`` (VGG16 and AlexNet). Early
            fusion of color and depth is ``in_channels=4``, the published nyud-fcn32s-color-d.

    For several heads, see :func:`build_multi_head_model`.

    Raises:
        ValueError: ``name`` is none of these, or an option is out of range.
        TypeError: an option is unknown, or of the wrong type.
    """
    trunks, options = _parts(name, **options)
    return FCN(trunks, Head(trunks, num_classes, **options))


def build_multi_head_model(
    name: str, heads: Mapping[str, int | Mapping[str, Any]], **options: Any
) -> MultiHeadFCN:
    """The net called ``name``, with several heads instead of one.

    SIFT Flow's, with 33 semantic and 3 geometric classes, whose losses are summed (Long et al.,
    section 5)::

        >>> import torch
        >>> heads = {"sem": 33, "geo": {"num_classes": 3, "loss_weight": 0.5}}
        >>> model = build_multi_head_model("fcn16s", heads, width=1 / 32)
        >>> sorted(model(torch.zeros(1, 3, 8, 8)))
        ['geo', 'sem']

    Args:
        name: as :func:`build_model`.
        heads: the number of classes of each head, by its name; or a dict of options of
            :class:`fcn_ext.models.Head`: ``num_classes``, ``ignore_index``, ``loss_weight``,
            ``upsampling``.
        options: as :func:`build_model`, for all heads.

    Raises:
        ValueError, TypeError: as :func:`build_model` and :class:`fcn_ext.models.Head`.
    """
    trunks, common = _parts(name, **options)
    if not isinstance(heads, Mapping):
        raise TypeError(f"heads must be a dict of numbers of classes, got {type(heads).__name__}")
    made = {}
    for head, own in heads.items():
        own = own if isinstance(own, Mapping) else {"num_classes": own}
        if "num_classes" not in own:
            raise TypeError(f"heads must have num_classes each, got {dict(own)} for {head!r}")
        made[head] = Head(trunks, **{**common, **own})
    return MultiHeadFCN(trunks, made)


def _parts(
    name: str,
    *,
    at_once: bool | None = None,
    skip_scales: Sequence[float] | None = None,
    upsampling: UpsamplingKind | Mapping[str, UpsamplingKind] = "fixed",
    streams: Iterable[str] | Mapping[str, int] | None = None,
    context: bool = False,
    **options: Any,
) -> tuple[Trunk | dict[str, Trunk], dict[str, Any]]:
    """The trunk of the net ``name``, or a trunk for each stream, and the options of its heads."""
    if not (isinstance(name, str) and name in _NETS):
        raise ValueError(f"name must be one of {', '.join(_NETS)}, got {shown(name)}")
    net = _NETS[name]
    if is_one_of(options.get("padding"), ["classifier"]):
        raise ValueError("padding must be published or same for a net, got 'classifier'")
    scales = _skip_scales(net, at_once, skip_scales)
    trunks: Trunk | dict[str, Trunk]
    if streams is None:
        trunks = net.trunk(**options)
    else:
        trunks = {
            stream: net.trunk(**{**options, **channels})
            for stream, channels in _streams(streams, options).items()
        }
    skips = dict(zip(net.skips, scales, strict=True))
    return trunks, {"skips": skips, "upsampling": upsampling, "context": context}


def _skip_scales(
    net: _Net, at_once: bool | None, scales: Sequence[float] | None
) -> Sequence[float]:
    at_once = net.at_once if at_once is None else flag(at_once, "at_once")
    if at_once and not net.skips:
        raise TypeError("at_once is an option of nets with skips only, got at_once=True")
    if scales is None:
        return _AT_ONCE_SCALES[: len(net.skips)] if at_once else (1.0,) * len(net.skips)
    if not is_list(scales, or_text=True):
        raise TypeError(f"skip_scales must be a list of numbers, got {shown(scales)}")
    given = list(scales)
    if len(given) != len(net.skips):
        raise ValueError(
            f"skip_scales must be one number for each skip, {len(net.skips)}, got {shown(given)}"
        )
    return [finite(scale, "skip_scales") for scale in given]


def _streams(
    streams: Iterable[str] | Mapping[str, int], options: Mapping[str, Any]
) -> dict[str, dict[str, int]]:
    """The options of each stream."""
    if isinstance(streams, str):
        raise TypeError(
            f"streams must be a list of names, such as [{streams!r}], got {shown(streams)}"
        )
    if not is_list(streams):
        raise TypeError(f"streams must be a list of names, got {shown(streams)}")
    names = list(streams)
    if not names:
        raise ValueError("streams must have at least one name, got none")
    for name in names:
        check_name(name, "streams")
    if not isinstance(streams, Mapping):
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"streams must be different names, got {shown(name)} more than once"
                )
        return {name: {} for name in names}
    if "in_channels" in options:
        raise TypeError("in_channels must be left out if streams gives them")
    return {stream: {"in_channels": channels} for stream, channels in streams.items()}


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


def FCNSqueezeNet(num_classes: int = 21, **options: Any) -> FCN:
    """FCN-SqueezeNet: the scores of SqueezeNet's fire9, pooled once more, upsampled 32 times.

    Options as :func:`build_model`.
    """
    return build_model("fcn-squeezenet", num_classes, **options)

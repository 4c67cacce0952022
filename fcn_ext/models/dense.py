"""Dense scores from a coarse net without retraining: shift-and-stitch, filter rarefaction.

Both are from Long et al., section 3.2, and give the same numbers: one runs the net on shifted
images, the other reduces its strides and dilates the layers after them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import _common
from .receptive_field import Layer, receptive_fields
from .steps import both
from .trunk import count

__all__ = ["rarefied", "shift_and_stitch"]

_LAYERS = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def shift_and_stitch(
    model: Callable[[Tensor], Tensor], images: Tensor, factor: int, *, step: int = 1
) -> Tensor:
    """The cells of a coarse map and those between them, by running a net on shifted images.

    Images are placed on a canvas of zeros that is ``(factor - 1) * step`` pixels higher and wider,
    shifted down and right by 0, ``step``, ..., ``(factor - 1) * step``, and the ``factor ** 2``
    maps are interlaced. A net of stride ``factor * step`` then has scores every ``step`` pixels.
    Cell ``m`` of the result lies ``step * (m - (factor - 1))`` pixels from cell 0 of the net's own
    map.

    Equal, up to rounding, to ``rarefied(model, ...)`` on images with ``(factor - 1) * step`` zeros
    on all sides, except for cells that see zero padding inside the net, which moves with the
    canvas.

        >>> import torch
        >>> net = nn.Conv2d(3, 5, 8, stride=8)
        >>> shift_and_stitch(net, torch.zeros(1, 3, 65, 49), 8).shape
        torch.Size([1, 5, 72, 56])

    Args:
        model: from images to a map ``(N, C, h, w)``.
        images: ``(N, channels, H, W)``.
        factor: by which the map becomes finer, >= 1.
        step: pixels between the cells of the result, >= 1: the net's stride over ``factor``.

    Returns:
        ``(N, C, h * factor, w * factor)``, where the net has ``h`` x ``w`` cells on the canvas.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is less than 1, or ``images`` or a result is not a map.
    """
    factor, step = count(factor, "factor"), count(step, "step")
    if not callable(model):
        raise TypeError(f"model must be a module or a function, got {type(model).__name__}")
    images = _common.is_map(images, "images")
    margin = (factor - 1) * step
    stitched: Tensor | None = None
    for down in range(factor):
        for right in range(factor):
            y, x = down * step, right * step
            moved = F.pad(images, (x, margin - x, y, margin - y))
            part = _common.is_map(model(moved), "the model's result")
            if stitched is None:
                n, channels, h, w = part.shape
                stitched = part.new_empty(n, channels, h, factor, w, factor)
            stitched[:, :, :, factor - 1 - down, :, factor - 1 - right] = part
    assert stitched is not None
    return stitched.flatten(4, 5).flatten(2, 3)


def rarefied(module: nn.Module, input_shape: Sequence[int], stride: int = 1) -> nn.Module:
    """A copy of ``module`` with the same weights, whose result has a smaller stride.

    Convolutions and poolings that would exceed ``stride`` lose their own stride, and all layers
    after them are dilated by it: their filters are "rarefied", with zeros between the weights
    (section 3.2). Each cell sees the same pixels as before, and there are more cells.

        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2, 2), nn.Conv2d(8, 5, 3))
        >>> dense = rarefied(net, (1, 3, 64, 64))
        >>> dense[1].stride, dense[2].dilation
        ((1, 1), (2, 2))
        >>> images = torch.randn(1, 3, 64, 64)
        >>> torch.allclose(dense(images)[:, :, ::2, ::2], net(images), atol=1e-5)
        True

    Args:
        module: made of ``nn.Conv2d``, ``nn.MaxPool2d``, ``nn.AvgPool2d`` and elementwise functions,
            in any arrangement. It is not changed.
        input_shape: the shape ``(N, C, H, W)`` of images that it takes.
        stride: of the result, >= 1, both by rows and by columns.

    Returns:
        The copy, which shares parameters and buffers with ``module``. Poolings that round sizes up
            round them down in the copy: windows that reach past the map have no cell.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``stride`` does not fit between the strides of the layers; a layer is called at
            two strides; an average pooling excludes its padding; or a part of the net other than
            these modules depends on the stride (a pooling by a function, an upsampling, a mean over
            the image).
    """
    stride = count(stride, "stride")
    layers = receptive_fields(module, input_shape)
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    dense = copy.deepcopy(module, shared)
    done: dict[str, list[Fraction]] = {}
    for layer in layers.values():
        own = module.get_submodule(layer.path)
        if not isinstance(own, _LAYERS) or layer.grids is None:
            continue
        steps = zip(layer.grids, both(own.stride), strict=True)
        before = [grid.stride / step for grid, step in steps]
        if done.setdefault(layer.path, before) != before:
            raise ValueError(f"{layer.name} is called at two strides, so it cannot be dilated")
        _rarefy(dense, layer, own, before, stride)
    _check_fields(layers, receptive_fields(dense, input_shape), stride)
    return dense


def _rarefy(
    dense: nn.Module,
    layer: Layer,
    own: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d,
    before: Sequence[Fraction],
    stride: int,
) -> None:
    """Changes the copy of ``own`` in ``dense``, whose input had the strides ``before``."""
    strides, rare = [], []
    for bottom, step in zip(before, both(own.stride), strict=True):
        kept = min(bottom, Fraction(stride))
        above = min(bottom * step, Fraction(stride))
        left = above / kept
        whole = (left, bottom / kept, bottom * step / above)
        if any(number.denominator != 1 for number in whole):
            raise ValueError(
                f"stride must be a divisor of the strides above it, got {stride}, which lies "
                f"between {bottom} before and {bottom * step} after {layer.name}"
            )
        strides.append(int(left))
        rare.append(int(bottom / kept))
    if isinstance(own, nn.Conv2d):
        part = dense.get_submodule(layer.path)
        assert isinstance(part, nn.Conv2d)
        part.stride, part.dilation = (strides[0], strides[1]), _times(own.dilation, rare)
        if not isinstance(own.padding, str):
            part.padding = _times(own.padding, rare)
            if part.padding_mode != "zeros" and any(part.padding):
                raise ValueError(f"{layer.name} must pad with zeros, got {part.padding_mode!r}")
        return
    parent, _, name = layer.path.rpartition(".")
    pooling = _pooling(own, strides, rare, layer.name)
    setattr(dense.get_submodule(parent), name, pooling)


def _times(value: Any, factors: Sequence[int]) -> tuple[int, int]:
    first, second = (v * f for v, f in zip(both(value), factors, strict=True))
    return first, second


def _pooling(
    own: nn.MaxPool2d | nn.AvgPool2d, strides: Sequence[int], rare: Sequence[int], name: str
) -> nn.Module:
    """A pooling with windows ``strides`` apart, dilated by ``rare``."""
    if strides == both(own.stride) and list(rare) == [1, 1]:
        return own
    if isinstance(own, nn.AvgPool2d) and not own.count_include_pad and any(both(own.padding)):
        raise ValueError(f"{name} must include its padding to be dilated")
    return _Pooling(own, strides, rare)


class _Pooling(nn.Module):
    """Poolings that torch lacks: dilated averages, and maxima that are dilated and padded."""

    def __init__(
        self, own: nn.MaxPool2d | nn.AvgPool2d, strides: Sequence[int], rare: Sequence[int]
    ) -> None:
        super().__init__()
        first, second = both(own.kernel_size)
        self.kernel_size = (first, second)
        self.stride = (strides[0], strides[1])
        self.dilation = _times(getattr(own, "dilation", 1), rare)
        self.padding = _times(own.padding, rare)
        self.average = isinstance(own, nn.AvgPool2d)
        self.divisor = getattr(own, "divisor_override", None) or first * second

    def forward(self, x: Tensor) -> Tensor:
        if self.average:
            channels = x.shape[1]
            weight = x.new_full((channels, 1, *self.kernel_size), 1 / self.divisor)
            return F.conv2d(
                x, weight, None, self.stride, self.padding, self.dilation, groups=channels
            )
        rows, columns = self.padding
        if rows or columns:
            x = F.pad(x, (columns, columns, rows, rows), value=-math.inf)
        return F.max_pool2d(x, self.kernel_size, self.stride, 0, self.dilation)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, dilation={self.dilation}, padding={self.padding}"


def _check_fields(before: dict[str, Layer], after: dict[str, Layer], stride: int) -> None:
    """Raises unless every layer sees what it saw before, at a stride of at most ``stride``."""
    for name, layer in before.items():
        found = after[name].grids if name in after else None
        alike = (layer.grids is None) == (found is None) and all(
            (new.receptive_field, new.stride) == (old.receptive_field, min(old.stride, stride))
            for new, old in zip(found or (), layer.grids or (), strict=True)
        )
        if not alike or layer.grids is None:
            raise ValueError(
                f"module must be made of nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d and elementwise "
                f"functions to be made dense, got something else in {name}"
            )

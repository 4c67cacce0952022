"""How coarse scores reach the size of the image, and where the cells of a feature map lie in it.

A *geometry* is a value that says how scores on a coarse grid become scores of every pixel. There
are two, both bilinear. Every head takes one, such as :func:`fcn_ext.ops.cross_entropy` and
:func:`fcn_ext.ops.argmax`, and so does every loss.

=======================  ======================================================================
:class:`Deconvolution`   FCN's fixed transposed convolution and its crop, as ``ops.upsample``
:class:`Resize`          ``F.interpolate(mode="bilinear")`` to any size, as ``ops.interpolate``,
                         and a crop
=======================  ======================================================================

A :class:`Grid` says where the cells of a feature map lie in the image, in exact fractions. Every
layer of a fully convolutional network moves coordinates by ``top = scale * bottom + shift``
(Caffe's ``coord_map``, along one axis; both axes are alike here):

=====================================  ===========  =============================
layer                                  scale        shift
=====================================  ===========  =============================
convolution, pooling                   1 / stride   (padding - (kernel - 1) / 2) / stride
transposed convolution, no padding     stride       (kernel - 1) / 2
=====================================  ===========  =============================

where ``kernel`` includes the dilation. Composing these maps from the image on gives the
:class:`Grid` of each feature map. Comparing two grids gives the offset at which to crop one so that
its cells fall on the other's.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch.utils._pytree as pytree
from torch import nn
from torch.compiler import is_dynamo_compiling

from fcn_ext._arguments import flag, integer, pair, shown
from fcn_ext._rules import broken, check_deconvolution, check_offset, check_size

__all__ = ["Deconvolution", "Geometry", "Grid", "Resize", "crop_offset", "default_kernel_size"]


def default_kernel_size(stride: int) -> int:
    """The kernel of a bilinear deconvolution: ``2 * stride``, or 1 for stride 1."""
    return 2 * stride if stride > 1 else 1


@dataclass(frozen=True)
class Deconvolution:
    """FCN's upsampling: a fixed bilinear transposed convolution and a crop at ``offset``.

    Its kernel is Caffe's bilinear filler (Long et al., section 3.3;
    ``fcn_ext.reference.bilinear_kernel``), without padding. A map of ``h`` rows has
    ``(h - 1) * stride + kernel_size`` rows before the crop, columns alike; nodes beyond the border
    count as zero.

    The last layer of FCN-8s, whose 31 is the offset at which Caffe's Crop starts::

        >>> Deconvolution(8, offset=31)
        Deconvolution(stride=8, kernel_size=16, offset=(31, 31))

    :func:`crop_offset` computes the offset from the layers of a net.

    Args:
        stride: output pixels per input pixel, >= 1.
        kernel_size: ``2 * stride`` (the default for every stride but 1) or ``2 * stride - 1``
            (FCN-AlexNet's 63 for stride 32, and the default, 1, for stride 1).
        offset: first row and column of the window, >= 0; one number or (y, x).

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """

    stride: int
    kernel_size: Any = None
    offset: Any = 0

    def __post_init__(self) -> None:
        stride: Any = integer(self.stride, "stride")
        kernel_size: Any = self.kernel_size
        if kernel_size is None:
            kernel_size = default_kernel_size(stride)
        else:
            kernel_size = integer(kernel_size, "kernel_size")
        offset = pair(self.offset, "offset")
        # Traced sizes are not compared: that would bind a graph to them. The operators check them.
        if not is_dynamo_compiling() and type(stride) is int:
            check_deconvolution(stride, kernel_size)
            check_offset(*offset)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "kernel_size", kernel_size)
        object.__setattr__(self, "offset", offset)

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, int]:
        """Rows and columns below and right of the offset, for a map of ``input_size``.

        Raises:
            TypeError: ``input_size`` is not made of integers.
            ValueError: it is not a pair.
        """
        (height, width), (top, left) = pair(input_size, "input_size"), self.offset
        return (
            (height - 1) * self.stride + self.kernel_size - top,
            (width - 1) * self.stride + self.kernel_size - left,
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """The form that operators take: (stride, kernel_size, offset_y, offset_x)."""
        return (self.stride, self.kernel_size, *self.offset)


NO_OFFSET = (0, 0)


@dataclass(frozen=True)
class Resize:
    """``F.interpolate(mode="bilinear")``, without antialiasing, and a crop: any ratio, up or down.

        >>> Resize(align_corners=True)
        Resize(align_corners=True)

    With ``uncropped_size``, the output is the window at ``offset`` of a map of that size. The rows
    from 100 on of scores that belong to an image of 512 x 512, for a target of those rows::

        >>> Resize(uncropped_size=512, offset=(100, 0))
        Resize(align_corners=False, uncropped_size=(512, 512), offset=(100, 0))

    Args:
        align_corners: the corner pixels of input and output coincide, instead of the outer edges.
        uncropped_size: the size that scores are resized to before the crop, >= 1; one number or
            (height, width). By default that of the output, so that nothing is cropped.
        offset: first row and column of the output in it, >= 0; one number or (y, x).

    Raises:
        TypeError: ``align_corners`` is not a bool, or a size is not an integer.
        ValueError: an argument breaks a rule above, or ``offset`` is given without
            ``uncropped_size``.
    """

    align_corners: bool = False
    uncropped_size: Any = None
    offset: Any = NO_OFFSET

    def __post_init__(self) -> None:
        flag(self.align_corners, "align_corners")
        if self.uncropped_size is None and self.offset is NO_OFFSET:
            return
        offset = pair(self.offset, "offset")
        size: Any = self.uncropped_size
        if size is not None:
            size = pair(size, "uncropped_size")
        # Without a size, what is compiled would drop the offset, and no operator would check it.
        if size is None or not is_dynamo_compiling():
            _check_crop(size, offset)
        object.__setattr__(self, "uncropped_size", size)
        object.__setattr__(self, "offset", offset)

    def __repr__(self) -> str:
        text = f"align_corners={self.align_corners}"
        if self.uncropped_size is not None:
            text += f", uncropped_size={self.uncropped_size}, offset={self.offset}"
        return f"Resize({text})"

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, int]:
        """Rows and columns below and right of the offset, for a map of any size.

        Raises:
            TypeError: ``uncropped_size`` was not given.
        """
        if self.uncropped_size is None:
            raise TypeError("a Resize without uncropped_size has no size of its own")
        (height, width), (top, left) = self.uncropped_size, self.offset
        return height - top, width - left

    def before_crop(self, size: int | Sequence[int]) -> tuple[int, int]:
        """Rows and columns of what is cropped, for an output of ``size``.

        Raises:
            TypeError: ``size`` is not made of integers.
            ValueError: it is not a pair.
        """
        found: tuple[int, int] = pair(
            size if self.uncropped_size is None else self.uncropped_size, "size"
        )
        return found

    @property
    def numbers(self) -> tuple[int, ...]:
        """The form that operators take: (align_corners,), or with a crop (align_corners, height,
        width, offset_y, offset_x)."""
        if self.uncropped_size is None:
            return (int(self.align_corners),)
        return (int(self.align_corners), *self.uncropped_size, *self.offset)


def _check_crop(uncropped: Sequence[Any] | None, offset: Sequence[Any]) -> None:
    """``uncropped`` is None if nothing is cropped."""
    check_offset(*offset)
    if uncropped is None:
        if any(start != 0 for start in offset):
            raise ValueError(
                f"uncropped_size must be given with an offset, got None and {tuple(offset)}"
            )
        return
    check_size(uncropped, "uncropped_size")
    for axis, size, start in zip(("height", "width"), uncropped, offset, strict=True):
        if broken(start >= size):
            raise ValueError(f"offset must be below the uncropped {axis} {size}, got {start}")


Geometry = Deconvolution | Resize


# So that traced functions may take a geometry as an argument, also in torch.export.
for _geometry in (Deconvolution, Resize):
    pytree.register_constant(_geometry)


@dataclass(frozen=True)
class Grid:
    """A feature map's coordinates: image coordinate ``x`` is cell ``scale * x + shift``.

    ``Grid()`` is the image itself. ``receptive_field`` is the side, in pixels, of the square of
    the image that one cell sees. All three are exact: integers, or fractions of them.

    Raises:
        TypeError: one is neither an integer nor a ``Fraction``.
        ValueError: ``scale`` or ``receptive_field`` is not > 0.
    """

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)
    receptive_field: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "receptive_field"):
            object.__setattr__(self, name, _exact(getattr(self, name), name))
        for name in ("scale", "receptive_field"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")

    @property
    def stride(self) -> Fraction:
        """The distance of neighboring cells, in pixels of the image."""
        return 1 / self.scale

    def center(self, cell: int | Fraction) -> Fraction:
        """The image coordinate at the center of the receptive field of ``cell``.

        Raises:
            TypeError: ``cell`` is neither an integer nor a ``Fraction``.
        """
        return (_exact(cell, "cell") - self.shift) / self.scale

    def window(
        self, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> Grid:
        """The grid after a convolution or a pooling; ``padding`` below zero is a crop.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``kernel_size``, ``stride`` or ``dilation`` is below one.
        """
        kernel_size = _at_least_one(kernel_size, "kernel_size")
        stride = _at_least_one(stride, "stride")
        padding = integer(padding, "padding")
        dilation = _at_least_one(dilation, "dilation")
        reach = dilation * (kernel_size - 1)
        return Grid(
            self.scale / stride,
            (self.shift + padding - Fraction(reach, 2)) / stride,
            self.receptive_field + reach * self.stride,
        )

    def through(self, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> Grid:
        """The grid after ``layer``, its geometry read from the module.

        Raises:
            TypeError: ``layer`` is another module.
            ValueError: the layer's kernel, stride, padding or dilation is not the same on both
                axes, or its padding is given by name.
        """
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            raise TypeError(
                "layer must be an nn.Conv2d, nn.MaxPool2d or nn.AvgPool2d, "
                f"got {type(layer).__name__}"
            )
        return self.window(
            square(layer, "kernel_size"),
            stride=square(layer, "stride"),
            padding=square(layer, "padding"),
            dilation=1 if isinstance(layer, nn.AvgPool2d) else square(layer, "dilation"),
        )

    def upsample(self, stride: int, *, kernel_size: int | None = None) -> Grid:
        """The grid after a transposed convolution without padding.

        ``kernel_size`` defaults to that of :func:`fcn_ext.ops.upsample`: ``2 * stride``, or 1 for
        stride 1.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: it is below one.
        """
        stride = _at_least_one(stride, "stride")
        if kernel_size is None:
            kernel_size = default_kernel_size(stride)
        kernel_size = _at_least_one(kernel_size, "kernel_size")
        cells_seen = -(-kernel_size // stride)
        return Grid(
            self.scale * stride,
            self.shift * stride + Fraction(kernel_size - 1, 2),
            self.receptive_field + (cells_seen - 1) * self.stride,
        )


def _exact(value: Any, name: str) -> Fraction:
    # With floats such as 1 / 3, no two grids would be found to match.
    if isinstance(value, bool) or not isinstance(value, numbers.Rational):
        raise TypeError(f"{name} must be an integer or a Fraction, got {shown(value)}")
    return Fraction(int(value.numerator), int(value.denominator))


def _at_least_one(value: Any, name: str) -> int:
    found = integer(value, name)
    if found < 1:
        raise ValueError(f"{name} must be >= 1, got {found}")
    return found


def crop_offset(source: Grid, reference: Grid) -> int:
    """The cell of ``source`` that lies where cell 0 of ``reference`` lies.

    ``source[..., offset : offset + n]`` is then aligned with ``reference[..., :n]``.

    Raises:
        TypeError: one is not a :class:`Grid`.
        ValueError: the grids differ in stride, or are apart by a fraction of a cell, or
            ``source`` begins past the first cell of ``reference``.
    """
    for grid, name in ((source, "source"), (reference, "reference")):
        if not isinstance(grid, Grid):
            raise TypeError(f"{name} must be a Grid, got {type(grid).__name__}")
    if source.scale != reference.scale:
        raise ValueError(
            "source and reference must have the same stride, "
            f"got {source.stride} and {reference.stride}"
        )
    offset = source.shift - reference.shift
    if offset.denominator != 1 or offset < 0:
        raise ValueError(f"the crop offset must be an integer >= 0, got {offset}")
    return int(offset)


def square(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, name: str) -> int:
    """The attribute ``name`` of ``layer``, such as its stride, if it is the same for both axes.

    Raises:
        ValueError: the axes differ, or it is given by name.
    """
    value = getattr(layer, name)
    # Convolutions keep pairs; poolings keep what they were given, such as a list.
    side, *others = value if isinstance(value, (tuple, list)) else (value,)
    if not isinstance(side, numbers.Integral) or any(other != side for other in others):
        raise ValueError(f"{name} must be one integer for both axes, got {shown(value)}")
    return int(side)

"""Where the cells of a feature map lie in the image, in exact fractions.

Every layer of a fully convolutional network moves coordinates by ``top = scale * bottom + shift``
(Caffe's ``coord_map``, along one axis; both axes are alike here):

=====================================  ===========  =============================
layer                                  scale        shift
=====================================  ===========  =============================
convolution, pooling                   1 / stride   (padding - (kernel - 1) / 2) / stride
transposed convolution, no padding     stride       (kernel - 1) / 2
=====================================  ===========  =============================

where ``kernel`` counts the dilation in. Composing these maps from the image gives each feature
map's :class:`Grid`; comparing two grids gives the offset at which one is to be cropped so that its
cells fall on the other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import nn

__all__ = ["Grid", "crop_offset"]


@dataclass(frozen=True)
class Grid:
    """A feature map's coordinates: image coordinate ``x`` is cell ``scale * x + shift``.

    ``Grid()`` is the image itself. ``receptive_field`` is the side, in pixels, of the square of
    the image that one cell sees.
    """

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)
    receptive_field: Fraction = Fraction(1)

    @property
    def stride(self) -> Fraction:
        """The distance of neighbouring cells, in pixels of the image."""
        return 1 / self.scale

    def center(self, cell: int) -> Fraction:
        """The image coordinate at the centre of the receptive field of ``cell``."""
        return (cell - self.shift) / self.scale

    def window(
        self, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> Grid:
        """The grid after a convolution or a pooling."""
        reach = dilation * (kernel_size - 1)
        return Grid(
            self.scale / stride,
            (self.shift + padding - Fraction(reach, 2)) / stride,
            self.receptive_field + reach * self.stride,
        )

    def through(self, layer: nn.Conv2d | nn.MaxPool2d) -> Grid:
        """The grid after ``layer``, its geometry read from the module.

        Raises:
            ValueError: the layer's kernel, stride, padding or dilation is not the same on both
                axes, or its padding is given by name.
        """
        return self.window(
            _square(layer, "kernel_size"),
            stride=_square(layer, "stride"),
            padding=_square(layer, "padding"),
            dilation=_square(layer, "dilation"),
        )

    def upsample(self, stride: int, *, kernel_size: int | None = None) -> Grid:
        """The grid after a transposed convolution without padding.

        ``kernel_size`` defaults to ``2 * stride``, as in :func:`fcn_ext.ops.upsample`.
        """
        kernel_size = 2 * stride if kernel_size is None else kernel_size
        cells_seen = -(-kernel_size // stride)
        return Grid(
            self.scale * stride,
            self.shift * stride + Fraction(kernel_size - 1, 2),
            self.receptive_field + (cells_seen - 1) * self.stride,
        )


def crop_offset(source: Grid, reference: Grid) -> int:
    """The cell of ``source`` that lies where cell 0 of ``reference`` lies.

    ``source[..., offset : offset + n]`` is then aligned with ``reference[..., :n]``.

    Raises:
        ValueError: the grids differ in stride, or are apart by a fraction of a cell, or
            ``source`` begins past the first cell of ``reference``.
    """
    if source.scale != reference.scale:
        raise ValueError(
            "source and reference must have the same stride, "
            f"got {source.stride} and {reference.stride}"
        )
    offset = source.shift - reference.shift
    if offset.denominator != 1 or offset < 0:
        raise ValueError(f"the crop offset must be an integer >= 0, got {offset}")
    return int(offset)


def _square(layer: nn.Conv2d | nn.MaxPool2d, name: str) -> int:
    value = getattr(layer, name)
    sides = set(value) if isinstance(value, tuple) else {value}
    side = sides.pop()
    if sides or not isinstance(side, int):
        raise ValueError(f"{name} must be one integer for both axes, got {value!r}")
    return side

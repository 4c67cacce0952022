"""The operators and the losses as modules.

Arguments, shapes and errors are those of the functions that they name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fcn_ext import losses, ops
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.losses._modules import (
    DeepSupervision,
    DistillationLoss,
    FocalLoss,
    OhemCrossEntropyLoss,
    SigmoidCrossEntropyLoss,
    SigmoidDiceLoss,
    SigmoidFocalLoss,
)
from fcn_ext.losses._region_modules import (
    DiceCrossEntropyLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    JaccardLoss,
    TverskyLoss,
)
from fcn_ext.ops._argmax import argmax_of_window
from fcn_ext.ops._common import flag, is_geometry

__all__ = [
    "Argmax",
    "CrossEntropyLoss",
    "DeepSupervision",
    "DiceCrossEntropyLoss",
    "DiceLoss",
    "DistillationLoss",
    "FocalLoss",
    "FuseSkip",
    "GeneralizedDiceLoss",
    "Interpolate",
    "InterpolateArgmax",
    "InterpolateCrossEntropyLoss",
    "JaccardLoss",
    "OhemCrossEntropyLoss",
    "SigmoidCrossEntropyLoss",
    "SigmoidDiceLoss",
    "SigmoidFocalLoss",
    "TverskyLoss",
    "Upsample",
    "UpsampleArgmax",
    "UpsampleCrossEntropyLoss",
]


class Upsample(nn.Module):
    """:func:`fcn_ext.ops.upsample` with its geometry fixed; no parameters.

    Replaces a frozen bilinear ``nn.ConvTranspose2d`` and the crop after it. ``output_size`` may be
    given in the call, as it depends on the image.

        >>> Upsample(8, offset=31)(torch.zeros(1, 21, 70, 70), (500, 500)).shape
        torch.Size([1, 21, 500, 500])
    """

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | Sequence[int] = 0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.kernel_size = kernel_size
        self.offset = offset

    def forward(self, input: Tensor, output_size: int | Sequence[int] | None = None) -> Tensor:
        return ops.upsample(
            input,
            self.stride,
            kernel_size=self.kernel_size,
            offset=self.offset,
            output_size=output_size,
        )

    def extra_repr(self) -> str:
        return f"stride={self.stride}, kernel_size={self.kernel_size}, offset={self.offset}"


class Interpolate(nn.Module):
    """:func:`fcn_ext.ops.interpolate` to a fixed size, or to the size given in the call."""

    def __init__(
        self, size: int | Sequence[int] | None = None, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.align_corners = flag(align_corners, "align_corners")

    def forward(self, input: Tensor, size: int | Sequence[int] | None = None) -> Tensor:
        size = self.size if size is None else size
        if size is None:
            raise ValueError("size must be given to Interpolate or to its call, got neither")
        return ops.interpolate(input, size, align_corners=self.align_corners)

    def extra_repr(self) -> str:
        return f"size={self.size}, align_corners={self.align_corners}"


class FuseSkip(nn.Module):
    """:func:`fcn_ext.ops.fuse_skip` with its geometry fixed; no parameters."""

    def __init__(self, offset: int | Sequence[int], *, stride: int = 2) -> None:
        super().__init__()
        self.offset = offset
        self.stride = stride

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return ops.fuse_skip(coarse, skip, self.offset, stride=self.stride)

    def extra_repr(self) -> str:
        return f"offset={self.offset}, stride={self.stride}"


class CrossEntropyLoss(nn.Module):
    """:func:`fcn_ext.losses.cross_entropy` with all but scores and target fixed.

    Replaces the upsampling of the scores to the size of the target and the ``nn.CrossEntropyLoss``
    after it, and like the latter keeps ``weight`` as a buffer.

        >>> loss = CrossEntropyLoss(Deconvolution(8, offset=31), label_smoothing=0.1)
        >>> loss(torch.zeros(1, 21, 70, 70), torch.zeros(1, 500, 500, dtype=torch.uint8)).shape
        torch.Size([])

    Args:
        geometry: how the scores reach the size of the target.
        weight, ignore_index, reduction, label_smoothing, group: as in the function.
    """

    weight: Tensor | None

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        group: Any = None,
    ) -> None:
        super().__init__()
        self.geometry = is_geometry(geometry)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.group = group

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = losses.cross_entropy(
            input,
            target,
            self.geometry,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            group=self.group,
        )
        return loss

    def extra_repr(self) -> str:
        return (
            f"{self.geometry}, ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )


class UpsampleCrossEntropyLoss(CrossEntropyLoss):
    """``CrossEntropyLoss(Deconvolution(stride, kernel_size, offset), **options)``."""

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | Sequence[int] = 0,
        **options: Any,
    ) -> None:
        super().__init__(Deconvolution(stride, kernel_size, offset), **options)


class InterpolateCrossEntropyLoss(CrossEntropyLoss):
    """``CrossEntropyLoss(Resize(align_corners), **options)``."""

    def __init__(self, *, align_corners: bool = False, **options: Any) -> None:
        super().__init__(Resize(align_corners), **options)


class Argmax(nn.Module):
    """:func:`fcn_ext.ops.argmax` in a fixed geometry: label maps from scores.

        >>> Argmax()(torch.zeros(1, 21, 32, 32), (250, 333)).shape
        torch.Size([1, 250, 333])

    Args:
        geometry: how the scores reach the size of the labels.
        size: that of the labels; may be given in the call instead, if it depends on the image. Only
            a ``Resize`` without ``uncropped_size`` needs either.
        dtype: of the labels: uint8, int16, int32 or int64; default uint8 up to 256 classes, int16
            beyond.
    """

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        size: int | Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.geometry = is_geometry(geometry)
        self.size = size
        self.dtype = dtype

    def forward(self, input: Tensor, size: int | Sequence[int] | None = None) -> Tensor:
        size = self.size if size is None else size
        geometry = self.geometry
        if size is None and isinstance(geometry, Resize) and geometry.uncropped_size is None:
            name = type(self).__name__
            raise ValueError(f"size must be given to {name} or to its call, got neither")
        return ops.argmax(input, size, geometry, dtype=self.dtype)

    def extra_repr(self) -> str:
        return f"{self.geometry}, size={self.size}, dtype={self.dtype}"


class UpsampleArgmax(Argmax):
    """``Argmax(Deconvolution(stride, kernel_size, offset), dtype=dtype)``."""

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | Sequence[int] = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(Deconvolution(stride, kernel_size, offset), dtype=dtype)

    def forward(self, input: Tensor, output_size: int | Sequence[int] | None = None) -> Tensor:
        size = self.size if output_size is None else output_size
        labels: Tensor = argmax_of_window(input, size, self.geometry, dtype=self.dtype)
        return labels


class InterpolateArgmax(Argmax):
    """``Argmax(Resize(align_corners), size=size, dtype=dtype)``."""

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        *,
        align_corners: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(Resize(align_corners), size=size, dtype=dtype)

"""The operators as modules, for nets that are built from modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcn_ext import ops

__all__ = [
    "FuseSkip",
    "Interpolate",
    "InterpolateArgmax",
    "InterpolateCrossEntropyLoss",
    "Upsample",
    "UpsampleArgmax",
    "UpsampleCrossEntropyLoss",
]


class Upsample(nn.Module):
    """:func:`fcn_ext.ops.upsample` with its geometry fixed; no parameters.

    Replaces a frozen bilinear ``nn.ConvTranspose2d`` and the crop behind it. ``output_size`` may be
    given at the call, where it depends on the image.
    """

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.kernel_size = kernel_size
        self.offset = offset

    def forward(self, input: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
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
    """:func:`fcn_ext.ops.interpolate` to a fixed size, or to the size given at the call."""

    def __init__(
        self, size: int | tuple[int, int] | None = None, *, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.align_corners = align_corners

    def forward(self, input: Tensor, size: int | tuple[int, int] | None = None) -> Tensor:
        size = self.size if size is None else size
        if size is None:
            raise ValueError("size must be given to Interpolate or to its call, got neither")
        return ops.interpolate(input, size, align_corners=self.align_corners)

    def extra_repr(self) -> str:
        return f"size={self.size}, align_corners={self.align_corners}"


class FuseSkip(nn.Module):
    """:func:`fcn_ext.ops.fuse_skip` with its geometry fixed; no parameters."""

    def __init__(self, offset: int | tuple[int, int], *, stride: int = 2) -> None:
        super().__init__()
        self.offset = offset
        self.stride = stride

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        return ops.fuse_skip(coarse, skip, self.offset, stride=self.stride)

    def extra_repr(self) -> str:
        return f"offset={self.offset}, stride={self.stride}"


class _CrossEntropyLoss(nn.Module):
    """What the losses share: the arguments of ``nn.CrossEntropyLoss``."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None,
        ignore_index: int,
        reduction: str,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def extra_repr(self) -> str:
        return (
            f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )


class UpsampleCrossEntropyLoss(_CrossEntropyLoss):
    """:func:`fcn_ext.ops.upsample_cross_entropy` with all but scores and target fixed.

    Replaces :class:`Upsample` and the ``nn.CrossEntropyLoss`` behind it, and like the latter keeps
    ``weight`` as a buffer.
    """

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | tuple[int, int] = 0,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing)
        self.stride = stride
        self.kernel_size = kernel_size
        self.offset = offset

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.upsample_cross_entropy(
            input,
            target,
            self.stride,
            kernel_size=self.kernel_size,
            offset=self.offset,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        return (
            f"stride={self.stride}, kernel_size={self.kernel_size}, offset={self.offset}, "
            f"{super().extra_repr()}"
        )


class InterpolateCrossEntropyLoss(_CrossEntropyLoss):
    """:func:`fcn_ext.ops.interpolate_cross_entropy` with all but scores and target fixed.

    Replaces ``F.interpolate`` to the size of the target and the ``nn.CrossEntropyLoss`` behind it,
    and like the latter keeps ``weight`` as a buffer.
    """

    def __init__(
        self,
        *,
        align_corners: bool = False,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing)
        self.align_corners = align_corners

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.interpolate_cross_entropy(
            input,
            target,
            align_corners=self.align_corners,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        return f"align_corners={self.align_corners}, {super().extra_repr()}"


class UpsampleArgmax(nn.Module):
    """:func:`fcn_ext.ops.upsample_argmax` with its geometry fixed: label maps from scores.

    ``output_size`` may be given at the call, where it depends on the image.
    """

    def __init__(
        self,
        stride: int,
        *,
        kernel_size: int | None = None,
        offset: int | tuple[int, int] = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.kernel_size = kernel_size
        self.offset = offset
        self.dtype = dtype

    def forward(self, input: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        return ops.upsample_argmax(
            input,
            self.stride,
            kernel_size=self.kernel_size,
            offset=self.offset,
            output_size=output_size,
            dtype=self.dtype,
        )

    def extra_repr(self) -> str:
        return (
            f"stride={self.stride}, kernel_size={self.kernel_size}, offset={self.offset}, "
            f"dtype={self.dtype}"
        )


class InterpolateArgmax(nn.Module):
    """:func:`fcn_ext.ops.interpolate_argmax` to a fixed size, or to the size given at the call."""

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        *,
        align_corners: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.align_corners = align_corners
        self.dtype = dtype

    def forward(self, input: Tensor, size: int | tuple[int, int] | None = None) -> Tensor:
        size = self.size if size is None else size
        if size is None:
            raise ValueError("size must be given to InterpolateArgmax or to its call, got neither")
        return ops.interpolate_argmax(
            input, size, align_corners=self.align_corners, dtype=self.dtype
        )

    def extra_repr(self) -> str:
        return f"size={self.size}, align_corners={self.align_corners}, dtype={self.dtype}"

"""The operators as modules, for nets that are built from modules."""

from __future__ import annotations

from torch import Tensor, nn

from fcn_ext import ops

__all__ = ["FuseSkip", "Interpolate", "Upsample"]


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

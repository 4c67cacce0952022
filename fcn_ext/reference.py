"""Every operator of :mod:`fcn_ext.ops` in plain PyTorch: slow, obvious, the specification.

Tests and benchmarks compare with these functions and with nothing else. They accept whatever
dtype they are given; call them in float64 for reference values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bilinear_kernel", "confusion_matrix", "fuse_skip", "interpolate", "upsample"]


def bilinear_kernel(kernel_size: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """One axis of Caffe's bilinear filler, shape ``(kernel_size,)``.

    ``w(tap) = 1 - |tap - center| / factor`` with ``factor = (kernel_size + 1) // 2`` and
    ``center = factor - 1`` for odd kernels, ``factor - 0.5`` for even ones.
    """
    factor = (kernel_size + 1) // 2
    center = factor - 1 if kernel_size % 2 else factor - 0.5
    taps = torch.arange(kernel_size, dtype=torch.float64)
    return (1 - (taps - center).abs() / factor).to(dtype)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def upsample(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    output_size: tuple[int, int] | None = None,
) -> Tensor:
    """A depthwise transposed convolution with the bilinear kernel, then a crop."""
    if kernel_size is None:
        kernel_size = 2 * stride if stride > 1 else 1
    channels = input.shape[1]
    taps = bilinear_kernel(kernel_size, dtype=input.dtype).to(input.device)
    weight = torch.outer(taps, taps).expand(channels, 1, kernel_size, kernel_size)
    full = F.conv_transpose2d(input, weight, stride=stride, groups=channels)
    top, left = _pair(offset)
    height, width = output_size or (full.shape[2] - top, full.shape[3] - left)
    return full[:, :, top : top + height, left : left + width]


def interpolate(input: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """``F.interpolate(mode="bilinear")``."""
    return F.interpolate(input, size=size, mode="bilinear", align_corners=align_corners)


def fuse_skip(
    coarse: Tensor, skip: Tensor, offset: int | tuple[int, int], *, stride: int = 2
) -> Tensor:
    """``upsample(coarse, stride)`` plus the window of ``skip`` at ``offset``."""
    up = upsample(coarse, stride)
    top, left = _pair(offset)
    return up + skip[:, :, top : top + up.shape[2], left : left + up.shape[3]]


def confusion_matrix(
    prediction: Tensor, target: Tensor, num_classes: int, *, ignore_index: int = 255
) -> tuple[Tensor, int]:
    """The matrix (rows: target, columns: prediction) and the number of invalid pixels."""
    if prediction.dim() == target.dim() + 1:
        prediction = prediction.argmax(dim=1)
    t, p = target.to(torch.int64).flatten(), prediction.to(torch.int64).flatten()
    used = t != ignore_index
    t, p = t[used], p[used]
    valid = (t >= 0) & (t < num_classes) & (p >= 0) & (p < num_classes)
    counts = torch.bincount(t[valid] * num_classes + p[valid], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes), int((~valid).sum())

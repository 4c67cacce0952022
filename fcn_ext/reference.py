"""Every operator of :mod:`fcn_ext.ops` in plain PyTorch: slow, obvious, the specification.

Tests and benchmarks compare only with these functions. They accept any dtype; call them in float64
for reference values.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.geometry import Deconvolution, Geometry, Resize

__all__ = [
    "argmax",
    "at_full_size",
    "bilinear_kernel",
    "check_labels",
    "confusion_matrix",
    "cross_entropy",
    "fuse_skip",
    "interpolate",
    "interpolate_argmax",
    "interpolate_confusion_matrix",
    "interpolate_cross_entropy",
    "region_sums",
    "score_confusion_matrix",
    "sigmoid_loss",
    "sigmoid_sums",
    "upsample",
    "upsample_argmax",
    "upsample_confusion_matrix",
    "upsample_cross_entropy",
]


def bilinear_kernel(
    kernel_size: int,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """One axis of Caffe's bilinear filler, shape ``(kernel_size,)``.

    ``w(tap) = 1 - |tap - center| / factor`` with ``factor = (kernel_size + 1) // 2`` and
    ``center = factor - 1`` for odd kernels, ``factor - 0.5`` for even ones.
    """
    factor = (kernel_size + 1) // 2
    center = factor - 1 if kernel_size % 2 else factor - 0.5
    taps = torch.arange(kernel_size, dtype=torch.float64, device=device)
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
    taps = bilinear_kernel(kernel_size, dtype=input.dtype, device=input.device)
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


def at_full_size(input: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """The coarse scores ``input``, taken to ``size`` by ``geometry``."""
    if isinstance(geometry, Resize):
        (top, left), (height, width) = geometry.offset, size
        uncropped = geometry.before_crop(size)
        whole = interpolate(input, uncropped, align_corners=geometry.align_corners)
        return whole[:, :, top : top + height, left : left + width]
    stride, kernel_size = geometry.stride, geometry.kernel_size
    return upsample(
        input, stride, kernel_size=kernel_size, offset=geometry.offset, output_size=size
    )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``F.cross_entropy`` of the scores at full size, except that void pixels take no part, even if
    they are NaN."""
    logits = at_full_size(input, (target.shape[1], target.shape[2]), geometry)
    target = target.to(torch.int64)
    logits = torch.where((target != ignore_index).unsqueeze(1), logits, 0)
    return F.cross_entropy(
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def region_sums(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    squared: bool = False,
    with_loss: bool = False,
) -> tuple[Tensor | None, ...]:
    """Sums over the pixels of each image: of softmax probabilities, those of the label, labels and
    squared probabilities, (N, C), and of cross-entropies and class weights, (N,)."""
    logits = at_full_size(input, (target.shape[1], target.shape[2]), geometry)
    target = target.to(torch.int64)
    counts = target != ignore_index
    logits = torch.where(counts.unsqueeze(1), logits, 0)
    probability = logits.softmax(dim=1) * counts.unsqueeze(1)
    classes = torch.arange(input.shape[1], device=input.device).reshape(1, -1, 1, 1)
    one_hot = ((target.unsqueeze(1) == classes) & counts.unsqueeze(1)).to(logits.dtype)
    weight = logits.new_ones(logits.shape[1]) if weight is None else weight
    loss = F.cross_entropy(
        logits, target, weight=weight, ignore_index=ignore_index, reduction="none"
    )
    of_pixel = torch.where(counts, weight[torch.where(counts, target, 0)], 0)
    return (
        probability.sum((2, 3)),
        torch.where(one_hot > 0, probability, 0).sum((2, 3)),
        one_hot.sum((2, 3)),
        probability.square().sum((2, 3)) if squared else None,
        loss.sum((1, 2)) if with_loss else None,
        of_pixel.sum((1, 2)) if with_loss else None,
    )


def upsample_cross_entropy(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    **options: Any,
) -> Tensor:
    """:func:`cross_entropy` of the upsampled scores."""
    return cross_entropy(input, target, Deconvolution(stride, kernel_size, offset), **options)


def interpolate_cross_entropy(
    input: Tensor, target: Tensor, *, align_corners: bool = False, **options: Any
) -> Tensor:
    """:func:`cross_entropy` of the interpolated scores."""
    return cross_entropy(input, target, Resize(align_corners), **options)


def argmax(
    input: Tensor,
    size: tuple[int, int] | None = None,
    geometry: Geometry = Resize(),
    *,
    dtype: torch.dtype | None = None,
    return_probability: bool = False,
) -> Any:
    """The winners of the scores at full size, and their softmax probabilities."""
    if size is None:
        size = geometry.output_size((input.shape[2], input.shape[3]))
    logits = at_full_size(input, size, geometry)
    if dtype is None:
        dtype = torch.uint8 if logits.shape[1] <= 256 else torch.int16
    winner = logits.argmax(dim=1)
    if not return_probability:
        return winner.to(dtype)
    probability = logits.softmax(dim=1).gather(1, winner.unsqueeze(1)).squeeze(1)
    return winner.to(dtype), probability


def upsample_argmax(
    input: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    output_size: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """:func:`argmax` of the upsampled scores."""
    return argmax(input, output_size, Deconvolution(stride, kernel_size, offset), **options)


def interpolate_argmax(
    input: Tensor, size: tuple[int, int], *, align_corners: bool = False, **options: Any
) -> Any:
    """:func:`argmax` of the interpolated scores."""
    return argmax(input, size, Resize(align_corners), **options)


def score_confusion_matrix(
    input: Tensor, target: Tensor, geometry: Geometry = Resize(), *, ignore_index: int = 255
) -> tuple[Tensor, int]:
    """The matrix of the winners of the scores at full size, and the number of invalid pixels."""
    logits = at_full_size(input, (target.shape[1], target.shape[2]), geometry)
    return confusion_matrix(logits, target, input.shape[1], ignore_index=ignore_index)


def upsample_confusion_matrix(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    **options: Any,
) -> tuple[Tensor, int]:
    """:func:`score_confusion_matrix` of the upsampled scores."""
    geometry = Deconvolution(stride, kernel_size, offset)
    return score_confusion_matrix(input, target, geometry, **options)


def interpolate_confusion_matrix(
    input: Tensor, target: Tensor, *, align_corners: bool = False, **options: Any
) -> tuple[Tensor, int]:
    """:func:`score_confusion_matrix` of the interpolated scores."""
    return score_confusion_matrix(input, target, Resize(align_corners), **options)


def check_labels(target: Tensor, num_classes: int, *, ignore_index: int = 255) -> None:
    """Raises ValueError at the first label neither in ``[0, num_classes)`` nor ignored."""
    for batch, image in enumerate(target.tolist()):
        for row, labels in enumerate(image):
            for column, label in enumerate(labels):
                if not 0 <= label < num_classes and label != ignore_index:
                    raise ValueError(
                        f"target must be in [0, {num_classes}) or ignore_index = {ignore_index}, "
                        f"got {label} at batch index {batch}, row {row}, column {column}"
                    )


def sigmoid_sums(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    ignore_index: int = 255,
    gamma: float | None = None,
    regions: bool = False,
) -> Tensor:
    """The sums over the pixels of each mask, (N, Q, 8)."""
    x = at_full_size(input, (target.shape[2], target.shape[3]), geometry)
    counts = torch.ones_like(target, dtype=torch.bool)
    if not target.is_floating_point():
        counts = target.to(torch.int64) != ignore_index
    x = torch.where(counts, x, 0)
    t = torch.where(counts, target.to(x.dtype), 0)
    missing = torch.where(counts, 1 - t, 0)
    p = x.sigmoid()
    # Not F.softplus, which is rounded to x above 20.
    parts = [-t * F.logsigmoid(x), -missing * F.logsigmoid(-x), t, counts.to(x.dtype)]
    parts += [torch.where(counts, p, 0), p * t] if regions else [torch.zeros_like(x)] * 2
    if gamma is None:
        parts += [torch.zeros_like(x)] * 2
    else:
        parts += [parts[0] * (-x).sigmoid() ** gamma, parts[1] * p**gamma]
    return torch.stack([part.sum((2, 3)) for part in parts], dim=2)


def sigmoid_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    geometry: Geometry = Resize(),
    *,
    ignore_index: int = 255,
    gamma: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The weighted sums of each mask, (N, Q), and the sums, (N, Q, 8)."""
    sums = sigmoid_sums(input, target, geometry, ignore_index=ignore_index, gamma=gamma)
    return weighed(sums, weight, focal=gamma is not None), sums.detach()


def weighed(sums: Tensor, weight: Tensor, *, focal: bool) -> Tensor:
    """The losses (N, Q) for sums (N, Q, 8) and weights (Q, 8). Columns with a weight of zero, and
    those that are not summed, are left out even if they are infinite."""
    weight = weight.to(sums.dtype)
    terms = torch.where(weight != 0, weight * sums, 0)
    loss = terms[..., :4].sum(2)
    return loss + terms[..., 6:].sum(2) if focal else loss

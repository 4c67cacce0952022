"""ohem_cross_entropy: the loss of the hardest pixels."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from fcn_ext import ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels, _processes
from fcn_ext.ops import _common, _observers


def ohem_cross_entropy(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    threshold: float | None = 0.9,
    min_kept: float = 131072,
    per_image: bool = False,
    weight: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
    group: Any = None,
) -> Tensor:
    """Cross-entropy of the hardest pixels: online hard example mining, and top-k.

    Keeps the pixels whose label has a probability below ``threshold``, and the ``min_kept`` pixels
    with the lowest probability (all that tie with the last). The others count as void. The losses
    of other libraries::

        mmsegmentation OhemCrossEntropy, PIDNet    the default
        mmsegmentation OHEMPixelSampler(t, k)      threshold=t, min_kept=k * N, reduction="mean_all"
        BiSeNet's OhemCELoss(t)                    threshold=t, min_kept=1 / 16
        nnU-Net's TopKLoss(k=10)                   threshold=None, min_kept=0.1

    Two things differ: mmsegmentation leaves out the easiest pixel when it should keep all, and
    nnU-Net takes the share of all pixels, void ones included.

    One map of pixel losses is made, as large as the labels. The least loss that is kept is found
    without a sort, and without waiting for the GPU.

        >>> import torch
        >>> scores = torch.zeros(1, 2, 8, 8)
        >>> scores[:, 0, 4:] = 9.0                                 # the lower half is easy
        >>> target = torch.zeros(1, 64, 64, dtype=torch.uint8)
        >>> loss = ohem_cross_entropy(scores, target, threshold=0.7, min_kept=0)
        >>> round(loss.item(), 1)                                  # nearly ln 2
        0.7

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64; each in [0, C) or
            ``ignore_index``.
        geometry: how the scores reach the size of the target.
        threshold: a probability in [0, 1]; with None, only ``min_kept`` counts.
        min_kept: an integer, that many pixels; or a float in [0, 1], that share of the pixels that
            are not void, rounded down.
        per_image: keep the hardest pixels of each image, not of the batch.
        weight: class weights (C,), without gradient. They do not change which pixels are kept.
        ignore_index: the value of void labels.
        reduction: "none", the loss of each pixel, zero where it is not kept; "sum"; "mean", the
            sum divided by the number of pixels kept, or "mean_all", by that of all pixels. Over
            nothing a mean is zero.
        group: a process group (True: the default one) whose processes hold parts of one batch: the
            hardest of all their pixels are kept, and means are over these. The mean of their
            gradients, which ``DistributedDataParallel`` takes, is then the gradient of the whole
            batch.

    Returns:
        (), or (N, H, W) for reduction "none": float32, or float64 for float64 scores.
        Differentiable once with respect to ``input``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; see also :func:`fcn_ext.ops.cross_entropy`.
        RuntimeError: ``weight`` requires a gradient.
    """
    _pixels.check_reduction(reduction)
    group = _processes.of_group(group)
    limit = _loss_of(threshold)
    min_kept = _checked_count(min_kept)
    _common.flag(per_image, "per_image")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    with torch.no_grad():
        kept = _hardest(
            ops.cross_entropy(
                input.detach() if isinstance(input, Tensor) else input,
                target,
                geometry,
                ignore_index=ignore_index,
                reduction="none",
            ),
            target,
            ignore_index,
            limit,
            min_kept,
            per_image,
            group,
        )
        if not _pixels.holds(target.dtype, ignore_index):
            target = target.to(torch.int64)
        hard = torch.where(kept, target, ignore_index)
    total = ops.cross_entropy(
        input,
        hard,
        geometry,
        weight=weight,
        ignore_index=ignore_index,
        reduction="none" if reduction == "none" else "sum",
    )
    if reduction == "mean":
        kept_pixels = _processes.counted(_pixels.count(kept), group)
        return _pixels.over(_processes.summed(total, group), kept_pixels)
    if reduction == "mean_all":
        return _pixels.mean_all(total, target, group)
    return total


def _loss_of(threshold: Any) -> float:
    """The cross-entropy above which a pixel's probability is below ``threshold``."""
    if threshold is None:
        return math.inf
    threshold = _common.number(threshold, "threshold")
    if not 0 <= threshold <= 1:
        raise ValueError(
            f"threshold must be in [0, 1] or None, got {_common.number_text(threshold)}"
        )
    return -math.log(threshold) if threshold > 0 else math.inf


def _checked_count(min_kept: Any) -> int | float:
    if isinstance(min_kept, numbers.Real) and not isinstance(min_kept, numbers.Integral):
        share = _common.number(min_kept, "min_kept")
        if not 0 <= share <= 1:
            raise ValueError(f"min_kept must be a count or a share in [0, 1], got {share:g}")
        return share
    count = _common.integer(min_kept, "min_kept")
    if count < 0:
        raise ValueError(f"min_kept must be >= 0, got {count}")
    return count


def _hardest(
    pixels: Tensor,
    target: Tensor,
    ignore_index: int,
    limit: float,
    min_kept: int | float,
    per_image: bool,
    group: Any,
) -> Tensor:
    """Which pixels are kept, bool (N, H, W), by their losses, ``pixels``, which may change."""
    counts = _pixels.not_void(target, ignore_index)
    # NaN, from a label out of range on CUDA, must be kept; void pixels sort below all others.
    if _observers.is_plain(pixels):
        hardness = pixels.nan_to_num_(nan=torch.inf, posinf=torch.inf).masked_fill_(~counts, -1.0)
    else:
        hardness = torch.where(pixels.isnan(), torch.inf, pixels).masked_fill_(~counts, -1.0)
    if pixels.numel() == 0 and (group is None or per_image):
        return counts
    if per_image:
        group = None  # no image is shared
    images, height, width = pixels.shape
    # len() would bind an exported graph to the number of images.
    shape = (images, height * width) if per_image else (1, images * height * width)
    rows = hardness.reshape(shape)
    valid = counts.reshape(shape).sum(1) if per_image else _pixels.count(counts).unsqueeze(0)
    valid = _processes.counted(valid, group)
    if isinstance(min_kept, float):
        wanted = (valid.to(torch.float64) * min_kept).floor().to(torch.int64)
    else:
        wanted = valid.clamp(max=min_kept)
    on_host = group is None and pixels.device.type == "cpu" and _observers.has_values(pixels)
    if group is None and not is_dynamo_compiling() and _observers._is_tracing():
        least = _kth_largest_by_sorting(rows, wanted)
    elif on_host:
        least = _kth_largest_on_host(rows, wanted, limit)
    else:
        least = kth_largest(rows, wanted, group)
    return ((rows > limit) | (rows >= least.unsqueeze(1))).reshape(pixels.shape)


def kth_largest(rows: Tensor, k: Tensor, group: Any = None) -> Tensor:
    """The ``k``-th largest number of each row, (rows,); NaN, which no number reaches, for k = 0.
    The processes of a ``group`` hold parts of each row.

    The k-th largest must be >= 0 and not NaN. The bits of such numbers are ordered as the numbers
    are, so its bits are found from the highest one down, by counting.
    """
    integer = torch.int64 if rows.dtype == torch.float64 else torch.int32
    bits = _reinterpreted(rows, integer)
    found = torch.zeros(rows.shape[0], dtype=integer, device=rows.device)
    for bit in range(torch.iinfo(integer).bits - 2, -1, -1):
        candidate = found | (1 << bit)
        reached = _processes.counted((bits >= candidate.unsqueeze(1)).sum(1), group)
        found = torch.where(reached >= k, candidate, found)
    return _reinterpreted(found, rows.dtype)


def _reinterpreted(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The bits of ``values`` as numbers of another ``dtype``, without gradient."""
    if not is_dynamo_compiling() and _observers._transforms_active():
        result: Tensor = _Reinterpreted.apply(values, dtype)
        return result
    return values.contiguous().view(dtype)


class _Reinterpreted(torch.autograd.Function):
    """``view(dtype)``, for which torch 2.11 has no batching rule."""

    @staticmethod
    def forward(values: Tensor, dtype: torch.dtype) -> Tensor:
        return values.contiguous().view(dtype).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], values: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Any]:
        return _Reinterpreted.apply(values.movedim(in_dims[0], 0), dtype), 0


def _kth_largest_by_sorting(rows: Tensor, k: Tensor) -> Tensor:
    """The same for torch.jit.trace, which turns numbers on the host into constants and cannot view
    the bits of floats."""
    ordered = rows.sort(1, descending=True).values
    found = ordered.gather(1, (k - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.where(k > 0, found, torch.nan)


def _kth_largest_on_host(rows: Tensor, k: Tensor, limit: float) -> Tensor:
    """The same by a partition; NaN for rows that have as many numbers above ``limit`` anyway."""
    found = rows.new_full((rows.shape[0],), torch.nan)  # not on the default device
    for row, count in enumerate(k.tolist()):
        numbers = rows[row].numpy()
        if count > 0 and np.count_nonzero(numbers > limit) < count:
            place = len(numbers) - count
            found[row] = float(np.partition(numbers, place)[place])
    return found

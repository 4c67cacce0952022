"""confusion_matrix: exact integer counts from labels, logits or coarse scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.ops import _common

_labels_op = torch.ops.fcn_ext.confusion_matrix_labels.default
_logits_op = torch.ops.fcn_ext.confusion_matrix_logits.default
_upsample_op = torch.ops.fcn_ext.upsample_confusion_matrix.default
_interpolate_op = torch.ops.fcn_ext.interpolate_confusion_matrix.default


def confusion_matrix(
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    *,
    ignore_index: int = 255,
    out: Tensor | None = None,
    invalid: Tensor | None = None,
) -> Tensor:
    """Counts of (target, prediction) pairs: rows = target, columns = prediction.

    Pixels whose target is ``ignore_index`` are skipped, whatever was predicted there. Of the
    others, a pixel whose target or prediction lies outside ``[0, num_classes)`` is not counted
    but added to ``invalid``, so that nothing wrong goes unnoticed and nothing is waited for:
    :class:`fcn_ext.metrics.ConfusionMatrix` looks at it when the scores are asked for. A
    prediction equal to ``ignore_index`` is not an exception: a net cannot abstain.

    Counts are integers, added in no order that matters: the same on every device, for any number
    of threads and for any split into batches. On CUDA the host is never waited for.

    Args:
        prediction: labels (N, H, W) of uint8, int16, int32 or int64, or logits (N, C, H, W) of
            float32, float64, float16 or bfloat16 with C = num_classes, of which the argmax over C
            is taken: the lowest of equal classes wins, NaN counts as the greatest value, as in
            ``torch.argmax``. Any strides.
        target: labels (N, H, W), of any of the label dtypes.
        num_classes: from 1 to 32768.
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        out: contiguous int64 matrix (num_classes, num_classes) that is added to and returned.
        invalid: int64 tensor of one element to which the number of invalid pixels is added.

    Returns:
        int64 (num_classes, num_classes).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_tensor(prediction, "prediction")
    _common.is_tensor(target, "target")
    _common.on_same_device(prediction, "prediction", target, "target")
    num_classes = _common.integer(num_classes, "num_classes")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    if not 1 <= num_classes <= 32768:
        raise ValueError(f"num_classes must be in [1, 32768], got {num_classes}")
    out, invalid = _counts(target, num_classes, out, invalid)
    op = _logits_op if prediction.dim() == 4 else _labels_op
    op(prediction, target, ignore_index, out, invalid)
    return out


def upsample_confusion_matrix(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | tuple[int, int] = 0,
    ignore_index: int = 255,
    out: Tensor | None = None,
    invalid: Tensor | None = None,
) -> Tensor:
    """Counts of (target, argmax of the upsampled scores), neither scores nor argmax stored.

    Equals ``confusion_matrix(upsample_argmax(input, stride, kernel_size=kernel_size,
    offset=offset, output_size=target.shape[1:]), target, C, ...)``.

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides. (H, W) is the size
            that the scores are upsampled to.
        stride: output pixels an input pixel, >= 1.
        kernel_size: ``2 * stride`` (the default for every stride but 1) or ``2 * stride - 1``
            (the default, 1, for stride 1).
        offset: first row and column of the window of the upsampled scores that ``target`` covers,
            >= 0; one number or (y, x).
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        out: contiguous int64 matrix (C, C) that is added to and returned.
        invalid: int64 tensor of one element to which the number of pixels is added whose target
            is neither in [0, C) nor ``ignore_index``; they are not counted.

    Returns:
        int64 (C, C), rows = target, columns = prediction.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    geometry = _common.upsample_geometry(stride, kernel_size, offset)
    return _of_scores(_upsample_op, input, target, geometry, ignore_index, out, invalid)


def interpolate_confusion_matrix(
    input: Tensor,
    target: Tensor,
    *,
    align_corners: bool = False,
    ignore_index: int = 255,
    out: Tensor | None = None,
    invalid: Tensor | None = None,
) -> Tensor:
    """Counts of (target, argmax of the scores interpolated to the size of ``target``).

    In all but geometry :func:`upsample_confusion_matrix`.

    Args:
        input: coarse scores (N, C, h, w), as there.
        target: labels (N, H, W), as there.
        align_corners: the corner pixels of scores and target coincide, instead of the outer edges.
        ignore_index: target value to skip, as there.
        out: contiguous int64 matrix (C, C) that is added to and returned.
        invalid: int64 tensor of one element, as there.

    Returns:
        int64 (C, C), rows = target, columns = prediction.

    Raises:
        TypeError, ValueError: as there.
    """
    if not isinstance(align_corners, bool):
        raise TypeError(f"align_corners must be a bool, got {align_corners!r}")
    geometry = (align_corners,)
    return _of_scores(_interpolate_op, input, target, geometry, ignore_index, out, invalid)


def _of_scores(
    op: Any,
    input: Tensor,
    target: Tensor,
    geometry: tuple[Any, ...],
    ignore_index: int,
    out: Tensor | None,
    invalid: Tensor | None,
) -> Tensor:
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    out, invalid = _counts(target, input.shape[1], out, invalid)
    op(input, target, *geometry, ignore_index, out, invalid)
    return out


def _counts(
    target: Tensor, num_classes: int, out: Tensor | None, invalid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What is added to: the arguments of that name, or zeros."""
    if out is None:
        out = target.new_zeros((num_classes, num_classes), dtype=torch.int64)
    elif tuple(_common.is_tensor(out, "out").shape) != (num_classes, num_classes):
        raise ValueError(
            f"out must have shape (num_classes, num_classes) = ({num_classes}, {num_classes}), "
            f"got {tuple(out.shape)}"
        )
    if invalid is None:
        invalid = target.new_zeros((), dtype=torch.int64)
    _common.on_same_device(target, "target", out, "out")
    _common.on_same_device(target, "target", _common.is_tensor(invalid, "invalid"), "invalid")
    return out, invalid


@torch.library.register_fake("fcn_ext::confusion_matrix_labels")
@torch.library.register_fake("fcn_ext::confusion_matrix_logits")
@torch.library.register_fake("fcn_ext::upsample_confusion_matrix")
@torch.library.register_fake("fcn_ext::interpolate_confusion_matrix")
def _(*arguments: Any) -> None:
    return None


def _vmap(op: Any) -> Any:
    # Counts go into one matrix an example, so that each example's stays its own.
    one_by_one = _common.vmap_by_example(op)

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if in_dims[-2] is None or in_dims[-1] is None:
            raise ValueError("out and invalid must be batched where prediction or target is")
        return one_by_one(info, in_dims, *args)  # type: ignore[no-any-return]

    return rule


for _name, _op in (
    ("confusion_matrix_labels", _labels_op),
    ("confusion_matrix_logits", _logits_op),
    ("upsample_confusion_matrix", _upsample_op),
    ("interpolate_confusion_matrix", _interpolate_op),
):
    torch.library.register_vmap(f"fcn_ext::{_name}", _vmap(_op))

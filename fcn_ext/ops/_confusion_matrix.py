"""confusion_matrix: exact integer counts from labels, logits or coarse scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.compiler import is_compiling, is_dynamo_compiling

from fcn_ext import _label_rules
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.ops import _common, _observers

_labels_op = torch.ops.fcn_ext.confusion_matrix_labels.default
_logits_op = torch.ops.fcn_ext.confusion_matrix_logits.default
_score_op = torch.ops.fcn_ext.score_confusion_matrix.default


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

        >>> prediction, target = torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]])
        >>> confusion_matrix(prediction, target, num_classes=2)
        tensor([[1, 1],
                [0, 0]])

    Pixels whose target is ``ignore_index`` are skipped, whatever was predicted there. Of the
    others, a pixel whose target or prediction lies outside ``[0, num_classes)`` is not counted
    but added to ``invalid``, so that errors are noticed without waiting for the device:
    :class:`fcn_ext.metrics.ConfusionMatrix` reads it when scores are computed. This includes
    predictions equal to ``ignore_index``: a net cannot abstain.

    Counts are integers, so they are the same on every device, for any number of threads and
    for any split into batches. On CUDA nothing waits for the device.

    Args:
        prediction: labels (N, H, W) of uint8, int16, int32 or int64, or logits (N, C, H, W) of
            float32, float64, float16 or bfloat16 with C = num_classes, of which the argmax over C
            is taken: the lowest of equal classes wins, NaN counts as the greatest value, as in
            ``torch.argmax``. Any strides.
        target: labels (N, H, W), of any of the label dtypes.
        num_classes: from 1 to 32768.
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        out: int64 matrix (num_classes, num_classes) that is added to and returned. If Python
            threads add to the same matrix at once, counts may be lost, as with torch's in-place
            operations; updates of a :class:`fcn_ext.metrics.ConfusionMatrix` take turns.
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
    matrix, number = _counts(prediction, target, num_classes, out, invalid)
    op = _logits_op if prediction.dim() == 4 else _labels_op
    op(prediction, target, ignore_index, matrix, number)
    return _counted(matrix, number, out, invalid)


def score_confusion_matrix(
    input: Tensor,
    target: Tensor,
    geometry: Geometry = Resize(),
    *,
    ignore_index: int = 255,
    out: Tensor | None = None,
    invalid: Tensor | None = None,
) -> Tensor:
    """Counts of (target, class with the greatest score), straight from coarse scores.

    Equals ``confusion_matrix(argmax(input, target.shape[1:], geometry), target, C, ...)``; neither
    the scores at full size nor the labels are stored.

        >>> scores = torch.zeros(1, 2, 4, 4)
        >>> score_confusion_matrix(scores, torch.tensor([[[0, 1], [1, 255]]]))
        tensor([[1, 0],
                [2, 0]])

    Args:
        input: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, any strides.
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides. (H, W) is the size
            that the scores are taken to.
        geometry: how they reach it, a :class:`~fcn_ext.geometry.Deconvolution` or a
            :class:`~fcn_ext.geometry.Resize`.
        ignore_index: target value to skip; it may lie in or out of the range of classes.
        out: int64 matrix (C, C) that is added to and returned, by one Python thread at a time (see
            :func:`confusion_matrix`).
        invalid: int64 tensor of one element to which the number of pixels is added whose target
            is neither in [0, C) nor ``ignore_index``; they are not counted.

    Returns:
        int64 (C, C), rows = target, columns = prediction.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(input, "input")
    _common.is_tensor(target, "target")
    _common.on_same_device(input, "input", target, "target")
    _common.is_geometry(geometry)
    ignore_index = _common.integer(ignore_index, "ignore_index")
    matrix, number = _counts(input, target, input.shape[1], out, invalid)
    _score_op(input, target, geometry.numbers, ignore_index, matrix, number)
    return _counted(matrix, number, out, invalid)


def upsample_confusion_matrix(
    input: Tensor,
    target: Tensor,
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: int | Sequence[int] = 0,
    **options: Any,
) -> Tensor:
    """:func:`score_confusion_matrix` with ``Deconvolution(stride, kernel_size, offset)``."""
    return score_confusion_matrix(
        input, target, Deconvolution(stride, kernel_size, offset), **options
    )


def interpolate_confusion_matrix(
    input: Tensor, target: Tensor, *, align_corners: bool = False, **options: Any
) -> Tensor:
    """:func:`score_confusion_matrix` with ``Resize(align_corners)``."""
    return score_confusion_matrix(input, target, Resize(align_corners), **options)


def check_out(out: Tensor, name: str, num_classes: int, target: Tensor) -> None:
    """Raises unless counts of ``target`` can be added to ``out``, an argument called ``name``."""
    if tuple(_common.is_tensor(out, name).shape) != (num_classes, num_classes):
        raise ValueError(
            f"{name} must have shape (num_classes, num_classes) = "
            f"({num_classes}, {num_classes}), got {tuple(out.shape)}"
        )
    _common.on_same_device(target, "target", out, name)
    if out.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, got {out.dtype}")


def _counts(
    prediction: Tensor, target: Tensor, num_classes: int, out: Tensor | None, invalid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The dense matrix and the number that an operator adds to."""
    if out is not None:
        check_out(out, "out", num_classes, target)
    if invalid is not None:
        _common.on_same_device(target, "target", _common.is_tensor(invalid, "invalid"), "invalid")
    like = target
    if _observers._transforms_active():
        like = _batched_like(prediction, target, out, invalid)
    if invalid is None:
        invalid = like.new_zeros((), dtype=torch.int64)
    elif _is_negated(invalid):
        invalid = torch.zeros_like(invalid)
    if out is not None and out.is_contiguous() and not _is_negated(out):
        return out, invalid
    return like.new_zeros((num_classes, num_classes), dtype=torch.int64), invalid


def _batched_like(*tensors: Tensor | None) -> Tensor:
    """A tensor that vmap batches, and ``new_zeros`` of it, if it batches one of ``tensors``: each
    example has its own counts even if all share the target."""
    return torch.stack([t.new_zeros((), dtype=torch.int64) for t in tensors if t is not None])


def _is_negated(counts: Tensor) -> bool:
    """Whether the memory of ``counts`` holds its negative, to which no operator can add."""
    return not is_dynamo_compiling() and counts.is_neg()


def _counted(matrix: Tensor, number: Tensor, out: Tensor | None, invalid: Tensor | None) -> Tensor:
    """The result for the caller: the matrix, or ``out``, which gets the counts in its own
    layout."""
    if invalid is not None:
        if invalid is not number:
            invalid.add_(number)
        else:
            _tell_of_change(invalid)
    if out is None:
        return matrix
    if out is not matrix:
        return out.add_(matrix)
    _tell_of_change(out)
    return out


def _tell_of_change(counts: Tensor) -> None:
    """Bumps the version of a tensor that an operator has added to, by which autograd notices
    changes of saved tensors. torch does this only for its own operators."""
    if not (is_compiling() or _observers._transforms_active() or counts.is_inference()):
        increment_version(counts)


@torch.library.register_fake("fcn_ext::confusion_matrix_labels")
def _(
    prediction: Tensor, target: Tensor, ignore_index: int, matrix: Tensor, invalid: Tensor
) -> None:
    _label_rules.check_label_counts(prediction, target, matrix, invalid)


@torch.library.register_fake("fcn_ext::confusion_matrix_logits")
def _(logits: Tensor, target: Tensor, ignore_index: int, matrix: Tensor, invalid: Tensor) -> None:
    _label_rules.check_logit_counts(logits, target, matrix, invalid)


@torch.library.register_fake("fcn_ext::score_confusion_matrix")
def _(
    input: Tensor,
    target: Tensor,
    geometry: list[int],
    ignore_index: int,
    matrix: Tensor,
    invalid: Tensor,
) -> None:
    _label_rules.check_target(input, target, geometry)
    _label_rules.check_score_counts(input, matrix, invalid)


def _vmap(op: Any) -> Any:
    # Counts go into one matrix per example, so that each example's stays its own.
    one_by_one = _common.vmap_by_example(op)

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        for name, dim, arg in zip(("out", "invalid"), in_dims[-2:], args[-2:], strict=True):
            if dim is None:
                raise ValueError(
                    f"{name} must be batched by vmap where another argument is, got one of shape "
                    f"{tuple(arg.shape)} for all examples"
                )
        return one_by_one(info, in_dims, *args)  # type: ignore[no-any-return]

    return rule


for _name, _op in (
    ("confusion_matrix_labels", _labels_op),
    ("confusion_matrix_logits", _logits_op),
    ("score_confusion_matrix", _score_op),
):
    torch.library.register_vmap(f"fcn_ext::{_name}", _vmap(_op))

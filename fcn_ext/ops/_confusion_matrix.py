"""confusion_matrix: exact integer counts from labels or straight from logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext.ops import _common

_labels_op = torch.ops.fcn_ext.confusion_matrix_labels.default
_logits_op = torch.ops.fcn_ext.confusion_matrix_logits.default


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
    for value, name in ((prediction, "prediction"), (target, "target")):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    num_classes = _common.integer(num_classes, "num_classes")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    if not 1 <= num_classes <= 32768:
        raise ValueError(f"num_classes must be in [1, 32768], got {num_classes}")
    device = target.device
    if out is None:
        out = torch.zeros((num_classes, num_classes), dtype=torch.int64, device=device)
    elif tuple(out.shape) != (num_classes, num_classes):
        raise ValueError(
            f"out must have shape (num_classes, num_classes) = ({num_classes}, {num_classes}), "
            f"got {tuple(out.shape)}"
        )
    if invalid is None:
        invalid = torch.zeros((), dtype=torch.int64, device=device)
    op = _logits_op if prediction.dim() == 4 else _labels_op
    op(prediction, target, ignore_index, out, invalid)
    return out


@torch.library.register_fake("fcn_ext::confusion_matrix_labels")
@torch.library.register_fake("fcn_ext::confusion_matrix_logits")
def _(
    prediction: Tensor, target: Tensor, ignore_index: int, matrix: Tensor, invalid: Tensor
) -> None:
    return None


def _vmap(op: Any) -> Any:
    # Counts go into one matrix an example, so that each example's stays its own.
    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        prediction: Tensor,
        target: Tensor,
        ignore_index: int,
        matrix: Tensor,
        invalid: Tensor,
    ) -> tuple[None, None]:
        if in_dims[3] is None or in_dims[4] is None:
            raise ValueError("out and invalid must be batched where prediction or target is")
        tensors = (prediction, target, matrix, invalid)
        dims = (in_dims[0], in_dims[1], in_dims[3], in_dims[4])
        for index in range(info.batch_size):
            p, t, m, i = (
                tensor if dim is None else tensor.select(dim, index)
                for tensor, dim in zip(tensors, dims, strict=True)
            )
            op(p, t, ignore_index, m, i)
        return None, None

    return rule


torch.library.register_vmap("fcn_ext::confusion_matrix_labels", _vmap(_labels_op))
torch.library.register_vmap("fcn_ext::confusion_matrix_logits", _vmap(_logits_op))

"""check_labels: finds the label that made a loss NaN."""

from __future__ import annotations

import torch
from torch import Tensor

from fcn_ext._arguments import with_values
from fcn_ext.ops import _common


def check_labels(target: Tensor, num_classes: int, *, ignore_index: int = 255) -> None:
    """Raises if a label is neither in ``[0, num_classes)`` nor ``ignore_index``.

    On the CPU the losses check labels themselves. On CUDA they do not, since that would wait for
    the device: there a label out of range makes them NaN, and this function says which label it
    was. It waits for the device, and takes two bytes of memory per label.

        >>> check_labels(torch.tensor([[[0, 2, 255]]]), num_classes=3)  # all are right

    Args:
        target: labels (N, H, W) of uint8, int16, int32 or int64, any strides.
        num_classes: number of classes, >= 1.
        ignore_index: the value of void labels; it may lie in or out of the range of classes.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above, or a label is out of range: the message gives
            batch index, row, column and value of the first one in memory order.
    """
    _common.is_tensor(target, "target")
    if target.dtype not in (torch.uint8, torch.int16, torch.int32, torch.int64):
        raise ValueError(f"target must be uint8, int16, int32 or int64, got {target.dtype}")
    if target.dim() != 3:
        raise ValueError(f"target must have shape (N, H, W), got {tuple(target.shape)}")
    with_values(target, "target")
    num_classes = _common.integer(num_classes, "num_classes")
    ignore_index = _common.integer(ignore_index, "ignore_index")
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}")
    # A number that the dtype cannot hold would wrap in a comparison.
    held = torch.iinfo(target.dtype)
    bad = target < 0
    if num_classes <= held.max:
        bad |= target >= num_classes
    if held.min <= ignore_index <= held.max:
        bad &= target != ignore_index
    if not bad.any():
        return
    place = int(bad.flatten().to(torch.uint8).argmax())
    rows, columns = target.shape[1:]
    batch, row, column = place // (rows * columns), place // columns % rows, place % columns
    raise ValueError(
        f"target must be in [0, {num_classes}) or ignore_index = {ignore_index}, got "
        f"{int(target[batch, row, column])} at batch index {batch}, row {row}, column {column}"
    )

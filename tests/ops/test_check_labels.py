from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from fcn_ext import ops, reference

LABEL_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
@pytest.mark.parametrize("num_classes", [1, 21, 255, 256, 300, 32768, 40000, 2**40])
@pytest.mark.parametrize("ignore_index", [255, 0, -1, -100, 256, 2**40])
def test_as_the_reference(
    dtype: torch.dtype, num_classes: int, ignore_index: int, device: torch.device
) -> None:
    info = torch.iinfo(dtype)
    edges = [0, 1, 20, 21, 254, 255, 256, 299, 300, 32767, 39999, -1, -100, info.min, info.max]
    for value in {min(max(edge, info.min), info.max) for edge in edges}:
        target = torch.zeros(2, 3, 4, dtype=dtype, device=device)
        target[1, 2, 1] = value
        target[1, 2, 3] = value
        try:
            reference.check_labels(target, num_classes, ignore_index=ignore_index)
        except ValueError as error:
            with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
                ops.check_labels(target, num_classes, ignore_index=ignore_index)
            laid_out = target.transpose(1, 2).contiguous().transpose(1, 2)
            with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
                ops.check_labels(laid_out, num_classes, ignore_index=ignore_index)
        else:
            ops.check_labels(target, num_classes, ignore_index=ignore_index)


def test_message(device: torch.device) -> None:
    target = torch.full((2, 5, 10), 255, dtype=torch.uint8, device=device)
    ops.check_labels(target, 21)
    target[0, 3, 9] = 77
    target[1, 0, 0] = 88
    message = "target must be in [0, 21) or ignore_index = 255, got 77 at batch index 0, row 3, "
    with pytest.raises(ValueError, match=re.escape(message + "column 9")):
        ops.check_labels(target, 21)


def test_empty(device: torch.device) -> None:
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        ops.check_labels(torch.zeros(shape, dtype=torch.int64, device=device), 5)


@pytest.mark.parametrize(
    ("target", "num_classes", "ignore_index", "error", "message"),
    [
        ([1], 3, 255, TypeError, "target must be a torch.Tensor, got list"),
        (torch.zeros(1, 2, 3), 3, 255, ValueError, "target must be uint8, .* got torch.float32"),
        (torch.zeros(2, 3).long(), 3, 255, ValueError, r"shape \(N, H, W\), got \(2, 3\)"),
        (
            torch.zeros(1, 2, 3, device="meta").long(),
            3,
            255,
            ValueError,
            "target must have values, got a tensor on the meta device",
        ),
        (torch.zeros(1, 2, 3).long(), 0, 255, ValueError, "num_classes must be >= 1, got 0"),
        (torch.zeros(1, 2, 3).long(), 2.5, 255, TypeError, "num_classes must be an integer"),
        (torch.zeros(1, 2, 3).long(), 2, None, TypeError, "ignore_index must be an integer"),
    ],
)
def test_rejects(
    target: Any, num_classes: Any, ignore_index: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.check_labels(target, num_classes, ignore_index=ignore_index)

"""Calls functions of MKL once, since several threads must not make their first call together.

On x86 torch computes ``exp``, ``log`` and the like with Intel MKL, which chooses code for the
processor at the first call of each function. If two threads make that call together, each on its
part of one tensor, one of them may get code with half the digits (MKL 2024.2, in torch's own
builds; pytorch issue 188792). In about one process in a hundred, the gradients of a focal loss in
float64 then differed by a relative 1e-8. ``import fcn_ext`` calls the functions of
:data:`FUNCTIONS`.
"""

from __future__ import annotations

import torch

# Those that losses, optimizers and the nets' layers use.
FUNCTIONS = (
    "cos",
    "erf",
    "exp",
    "expm1",
    "log",
    "log10",
    "log1p",
    "log2",
    "sin",
    "sqrt",
    "tanh",
)


def settle() -> None:
    """Calls each of :data:`FUNCTIONS` on one element of each type that MKL serves."""
    for dtype in (torch.float32, torch.float64):
        one = torch.ones(1, dtype=dtype, device="cpu")  # wherever tensors are made by default
        for name in FUNCTIONS:
            getattr(torch, name)(one)

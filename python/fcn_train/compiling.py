"""Compiles the network with ``torch.compile`` for the steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
from torch import Tensor

from fcn_train.errors import UsageError
from fcn_train.heads import Net

BACKEND: str | Callable[..., Any] = "inductor"


def compile_steps(model: Net, device: torch.device) -> None:
    """Compile the computation of ``model``'s scores, for training mode.

    Code is compiled in the first step, for images of one size. In eval mode the network is not
    compiled: a split is scored at the sizes of its images, each of which would need its own code.
    The layers, their names and their weights do not change.

    Args:
        model: the network, on the device; every forward pass goes through its ``scores``.
        device: decides what code is generated, and so which compiler is needed.

    Raises:
        UsageError: torch finds no compiler. ``model.scores`` raises it for a network that torch
            cannot compile.
    """
    plain = model.scores
    compiled = torch.compile(plain, backend=BACKEND, dynamic=False)
    _try(lambda: torch.compile(_add_one, backend=BACKEND)(torch.zeros(2, device=device)))

    def scores(images: Tensor) -> Any:
        return _try(lambda: compiled(images)) if model.training else plain(images)

    model.scores = scores  # type: ignore[method-assign]


def _add_one(values: Tensor) -> Tensor:
    return values + 1


def _try(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch names the backend first, on its own line.
        reason = next((line for line in lines if not line.endswith("raised:")), lines[0])
        raise UsageError(
            f"--compile: torch cannot compile here ({reason}); install a C++ compiler, on a GPU "
            "with Triton, or leave the option out"
        ) from error

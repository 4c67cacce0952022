"""Half precision: the available types, and the loss scaling that float16 needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_train.errors import LossError
from fcn_train.words import counted

HALVES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""In what forward passes run under ``torch.autocast``."""

LOWEST_SCALE = 2.0**-14
"""A smaller scale ends a run. It begins at 2**16 and is halved by each step that is skipped: where
that does not help, it is not the scale that gradients overflow by."""


class Scaler:
    """Keeps gradients within float16's range, by torch's ``GradScaler``.

    The loss is multiplied by a scale before its backward pass, so that small gradients do not
    become zero, and the gradients are divided by it before they are used. Where one is not finite
    the step is skipped and the scale halved; after 2,000 updates in a row it is doubled
    (Micikevicius et al., 2018, section 3.2).

    Attributes:
        skipped: how many steps were, since the run began.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self.skipped = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """``loss`` as its backward pass starts from it."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of ``optimizer`` by the scale; some may not be finite."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update by gradients that were unscaled, and choose the next scale; returns whether they
        were finite. Where not, nothing is updated.

        Raises:
            LossError: they were not, with a scale that there is no use in lowering.
        """
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        lower = self._scaler.get_scale()
        if lower >= scale:
            return True
        self.skipped += 1
        if lower < LOWEST_SCALE:
            was = "was" if self.skipped == 1 else "were"
            raise LossError(
                f"float16 does not hold the gradients, not even of the loss times {scale:.1e}, and "
                f"{counted(self.skipped, 'step')} {was} skipped; use --amp bf16 or none, "
                "or a lower --optim.lr"
            )
        return False

    def state(self) -> dict[str, Any]:
        return {"scaler": self._scaler.state_dict(), "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what ``state()`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is nothing of the kind.
        """
        numbers = state["scaler"]
        known = self._scaler.state_dict()
        if numbers.keys() != known.keys() or not 0 < float(numbers["scale"]) < float("inf"):
            raise ValueError("its scaler is none of float16")
        self._scaler.load_state_dict(numbers)
        self.skipped = int(state["skipped"])

"""Half precision: the available types, and the loss scaling that float16 needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_train.errors import LossError
from fcn_train.words import counted

HALVES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The types in which forward passes run under ``torch.autocast``."""

LOWEST_SCALE = 2.0**-14
"""A run that needs a smaller scale ends. The scale begins at 2**16 and is halved by each skipped
step; if gradients still overflow at this one, the scale is not the cause."""


class Scaler:
    """Keeps gradients within float16's range, by torch's ``GradScaler``.

    The loss is multiplied by a scale before its backward pass, so that small gradients do not
    become zero, and the gradients are divided by it before they are used. If one is not finite, the
    step is skipped and the scale halved; after 2,000 updates in a row it is doubled (Micikevicius
    et al., 2018, section 3.2).

    Attributes:
        skipped: how many steps were skipped since the run began.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self.skipped = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """``loss`` times the scale, for the backward pass."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of ``optimizer`` by the scale; some may not be finite."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update with the unscaled gradients, and choose the next scale; returns whether they were
        finite. If they were not, nothing is updated.

        Raises:
            LossError: they were not, and lowering the scale further would not help.
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
        """Restore what ``state()`` returned.

        Raises:
            KeyError, TypeError, ValueError: it is not such a state.
        """
        numbers = state["scaler"]
        known = self._scaler.state_dict()
        if numbers.keys() != known.keys() or not 0 < float(numbers["scale"]) < float("inf"):
            raise ValueError("its scaler is none of float16")
        self._scaler.load_state_dict(numbers)
        self.skipped = int(state["skipped"])

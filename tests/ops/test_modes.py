"""Modes that see torch's functions change neither what is computed nor how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import fcn_ext
from fcn_ext import losses
from fcn_ext.losses import _ohem

from .heads import PLAIN


class Watching(TorchFunctionMode):
    """Passes everything on."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


MODES: dict[str, Callable[[], Any]] = {
    "default device": lambda: torch.device("cpu"),
    "default device without memory": lambda: torch.device("meta"),
    "deferred upsampling": fcn_ext.fused_upsampling,
    "watching": Watching,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"min_kept": 40}, {"threshold": None, "min_kept": 0.2}])
def test_the_hardest_pixels_are_found_on_the_host(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one pass, not in one for each bit."""
    case = PLAIN[1]
    scores, target = case.scores(2, 5), case.labels(2, 5)
    expected = losses.ohem_cross_entropy(scores, target, case.geometry, **options)

    def refuse(*arguments: Any) -> Tensor:
        raise AssertionError("counted bit by bit")

    monkeypatch.setattr(_ohem, "kth_largest", refuse)
    with MODES[mode]():
        found = losses.ohem_cross_entropy(scores, target, case.geometry, **options)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal_loss"])
def test_wrong_masks_are_named_by_their_rule(name: str, mode: str) -> None:
    case = PLAIN[1]
    scores, target = case.scores(2, 3), torch.zeros((2, 3, *case.fine), dtype=torch.uint8)
    target[1, 2, 3, 4] = 7
    message = "target must be 0, 1 or ignore_index = 255, got 7 at batch index 1, mask 2"
    with MODES[mode](), pytest.raises(ValueError, match=message):
        getattr(losses, name)(scores, target, case.geometry, reduction="pixels")

"""The accuracy beside a cross-entropy: that of pixel_accuracy, from the operator of the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_ext import losses, reference_losses
from fcn_ext.geometry import Deconvolution

from .heads import CASES, PLAIN, SCORE_TYPES
from .losses import near


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all"])
def test_accuracy(reduction: str, dtype: torch.dtype, device: torch.device) -> None:
    """That of pixel_accuracy, bit for bit, and of the reference."""
    for case in CASES:
        scores, target = case.scores(2, 5, dtype).to(device), case.labels(2, 5).to(device)
        options = {"reduction": reduction, "label_smoothing": 0.1}
        loss, accuracy = losses.cross_entropy(
            scores, target, case.geometry, return_accuracy=True, **options
        )
        assert torch.equal(loss, losses.cross_entropy(scores, target, case.geometry, **options))
        alone = losses.pixel_accuracy(scores, target, case.geometry)
        assert torch.equal(accuracy, alone)
        assert accuracy.dtype == alone.dtype
        assert accuracy.shape == ()
        wide = reference_losses.pixel_accuracy(scores.double(), target, case.geometry)
        near(accuracy, wide, 1e-6 if dtype in (torch.float32, torch.float64) else 0.02)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all"])
def test_accuracy_of_a_process(reduction: str) -> None:
    """Of its own pixels, whatever the loss is a mean over."""
    scores, target = PLAIN[1].scores(2, 5), PLAIN[1].labels(2, 5)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        options = {"reduction": reduction, "return_accuracy": True}
        loss, accuracy = losses.cross_entropy(scores, target, group=True, **options)
        alone, expected = losses.cross_entropy(scores, target, **options)
    finally:
        dist.destroy_process_group()
    near(loss, alone, 1e-6)
    assert torch.equal(accuracy, expected)


class Operators(TorchDispatchMode):
    """The names of this package's that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.startswith("fcn_ext::"):
            self.names.append(func._schema.name.split("::")[1])
        return func(*args, **(kwargs or {}))


def test_one_operator() -> None:
    case = PLAIN[0]
    scores, target = case.scores(1, 3).requires_grad_(), case.labels(1, 3)

    def called(**options: Any) -> list[str]:
        with Operators() as operators:
            losses.cross_entropy(scores, target, case.geometry, return_accuracy=True, **options)
        return operators.names

    for reduction in ("sum", "mean", "mean_all"):
        assert called(reduction=reduction) == ["cross_entropy_hits"]
    assert called(reduction="none") == ["cross_entropy_pixels_hits"]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert called() == ["cross_entropy_hits"]


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_compiles_and_exports(reduction: str) -> None:
    class Loss(torch.nn.Module):
        def forward(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            loss, accuracy = losses.cross_entropy(
                2 * scores,
                target,
                Deconvolution(4, offset=1),
                reduction=reduction,
                return_accuracy=True,
            )
            return loss.sum(), accuracy

    compiled = torch.compile(Loss(), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in (5, 6, 9):
        scores = torch.randn(2, 3, size, size + 1, requires_grad=True)
        target = torch.randint(0, 3, (2, 3 * size, 3 * size + 2))
        for actual, expected in zip(compiled(scores, target), Loss()(scores, target), strict=True):
            assert torch.equal(actual, expected)
        (gradient,) = torch.autograd.grad(compiled(scores, target)[0], scores)
        near(gradient, torch.autograd.grad(Loss()(scores, target)[0], scores)[0], 1e-6)
    height, width = torch.export.Dim("height", min=3), torch.export.Dim("width", min=3)
    program = torch.export.export(
        Loss(),
        (scores.detach(), target),
        dynamic_shapes={"scores": {2: height, 3: width}, "target": {}},
    )
    longer = torch.randn(2, 3, 11, 12)
    for actual, expected in zip(
        program.module()(longer, target), Loss()(longer, target), strict=True
    ):
        torch.testing.assert_close(actual, expected)


def test_a_label_out_of_range_is_named() -> None:
    target = torch.zeros((1, 8, 8), dtype=torch.int64)
    target[0, 5, 3] = 7
    options: dict[str, Any] = {"return_accuracy": True}
    for reduction in ("none", "sum", "mean", "mean_all"):
        with pytest.raises(ValueError, match=r"got 7 at batch index 0, row 5, column 3"):
            losses.cross_entropy(torch.zeros(1, 3, 4, 4), target, reduction=reduction, **options)

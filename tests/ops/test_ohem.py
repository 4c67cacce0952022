"""The hardest pixels: which are kept, by either way, under vmap, and how many."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fcn_ext import losses, nn
from fcn_ext.losses._ohem import kth_largest

from .heads import PLAIN
from .test_pixel_losses import OPTIONS, loss_and_gradient


@pytest.mark.parametrize("per_image", [False, True])
def test_equal_losses_are_all_kept(per_image: bool) -> None:
    scores = torch.zeros(2, 3, 2, 2)
    target = torch.zeros((2, 8, 8), dtype=torch.int64)
    loss = losses.ohem_cross_entropy(
        scores, target, threshold=0.2, min_kept=5, per_image=per_image, reduction="none"
    )
    assert (loss > 0).all()
    none = losses.ohem_cross_entropy(scores, target, threshold=0.2, min_kept=0)
    assert none.item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_kept_loss_by_bits(dtype: torch.dtype) -> None:
    """What CUDA does in place of a partition."""
    rows = torch.rand((3, 57), dtype=dtype) * torch.tensor([[1e-30], [1.0], [1e30]], dtype=dtype)
    rows[:, :9] = -1.0
    rows[1, 9:20] = 0.5
    rows[2, 9:11] = torch.inf
    for k in (1, 2, 11, 48):
        expected = rows.sort(descending=True).values[:, k - 1]
        assert torch.equal(kth_largest(rows, torch.full((3,), k)), expected)
    assert not (rows >= kth_largest(rows, torch.zeros(3, dtype=torch.int64))[:, None]).any()


def test_both_ways_to_keep_agree() -> None:
    """The CPU's partition, and what runs in compiled code and on CUDA."""
    case = PLAIN[1]
    scores, target = case.scores(2, 5), case.labels(2, 5)
    for options in OPTIONS["ohem_cross_entropy"][2:4]:
        eager = losses.ohem_cross_entropy(scores, target, **options, reduction="none")
        mapped = torch.func.functional_call(
            nn.OhemCrossEntropyLoss(**options, reduction="none"), {}, (scores, target)
        )
        assert torch.equal(eager, mapped)
        gradient = torch.func.grad(
            lambda s, o=options: losses.ohem_cross_entropy(s, target, **o)  # type: ignore[misc]
        )(scores)
        expected = loss_and_gradient(losses.ohem_cross_entropy, scores, target, **options)[1]
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("share", [0.0, 0.125, 1.0])
def test_shares_and_counts_of_any_kind(share: float) -> None:
    case = PLAIN[1]
    scores, target = case.scores(2, 5), case.labels(2, 5)

    def loss(min_kept: Any) -> Tensor:
        return losses.ohem_cross_entropy(scores, target, threshold=None, min_kept=min_kept)

    for kind in (np.float32, np.float16, np.float64, Fraction):
        assert torch.equal(loss(kind(share)), loss(share))
    for count in (0, 1, 30):
        for whole in (np.int16(count), np.uint64(count), torch.tensor(count)):
            assert torch.equal(loss(whole), loss(count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options", [{"min_kept": 40}, {"min_kept": 0.2, "per_image": True}, {"threshold": 0.4}], ids=str
)
def test_hardest_pixels_of_examples(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Under vmap, of gradients as well, what each example has alone."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 2, 4, 5, 6, generator=generator, dtype=dtype)
    target = torch.randint(0, 4, (2, 20, 21), generator=generator)
    target[:, :3] = 255

    def loss(given: Tensor) -> Tensor:
        result: Tensor = losses.ohem_cross_entropy(given, target, **options)
        return result

    alone = torch.stack([loss(given) for given in scores])
    torch.testing.assert_close(torch.vmap(loss)(scores), alone)
    slopes = torch.stack([torch.func.grad(loss)(given) for given in scores])
    torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(scores), slopes)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("options", [{"min_kept": 10}, {"threshold": None, "min_kept": 0.1}])
def test_tensors_without_values_have_a_loss_without_value(
    options: dict[str, Any], per_image: bool
) -> None:
    """Torch's fake tensors."""
    mode = FakeTensorMode()
    scores = mode.from_tensor(torch.randn(2, 5, 4, 6, requires_grad=True))
    target = mode.from_tensor(torch.randint(0, 5, (2, 16, 24), dtype=torch.uint8))
    with mode:
        loss = losses.ohem_cross_entropy(scores, target, per_image=per_image, **options)
        (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.shape == ()
    assert gradient.shape == scores.shape

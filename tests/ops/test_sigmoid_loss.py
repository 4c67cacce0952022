"""Losses that are linear in the sums of masks: their gradient comes with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.geometry import Resize

from .heads import CASES, PLAIN, SCORE_TYPES, Case
from .losses import GRADIENT, near
from .test_sigmoid_sums import masks

# Columns 4 and 5 are not summed, whatever they weigh.
WEIGHT = torch.tensor(
    [
        [1.0, 1, 0, 0, torch.inf, -torch.inf, 0, 0],
        [0.3, 2, 0.5, 0.1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0.25, 0.75],
    ]
)


def loss_and_gradient(
    module: Any, case: Case, scores: Tensor, target: Tensor, weight: Tensor, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    scores = scores.detach().clone().requires_grad_()
    loss, sums = module.sigmoid_loss(scores, target, weight, case.geometry, **options)
    assert not sums.requires_grad
    mixture = torch.linspace(0.5, 1.5, loss.numel(), device=loss.device).reshape(loss.shape)
    (loss * mixture).sum().backward()
    assert scores.grad is not None
    return loss.detach(), sums, scores.grad


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case: Case, device: torch.device) -> None:
    """float64 plain PyTorch of the same, rounded, scores."""
    weight = WEIGHT.to(device)
    for dtype in SCORE_TYPES:
        scores = case.scores(2, 3, dtype, scale=5.0).to(device)
        for gamma, of_target in ((None, torch.uint8), (2.0, torch.int64), (None, torch.float32)):
            target = masks(case, dtype=of_target).to(device)
            expected = loss_and_gradient(
                reference, case, scores.double(), target, weight, gamma=gamma
            )
            found = loss_and_gradient(ops, case, scores, target, weight, gamma=gamma)
            wide = dtype == torch.float64
            for ours, theirs in zip(found[:2], expected[:2], strict=True):
                assert ours.dtype == (torch.float64 if wide else torch.float32)
                near(ours, theirs, 1e-12 if wide else 1e-6)
            assert found[2].dtype == dtype
            terms = float(case.weights().sum((1, 2)).max())
            near(found[2], expected[2], GRADIENT[dtype], 0.1 * terms)


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_sums_are_those_of_sigmoid_sums(case: Case) -> None:
    """Whether a gradient comes with them or not: to the last place, which the compiler rounds as it
    pleases."""
    scores, target = case.scores(3, 3), masks(case, 3)
    for gamma in (None, 2.0):
        sums = ops.sigmoid_sums(scores, target, case.geometry, gamma=gamma)
        for asked in (True, False):
            with torch.set_grad_enabled(asked):
                _, found = ops.sigmoid_loss(
                    scores.clone().requires_grad_(), target, WEIGHT, case.geometry, gamma=gamma
                )
            torch.testing.assert_close(found, sums, rtol=5e-7, atol=0)


def test_same_bits_with_any_number_of_threads() -> None:
    case = CASES[0]
    scores, target = case.scores(2, 3), masks(case)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(loss_and_gradient(ops, case, scores, target, WEIGHT, gamma=1.5))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_tall_masks_in_chunks() -> None:
    """A seam between chunks is counted once and gives to the nodes on both sides of it."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(1, 1, 70, 5, generator=generator)
    target = (torch.rand(1, 1, 283, 23, generator=generator) < 0.5).to(torch.uint8)
    weight = WEIGHT[:1]
    results = []
    for module, given in ((ops, scores), (reference, scores.double())):
        given = given.clone().requires_grad_()
        loss, sums = module.sigmoid_loss(given, target, weight)
        loss.sum().backward()
        results.append((loss.detach(), sums, given.grad))
    for ours, theirs in zip(*results, strict=True):
        near(ours, theirs, 1e-5)


def test_weights_of_zero_leave_out_what_is_infinite() -> None:
    scores = torch.full((1, 1, 2, 2), -torch.inf, requires_grad=True)
    target = torch.ones((1, 1, 4, 4), dtype=torch.bool)
    weight = torch.tensor([[0.0, 1, 0, 2, 0, 0, 0, 0]])
    loss, sums = ops.sigmoid_loss(scores, target, weight)
    loss.sum().backward()
    assert loss.item() == 32
    assert sums[0, 0, 0].item() == torch.inf
    assert not scores.grad.any()  # type: ignore[union-attr]


def test_weights_of_what_is_not_summed_count_for_nothing() -> None:
    case = PLAIN[0]
    scores, target = case.scores(2, 3), masks(case)
    weight = torch.full((3, 8), torch.nan)
    weight[:, :4] = torch.tensor([1.0, 1, 0, 0])
    found = loss_and_gradient(ops, case, scores, target, weight)
    weight[:, 4:] = 0
    for one, other in zip(found, loss_and_gradient(ops, case, scores, target, weight), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [1e19, 1e26, 1e35])
def test_large_weights_do_not_overflow_on_the_way(size: float) -> None:
    """Times an exponential, that is; the gradient itself fits."""
    case = PLAIN[1]
    scores, target = case.scores(2, 3, scale=30.0).clamp(-33, 33), masks(case)
    weight = WEIGHT.nan_to_num(0, 0, 0) * size
    expected = loss_and_gradient(reference, case, scores.double(), target, weight)
    found = loss_and_gradient(ops, case, scores, target, weight)
    assert found[2].isfinite().all()
    near(found[2] / size, expected[2] / size, GRADIENT[torch.float32], 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_backward_pass_after_another(dtype: torch.dtype) -> None:
    case = PLAIN[0]
    scores = case.scores(2, 3, dtype).requires_grad_()
    loss, _ = ops.sigmoid_loss(scores, masks(case), WEIGHT, case.geometry)
    first = torch.autograd.grad(loss.sum(), scores, retain_graph=True)[0]
    second = torch.autograd.grad(loss.sum(), scores, create_graph=True)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="sigmoid_loss is differentiable once"):
        second.sum().backward()


def test_gradient_asked_for_by_torch_func() -> None:
    """The forward pass is not told of it there; examples may have targets of their own."""
    case = PLAIN[0]
    scores, target = case.scores(3, 3), masks(case, 3)

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        return ops.sigmoid_loss(scores[None], target[None], WEIGHT, case.geometry)[0].sum()

    found = torch.func.vmap(torch.func.grad(loss))(scores, target)
    leaf = scores.clone().requires_grad_()
    total = ops.sigmoid_loss(leaf, target, WEIGHT, case.geometry)[0].sum()
    assert torch.equal(found, torch.autograd.grad(total, leaf)[0])
    each = torch.stack([torch.func.grad(loss)(s, t) for s, t in zip(scores, target, strict=True)])
    assert torch.equal(found, each)


@pytest.mark.parametrize("dim", [0, 2])
def test_weights_of_their_own_under_vmap(dim: int) -> None:
    """Of the same scores, or of each example's."""
    case = PLAIN[0]
    scores, target = case.scores(2, 3), masks(case)
    weights = torch.stack([WEIGHT, 2 * WEIGHT, WEIGHT.flip(0)], dim)

    def loss(scores: Tensor, weight: Tensor) -> Tensor:
        return ops.sigmoid_loss(scores, target, weight, case.geometry)[0].sum()

    found, values = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(None, dim))(
        scores, weights
    )
    for index, weight in enumerate(weights.unbind(dim)):
        leaf = scores.clone().requires_grad_()
        expected = loss(leaf, weight)
        near(found[index], torch.autograd.grad(expected, leaf)[0], 1e-6)
        near(values[index], expected.detach(), 1e-6)


@pytest.mark.parametrize("gamma", [None, 2.0])
def test_opcheck(gamma: float | None, device: torch.device) -> None:
    case = PLAIN[0]
    scores = case.scores(1, 3).to(device).requires_grad_()
    torch.library.opcheck(
        torch.ops.fcn_ext.sigmoid_loss.default,
        (
            *(scores, masks(case, 1).to(device), WEIGHT.to(device)),
            *(case.geometry.numbers, 255, gamma, True),
        ),
    )


def test_compiles() -> None:
    case = PLAIN[0]
    scores, target = case.scores(2, 3).requires_grad_(), masks(case)

    def loss(scores: Tensor) -> Tensor:
        return ops.sigmoid_loss(scores, target, WEIGHT, case.geometry)[0].sum()

    expected = torch.autograd.grad(loss(scores), scores)[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(torch.autograd.grad(compiled(scores), scores)[0], expected)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (torch.ones(3, 8, requires_grad=True), RuntimeError, "weight must not require a gradient"),
        (torch.ones(2, 8), ValueError, r"weight must have shape \(Q, 8\) = \(3, 8\), got \(2, 8\)"),
        (torch.ones(3, 8, dtype=torch.complex64), ValueError, "weight must be real"),
        ([1.0] * 8, TypeError, "weight must be a torch.Tensor, got list"),
    ],
)
def test_weights_refused(weight: Any, error: type[Exception], message: str) -> None:
    target = torch.zeros((1, 3, 8, 8), dtype=torch.uint8)
    with pytest.raises(error, match=message):
        ops.sigmoid_loss(torch.zeros(1, 3, 4, 4), target, weight)


@pytest.mark.parametrize("size", [0.01, 1.0, 7.9, 8.1, 15.9, 32.5, 34.0, 90.0])
@pytest.mark.parametrize("answers", ["right", "wrong", "either"])
@pytest.mark.parametrize("ratio", [2, 3, 8.3, 33])
def test_scores_near_zero_and_far_from_it(
    size: float, answers: str, ratio: float, device: torch.device
) -> None:
    """Logarithms of many pixels are taken at once: precise where nearly all are right, with losses
    of exp(-size), and where a product of what pixels leave would vanish."""
    generator = torch.Generator().manual_seed(int(size * 10))
    nodes = max(3, round(290 / ratio))
    signs = torch.randint(0, 2, (1, 2, 3, nodes), generator=generator) * 2.0 - 1
    shape = (int(2.9 * ratio), int(nodes * ratio))
    scores = (signs * size * (0.9 + 0.1 * torch.rand(signs.shape, generator=generator))).to(device)
    logits = F.interpolate(scores.double(), shape, mode="bilinear")
    coin = torch.rand(logits.shape, generator=generator).to(device) < 0.5
    target = {"right": logits > 0, "wrong": logits <= 0, "either": coin}[answers].to(torch.uint8)
    target[..., 0, :5] = 255
    weight = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0]] * 2, device=device)
    case = Case("near-and-far", (3, nodes), shape, Resize())
    expected = loss_and_gradient(reference, case, scores.double(), target, weight.double())
    for dtype in (torch.float32, torch.float64):
        found = loss_and_gradient(ops, case, scores.to(dtype), target, weight)
        # exp takes an error of its argument, which is that of the interpolation, as it is.
        rounding = 1e-6 * max(1, size) if dtype == torch.float32 else 1e-12 * max(1, size)
        torch.testing.assert_close(found[0].double(), expected[0].double(), rtol=rounding, atol=0)
        torch.testing.assert_close(found[1].double(), expected[1].double(), rtol=rounding, atol=0)
        near(found[2], expected[2], rounding, float(expected[2].abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_numbers_that_are_zeros_and_ones_are_labels(dtype: torch.dtype) -> None:
    """The same bits, and other pixels' targets do not change what these add."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(1, 2, 5, 70, generator=generator) * 4
    case = Case("labels", (5, 70), (40, 560), Resize())
    labels = (torch.rand(1, 2, 40, 560, generator=generator) < 0.4).to(torch.uint8)
    weight = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0]] * 2)
    expected = loss_and_gradient(ops, case, scores, labels, weight)
    found = loss_and_gradient(ops, case, scores, labels.to(dtype), weight)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    smooth = labels.to(dtype)
    smooth[0, 0, 20, 300] = 0.25
    found = loss_and_gradient(ops, case, scores, smooth, weight)
    wide = loss_and_gradient(reference, case, scores.double(), smooth.double(), weight.double())
    for ours, theirs in zip(found, wide, strict=True):
        near(ours, theirs, 1e-6)
    assert torch.equal(found[2][0, 1], expected[2][0, 1])

"""region_sums: values, gradients, layouts, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops, reference

from .contract import LAYOUTS, channels_last, contiguous
from .heads import (
    CASES,
    LABEL_TYPES,
    PLAIN,
    SCORE_TYPES,
    Case,
    drawn,
    interpolated,
    trained_like,
    upsampled,
)
from .losses import GRADIENT, MANY_PIXELS_OF_A_CELL, near


def results(
    module: Any, case: Case, scores: Tensor, target: Tensor, **options: Any
) -> list[Tensor]:
    """The sums that were asked for."""
    found = case.head(module, "region_sums", scores, target, **options)
    return [sums for sums in found if sums is not None]


def combined(sums: list[Tensor]) -> Tensor:
    """A number that depends on every sum of every image and class in a way of its own."""
    generator = torch.Generator().manual_seed(7)
    return sum(
        (torch.randn(of.shape, generator=generator, dtype=of.dtype).to(of.device) * of).sum()
        for of in sums
        if of.requires_grad
    )  # type: ignore[return-value]


def gradient(module: Any, case: Case, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
    scores = scores.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(
        combined(results(module, case, scores, target, **options)), scores
    )
    return found


def assert_matches(
    case: Case, scores: Tensor, target: Tensor, plain: Tensor | None = None, **options: Any
) -> None:
    """Against float64 plain PyTorch of the same, rounded, scores, or of `plain`."""
    wide = dict(options)
    as_given = scores.double() if plain is None else plain
    if options.get("weight") is not None:
        wide["weight"] = options["weight"].double()
    found = results(ops, case, scores, target, **options)
    expected = results(reference, case, as_given, target, **wide)
    assert len(found) == len(expected)
    exact = 1e-12 if scores.dtype == torch.float64 else 1e-6
    pixels = case.fine[0] * case.fine[1]
    for sums, exactly in zip(found, expected, strict=True):
        assert sums.dtype == torch.float64
        near(sums, exactly, exact, pixels)
    assert torch.equal(found[2], expected[2])  # counts
    terms = float(case.weights().sum((1, 2)).max())
    ours = gradient(ops, case, scores, target, **options)
    assert ours.dtype == scores.dtype
    slope = gradient(reference, case, as_given, target, **wide)
    near(ours, slope, GRADIENT[scores.dtype], terms if scores.shape[1] == 1 else 0.1 * terms)


@pytest.mark.parametrize("dtype", SCORE_TYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    scores, target = case.scores(2, 5, dtype).to(device), case.labels(2, 5).to(device)
    weight = torch.tensor([0.5, 2.0, 0.0, 1.0, 0.25], device=device)
    assert_matches(case, scores, target)
    assert_matches(case, scores, target, squared=True)
    assert_matches(case, scores, target, with_loss=True, weight=weight)
    trained = trained_like(case, 2, 5, dtype).to(device)
    assert_matches(case, trained, target, squared=True, with_loss=True)


@pytest.mark.parametrize("num_classes", [2, 7, 10, 21])
@pytest.mark.parametrize("case", MANY_PIXELS_OF_A_CELL, ids=str)
def test_equal_scores_of_many_pixels(case: Case, num_classes: int, device: torch.device) -> None:
    scores = torch.zeros(1, num_classes, *case.coarse, device=device)
    target = case.labels(1, num_classes).to(device)
    for labels in (target, torch.zeros_like(target)):
        assert_matches(case, scores, labels, squared=True, with_loss=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    case = drawn(data, most_columns=40)
    n, c = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    scale = data.draw(st.sampled_from([0.0, 2.0, 40.0]))
    scores = data.draw(st.sampled_from(LAYOUTS))(case.scores(n, c, dtype, scale=scale))
    target = case.labels(n, c).to(data.draw(st.sampled_from(LABEL_TYPES)))
    weight = torch.rand(c) if data.draw(st.booleans(), label="weight") else None
    squared, with_loss = data.draw(st.booleans()), data.draw(st.booleans())
    assert_matches(case, scores, target, weight=weight, squared=squared, with_loss=with_loss)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(case: Case, layout: Any, device: torch.device) -> None:
    scores, target = case.scores(2, 6).to(device), case.labels(2, 6).to(device)
    options = {"squared": True, "with_loss": True}
    expected = results(ops, case, scores, target, **options)
    leaf = layout(scores).detach().requires_grad_()
    found = results(ops, case, leaf, target, **options)
    assert all(map(torch.equal, found, expected))
    (slope,) = torch.autograd.grad(combined(found), leaf)
    assert torch.equal(slope, gradient(ops, case, scores, target, **options))
    if layout in (contiguous, channels_last):
        assert slope.stride() == leaf.stride()
    # Labels at strides, of any type.
    wide = torch.stack([target, target], dim=3)[..., 0]
    for kind in LABEL_TYPES:
        again = results(ops, case, scores, wide.to(kind), **options)
        assert all(map(torch.equal, again, expected))


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("squared", [False, True])
def test_scores_that_are_far_apart_or_masked(
    case: Case, squared: bool, device: torch.device
) -> None:
    """Neighbors that disagree by thousands, classes masked by -inf, and single masked nodes."""
    options = {"squared": squared, "with_loss": True}
    for dtype in (torch.float64, torch.float32):
        for scale in (60.0, 500.0, 1e4):
            scores = case.scores(2, 4, dtype, scale=scale).to(device)
            assert_matches(case, scores, case.labels(2, 4).to(device), **options)
        scores = case.scores(2, 4, dtype).to(device)
        # Plain torch makes NaN of -inf where its weight is zero.
        low = scores.double()
        scores[:, 3], low[:, 3] = -torch.inf, -1e6
        assert_matches(case, scores, case.labels(2, 3).to(device), low, **options)


@pytest.mark.parametrize("case", PLAIN, ids=str)
@pytest.mark.parametrize("scale", [1e15, 1e18, 1e19, 1e20, 1e30, 1e35, 1e200])
def test_scores_of_any_finite_size(case: Case, scale: float, device: torch.device) -> None:
    """None is taken for a class that is masked: its loss is finite."""
    for dtype in (torch.float64, torch.float32):
        if scale < torch.finfo(dtype).max:
            scores, target = case.scores(2, 4, dtype).to(device), case.labels(2, 4).to(device)
            scores *= scale
            *_, found, _ = results(ops, case, scores, target, with_loss=True)
            *_, expected, _ = results(reference, case, scores.double(), target, with_loss=True)
            assert expected.isfinite().all()
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_the_loss_of_a_masked_class_is_infinite(case: Case, device: torch.device) -> None:
    scores, target = case.scores(1, 3).to(device), case.labels(1, 3).to(device)
    scores[:, 1] = -torch.inf
    sums = case.head(ops, "region_sums", scores, target, with_loss=True)
    assert sums.loss.item() == torch.inf
    assert sums.intersection[0, 1] == sums.probability[0, 1] == 0 < sums.pixels[0, 1]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_void_takes_no_part(case: Case, device: torch.device) -> None:
    """Void everywhere; and where the scores are NaN."""
    options = {"squared": True, "with_loss": True}
    scores = case.scores(2, 3).to(device)
    target = case.labels(2, 3).to(device)
    target[1] = 255
    found = results(ops, case, scores, target, **options)
    assert all(float(of[..., 1, :].abs().sum() if of.dim() == 2 else of[1]) == 0 for of in found)
    slope = gradient(ops, case, scores, target, **options)
    assert slope[1].abs().sum() == 0 < slope[0].abs().sum()
    scores[1] = torch.nan
    assert torch.equal(gradient(ops, case, scores, target, **options), slope)
    assert all(map(torch.equal, results(ops, case, scores, target, **options), found))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_scores_that_are_not_finite(case: Case, bad: float, device: torch.device) -> None:
    scores, target = case.scores(2, 3).to(device), case.labels(2, 3, void=None).to(device)
    scores[0, 1, 2, 2] = bad
    found = results(ops, case, scores, target, squared=True, with_loss=True)
    expected = results(reference, case, scores.double(), target, squared=True, with_loss=True)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-3, equal_nan=True)
    slope, plain = (
        gradient(module, case, given, target, squared=True)
        for module, given in ((ops, scores), (reference, scores.double()))
    )
    near(slope[1], plain[1], 1e-5)  # the other image
    assert slope[0].isnan().any()
    assert slope[1].isfinite().all()


def test_no_images(device: torch.device) -> None:
    for case in PLAIN:
        scores, target = case.scores(0, 3).to(device), case.labels(0, 3).to(device)
        assert_matches(case, scores, target, squared=True, with_loss=True)


@pytest.mark.parametrize("nodes", [16, 18, 23])
@pytest.mark.parametrize("squared", [False, True])
def test_cells_beyond_whole_registers(nodes: int, squared: bool, device: torch.device) -> None:
    """One to eight of them share a register, each in several lanes."""
    options = {"squared": squared, "with_loss": True}
    for case in (
        interpolated((2, nodes), (9, 19 * nodes + 1)),
        interpolated((2, nodes), (6, 5 * nodes - 3), align_corners=True),
        upsampled((1, nodes), 8, offset=(3, 3)),
    ):
        for dtype, scale in ((torch.float64, 2.0), (torch.float32, 500.0)):
            scores = case.scores(2, 4, dtype, scale=scale).to(device)
            assert_matches(case, scores, case.labels(2, 4).to(device), **options)


def test_infinite_weights_reach_their_pixels_alone(device: torch.device) -> None:
    case = PLAIN[0]
    scores, target = case.scores(1, 3).to(device), case.labels(1, 3).to(device)
    target[target == 2] = 255
    weight = torch.tensor([1.0, 2.0, torch.inf], device=device)
    of_none = results(ops, case, scores, target, weight=weight, with_loss=True)
    near(
        of_none[3], results(reference, case, scores, target, weight=weight, with_loss=True)[3], 1e-5
    )
    for corner in (0, -1):
        target[0, corner, corner] = 2
        slope = gradient(ops, case, scores, target, weight=weight, with_loss=True)
        read = case.weights()[:, corner, corner].reshape(case.coarse) > 0
        assert bool((slope[0].isfinite().all(0) == ~read.to(device)).all())
        target[0, corner, corner] = 255


@pytest.mark.parametrize("squared", [False, True])
def test_bits_do_not_depend_on_threads(squared: bool) -> None:
    case = interpolated((33, 41), (260, 330))
    scores, target = case.scores(3, 7), case.labels(3, 7)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            options = {"squared": squared, "with_loss": True}
            found.append(
                [
                    *results(ops, case, scores, target, **options),
                    gradient(ops, case, scores, target, **options),
                ]
            )
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


@pytest.mark.parametrize("capability", ["plain", "avx2"])
def test_other_instruction_sets(capability: str) -> None:
    code = """
import torch
from tests.ops.heads import CASES, trained_like
from tests.ops.test_region_sums import assert_matches
for case in CASES:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for scores in (case.scores(1, 7, dtype), trained_like(case, 1, 7, dtype)):
            assert_matches(case, scores, case.labels(1, 7), squared=True, with_loss=True)
"""
    environment = {**os.environ, "FCN_EXT_CPU_CAPABILITY": capability}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)


def test_labels_out_of_range_are_named() -> None:
    case = PLAIN[0]
    target = case.labels(2, 3, void=None)
    target[1, 2, 3] = 7
    with pytest.raises(ValueError, match=r"got 7 at batch index 1, row 2, column 3"):
        case.head(ops, "region_sums", case.scores(2, 3), target)


def test_an_empty_batch() -> None:
    case = PLAIN[0]
    scores = torch.zeros(0, 3, *case.coarse, requires_grad=True)
    target = torch.zeros(0, *case.fine, dtype=torch.uint8)
    found = case.head(ops, "region_sums", scores, target, squared=True, with_loss=True)
    assert [of.shape for of in found] == [(0, 3)] * 4 + [(0,)] * 2
    found.probability.sum().backward()
    assert scores.grad is not None
    assert scores.grad.shape == scores.shape


def test_arguments_are_named() -> None:
    scores, target = PLAIN[0].scores(1, 3), PLAIN[0].labels(1, 3)
    geometry = PLAIN[0].geometry
    for wrong, message in (
        (lambda: ops.region_sums(scores[0], target), "input must have shape"),
        (lambda: ops.region_sums(scores, [1]), "target must be a torch.Tensor"),
        (lambda: ops.region_sums(scores, target, 8), "geometry must be"),
        (lambda: ops.region_sums(scores, target, geometry, ignore_index=0.5), "ignore_index"),
        (lambda: ops.region_sums(scores, target, geometry, weight=torch.ones(2)), "weight must"),
        (lambda: ops.region_sums(scores, target, weight=torch.ones(3).cfloat()), "be real"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            wrong()
    with pytest.raises(RuntimeError, match="weight must not require a gradient"):
        ops.region_sums(scores, target, geometry, weight=torch.ones(3, requires_grad=True))


def test_a_second_derivative_is_refused() -> None:
    case = PLAIN[1]
    scores = case.scores(1, 3).requires_grad_()
    sums = case.head(ops, "region_sums", scores, case.labels(1, 3))
    (slope,) = torch.autograd.grad(sums.probability[0, 0], scores, create_graph=True)
    with pytest.raises(RuntimeError, match="region_sums is differentiable once"):
        slope.sum().backward()


def test_operator_contract(device: torch.device) -> None:
    """torch's own checks of schema, fake kernel and autograd registration."""
    case = PLAIN[0]
    scores, target = case.scores(2, 3).to(device).requires_grad_(), case.labels(2, 3).to(device)
    weight = torch.rand(3, device=device)
    for dynamic in (False, True):
        checks = ("test_schema", "test_faketensor", "test_autograd_registration")
        for arguments in (
            (scores, target, case.numbers, weight, 255, True, True),
            (scores, target, case.numbers, None, 255, False, False),
        ):
            utils = (*checks, "test_aot_dispatch_dynamic") if dynamic else checks
            torch.library.opcheck(
                torch.ops.fcn_ext.region_sums.default, arguments, test_utils=utils
            )
    grads = torch.rand(4, 2, 3, device=device), torch.rand(2, 2, device=device)
    torch.library.opcheck(
        torch.ops.fcn_ext.region_sums_backward.default,
        (*grads, scores.detach(), target, case.numbers, weight, 255),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_under_vmap_and_torch_func(device: torch.device) -> None:
    case = PLAIN[1]
    stacked = torch.stack([case.scores(2, 3, seed=seed) for seed in range(3)]).to(device)
    target = case.labels(2, 3).to(device)

    def loss(scores: Tensor) -> Tensor:
        return combined(results(ops, case, scores, target, squared=True, with_loss=True))

    def plain(scores: Tensor) -> Tensor:
        found = case.head(ops, "region_sums", scores, target)
        return (found.intersection / (found.probability + found.pixels)).sum()

    expected = torch.stack([torch.func.grad(plain)(scores) for scores in stacked])
    assert torch.equal(torch.vmap(torch.func.grad(plain))(stacked), expected)
    leaf = stacked[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(plain(leaf), leaf)
    assert torch.equal(slope, expected[0])
    assert torch.isfinite(loss(leaf))


def test_compiled_whole() -> None:
    case = PLAIN[1]
    target = case.labels(2, 3)

    def dice(scores: Tensor) -> Tensor:
        sums = case.head(ops, "region_sums", scores, target, with_loss=True)
        assert sums.loss is not None
        return (2 * sums.intersection / (sums.probability + sums.pixels)).mean() + sums.loss.sum()

    scores = case.scores(2, 3).requires_grad_()
    expected = torch.autograd.grad(dice(scores), scores)[0]
    compiled = torch.compile(dice, fullgraph=True, backend="aot_eager")
    near(torch.autograd.grad(compiled(scores), scores)[0], expected, 1e-6)


def test_under_autocast(device: torch.device) -> None:
    case = PLAIN[1]
    scores, target = case.scores(1, 3, torch.bfloat16).to(device), case.labels(1, 3).to(device)
    expected = gradient(ops, case, scores, target)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert torch.equal(gradient(ops, case, scores, target), expected)

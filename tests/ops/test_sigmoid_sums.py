"""The sums that losses of masks are made of: values, gradients, targets, layouts, determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference

from .contract import LAYOUTS
from .heads import CASES, LABEL_TYPES, PLAIN, SCORE_TYPES, Case, interpolated
from .losses import GRADIENT, near

COLUMNS = 8
PARTS: list[dict[str, Any]] = [
    {},
    {"regions": True},
    {"gamma": 2.0},
    {"gamma": 0.7, "regions": True},
]


def masks(
    case: Case, n: int = 2, q: int = 3, dtype: torch.dtype = torch.uint8, void: int | None = 255
) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    shape = (n, q, *case.fine)
    if dtype.is_floating_point:
        return torch.rand(shape, generator=generator).to(dtype)
    drawn = (torch.rand(shape, generator=generator) < 0.4).to(torch.int64)
    if void is not None and dtype != torch.bool:
        drawn[torch.rand(shape, generator=generator) < 0.1] = void
    return drawn.to(dtype)


def sums_and_gradient(
    module: Any, case: Case, scores: Tensor, target: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """The sums, and the gradient of a mixture of them."""
    scores = scores.detach().clone().requires_grad_()
    sums = module.sigmoid_sums(scores, target, case.geometry, **options)
    mixture = torch.linspace(0.5, 1.5, sums.numel(), device=sums.device).reshape(sums.shape)
    (sums * mixture).sum().backward()
    assert scores.grad is not None
    return sums.detach(), scores.grad


def assert_matches(case: Case, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Against float64 plain PyTorch of the same, rounded, scores."""
    expected, expected_gradient = sums_and_gradient(
        reference, case, scores.double(), target, **options
    )
    sums, gradient = sums_and_gradient(ops, case, scores, target, **options)
    wide = scores.dtype == torch.float64
    assert sums.dtype == (torch.float64 if wide else torch.float32)
    assert gradient.dtype == scores.dtype
    for column in range(COLUMNS):
        near(sums[..., column], expected[..., column], 1e-12 if wide else 1e-6)
    terms = float(case.weights().sum((1, 2)).max())
    near(gradient, expected_gradient, GRADIENT[scores.dtype], 0.1 * terms)
    return gradient


@pytest.mark.parametrize("case", [*CASES, interpolated((40, 3), (330, 70))], ids=str)
def test_matches_reference(case: Case, device: torch.device) -> None:
    for dtype in (torch.float64, torch.float32):
        scores = case.scores(2, 3, dtype).to(device)
        for options in PARTS:
            assert_matches(case, scores, masks(case).to(device), **options)
        soft = masks(case, dtype=torch.float32).to(device)
        assert_matches(case, scores, soft, regions=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_type_and_layout(layout: Any, device: torch.device) -> None:
    for case in PLAIN:
        for dtype in SCORE_TYPES:
            scores = layout(case.scores(2, 3, dtype).to(device))
            for target_dtype in (torch.bool, *LABEL_TYPES, *SCORE_TYPES):
                drawn = masks(case, dtype=target_dtype).to(device)
                strides = layout(drawn.double()).stride()
                target = torch.empty_strided(
                    drawn.shape, strides, dtype=target_dtype, device=device
                ).copy_(drawn)
                assert_matches(case, scores, target, regions=dtype != torch.float64)


def test_gradient_is_laid_out_as_the_scores() -> None:
    case = PLAIN[1]
    last = case.scores(2, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    ops.sigmoid_sums(last, masks(case)).sum().backward()
    assert last.grad is not None
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("void", [0, 1, 2, 255, -1, 300])
def test_any_value_may_be_void(void: int) -> None:
    """Also one that the type of the target cannot hold."""
    case = PLAIN[0]
    for dtype in (torch.uint8, torch.int16, torch.int64):
        held = void if torch.iinfo(dtype).min <= void <= torch.iinfo(dtype).max else None
        target = masks(case, dtype=dtype, void=held)
        assert_matches(case, case.scores(2, 3), target, ignore_index=void, regions=True)


def test_void_counts_for_nothing() -> None:
    case = PLAIN[1]
    target = torch.full((1, 2, *case.fine), 255, dtype=torch.uint8)
    sums, gradient = sums_and_gradient(
        ops, case, case.scores(1, 2) * torch.nan, target, regions=True, gamma=2.0
    )
    assert not sums.any()
    assert not gradient.any()


@pytest.mark.parametrize(
    ("found", "of_sum", "gamma"),
    [(255, kind, gamma) for kind in range(8) for gamma in (None, 2.0)]
    + [(0, kind, gamma) for kind in (0, 5, 6) for gamma in (None, 2.0)]
    + [(1, kind, gamma) for kind in (1, 7) for gamma in (None, 2.0)]
    + [(0.0, 0, None), (0.0, 5, None), (1.0, 1, None)],
)
def test_an_infinite_weight_of_a_sum_without_the_pixel(
    found: float, of_sum: int, gamma: float | None, device: torch.device
) -> None:
    """Nothing comes of it, neither at void pixels nor at those that add nothing to that sum; also
    where a number between zero and one lies among them, whose own nodes it does reach."""
    for dtype in (torch.float32, torch.float64):
        for size, scale in ((3, 8), (20, 2)):
            scores = torch.linspace(-3, 3, size * size, dtype=dtype, device=device)
            scores = scores.reshape(1, 1, size, size).requires_grad_()
            of_pixels = torch.uint8 if isinstance(found, int) else torch.float32
            shape = (1, 1, size * scale, size * scale)
            target = torch.full(shape, found, dtype=of_pixels, device=device)
            if isinstance(found, float):
                target[..., 0, 0] = 0.5
            sums = ops.sigmoid_sums(scores, target, gamma=gamma, regions=True)
            weight = torch.ones_like(sums)
            weight[..., of_sum] = torch.inf
            (gradient,) = torch.autograd.grad(sums, scores, weight)
            assert gradient.flatten()[1:].isfinite().all()
            assert gradient[0, 0, 0, 0].isfinite().item() == isinstance(found, int)


@pytest.mark.parametrize("gamma", [1e37, 1e38, 3e38, 1e39, 1e300, 1.7e308])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_largest_gammas(dtype: torch.dtype, gamma: float, device: torch.device) -> None:
    """The focal sums hold what is wrong altogether, and nothing else."""
    scores = torch.tensor([-3000.0, -1, 0, 3, 3000], dtype=dtype, device=device)
    scores = scores.reshape(1, 5, 1, 1).requires_grad_()
    target = torch.ones((1, 5, 2, 2), dtype=torch.bool, device=device)
    sums = ops.sigmoid_sums(scores, target, gamma=gamma)
    (gradient,) = torch.autograd.grad(sums[..., 6].sum(), scores)
    wrong = -scores[0, 0, 0, 0].item()
    assert sums[0, :, 6].tolist() == [4 * wrong, 0, 0, 0, 0]
    assert gradient.flatten().tolist() == [-4, 0, 0, 0, 0]


def test_nothing_and_one_pixel() -> None:
    for shape in ((0, 3, 2, 2), (2, 0, 2, 2)):
        scores = torch.zeros(shape, requires_grad=True)
        sums = ops.sigmoid_sums(scores, torch.zeros((*shape[:2], 9, 9), dtype=torch.bool))
        assert sums.shape == (*shape[:2], COLUMNS)
        sums.sum().backward()
    pixel = interpolated((1, 1), (1, 1))
    assert_matches(pixel, pixel.scores(2, 3), masks(pixel), regions=True, gamma=1.0)


@pytest.mark.parametrize("scale", [30.0, 100.0, 1e4])
def test_confident_scores(scale: float) -> None:
    """Small losses keep their digits, large ones do not overflow: both ways around the bound of
    what a progression takes."""
    for case in PLAIN:
        for dtype in (torch.float64, torch.float32):
            scores = case.scores(2, 3, dtype, scale=scale)
            assert_matches(case, scores, masks(case), regions=True, gamma=2.0)
    scores = torch.full((1, 1, 3, 3), -scale)
    sums = ops.sigmoid_sums(scores, torch.zeros((1, 1, 12, 12), dtype=torch.bool))
    expected = 144 * torch.nn.functional.softplus(scores[0, 0, 0, 0].double())
    assert float(sums[0, 0, 1]) == pytest.approx(float(expected), rel=1e-6)


def test_infinite_scores() -> None:
    """Of a mask that is off altogether, say; and where a weight is zero, its neighbors' stays."""
    scores = torch.full((1, 1, 3, 3), -torch.inf, requires_grad=True)
    sums = ops.sigmoid_sums(scores, torch.zeros((1, 1, 5, 5), dtype=torch.bool), regions=True)
    sums.sum().backward()
    assert sums[0, 0].tolist() == [0, 0, 0, 25, 0, 0, 0, 0]
    assert not scores.grad.any()  # type: ignore[union-attr]
    scores = torch.zeros((1, 1, 1, 3))
    scores[..., 1] = torch.inf
    target = torch.ones((1, 1, 1, 3), dtype=torch.bool)
    sums = ops.sigmoid_sums(scores, target)
    assert float(sums[0, 0, 0]) == pytest.approx(2 * 0.6931472)
    sums = ops.sigmoid_sums(scores * torch.nan, target, regions=True)
    assert sums[0, 0, [0, 4]].isnan().all()


def test_the_same_bits_for_any_number_of_threads(threads: None) -> None:
    # A mask is cut into chunks: one thread walks through all at once, several meet at seams.
    for case in (CASES[4], interpolated((40, 5), (320, 40)), interpolated((67, 9), (531, 70))):
        for n, q in ((2, 3), (1, 1)):
            scores, target = case.scores(n, q), masks(case, n, q)
            results = []
            for count in (1, 2, 3, 5):
                torch.set_num_threads(count)
                results.append(sums_and_gradient(ops, case, scores, target, regions=True))
            for sums, gradient in results[1:]:
                assert torch.equal(sums, results[0][0])
                assert torch.equal(gradient, results[0][1])


def test_a_target_out_of_range_is_named() -> None:
    scores, target = torch.zeros(1, 2, 2, 2), torch.zeros((1, 2, 8, 8), dtype=torch.int64)
    target[0, 1, 3, 4] = 7
    message = (
        "target must be 0, 1 or ignore_index = 255, got 7 at batch index 0, mask 1, row 3, column 4"
    )
    with pytest.raises(ValueError, match=message):
        ops.sigmoid_sums(scores, target)
    with pytest.raises(ValueError, match=message):
        ops.sigmoid_sums(scores, target.to(torch.uint8))
    soft = target.float() / 4
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got 1.75 at batch"):
        ops.sigmoid_sums(scores, soft)
    soft[0, 1, 3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got -?nan at batch"):
        ops.sigmoid_sums(scores, soft)
    with pytest.raises(TypeError, match="regions must be a bool, got 1"):
        ops.sigmoid_sums(scores, target, regions=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "void"),
    [(1234567, 255), (-(2**62) - 1, 255), (2**53, 2**53 + 1), (-(2**60), -(2**60) - 1)],
)
def test_a_label_out_of_range_is_named_to_the_last_digit(value: int, void: int) -> None:
    """Also one that float64 does not tell from the void label."""
    scores, target = torch.zeros(1, 2, 2, 2), torch.zeros((1, 2, 8, 8), dtype=torch.int64)
    target[0, 1, 3, 4] = value
    message = f"target must be 0, 1 or ignore_index = {void}, got {value} at batch index 0, mask 1"
    with pytest.raises(ValueError, match=f"^{message}, row 3, column 4$"):
        ops.sigmoid_sums(scores, target, ignore_index=void)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        (torch.float32, 1 + 2.0**-23, r"1\.0000001"),
        (torch.float64, 1 + 2.0**-52, r"1\.0000000000000002"),
        (torch.float16, 1 + 2.0**-10, r"1\.0009766"),
        (torch.bfloat16, -(2.0**-133), "-9.1835[0-9]*e-41"),
        (torch.float64, -5e-324, "-4.94066e-324"),
    ],
    ids=str,
)
def test_a_number_just_out_of_range_is_told_from_one_in_it(
    dtype: torch.dtype, value: float, text: str
) -> None:
    scores, target = torch.zeros(1, 2, 2, 2), torch.zeros((1, 2, 8, 8), dtype=dtype)
    target[0, 1, 3, 4] = value
    with pytest.raises(ValueError, match=rf"^target must be in \[0, 1\], got {text} at batch"):
        ops.sigmoid_sums(scores, target)


def test_transforms_and_compile() -> None:
    case = PLAIN[1]
    scores, target = case.scores(2, 3), masks(case)
    sums, gradient = sums_and_gradient(ops, case, scores, target)

    def mixed(each: Tensor, masks_of: Tensor) -> Tensor:
        result = ops.sigmoid_sums(each, masks_of, case.geometry)
        mixture = torch.linspace(0.5, 1.5, sums.numel()).reshape(sums.shape)
        return (result * mixture).sum()

    near(torch.func.grad(mixed)(scores, target), gradient, 1e-6)
    each = torch.vmap(lambda s, t: ops.sigmoid_sums(s[None], t[None], case.geometry)[0])
    assert torch.equal(each(scores, target), sums)
    compiled = torch.compile(mixed, backend="aot_eager", fullgraph=True)
    leaf = scores.clone().requires_grad_()
    compiled(leaf, target).backward()
    near(leaf.grad, gradient, 1e-6)  # type: ignore[arg-type]
    torch.library.opcheck(
        torch.ops.fcn_ext.sigmoid_sums.default,
        (leaf.detach().requires_grad_(), target, case.numbers, 255, 2.0, True),
    )
    leaf = scores.clone().requires_grad_()
    loss = ops.sigmoid_sums(leaf, target, case.geometry).pow(2).sum()
    (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        first.sum().backward()

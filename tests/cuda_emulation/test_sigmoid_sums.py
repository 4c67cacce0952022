"""Sums of sigmoid losses and their gradient by the CUDA kernels, against the plain reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize

from .maps import Map, scaling, upsampling, window
from .operands import (
    CHANNELS_LAST,
    CONTIGUOUS,
    LABELS,
    SCORES,
    accumulated,
    among_nans,
    check_guards,
    guarded,
    laid_out,
)

if TYPE_CHECKING:
    from .library import Emulation

MAPS = [
    upsampling((4, 5), 8, crop=(3, 4, 5, 2)),
    upsampling((3, 3), 3, odd=True),
    upsampling((3, 4), 1),
    scaling((3, 5), 4),
    Map((5, 4), (9, 13), align_corners=True),
    Map((9, 13), (4, 5)),
    Map((1, 1), (6, 40)),
    Map((3, 2), (40, 300)),
    Map((4, 3), (1, 7), align_corners=True),
    window((4, 5), (32, 20), (9, 3), (20, 17)),
    window((5, 4), (9, 13), (2, 1), (7, 9), align_corners=True),
]


# Several tiles along an axis, whose seams two tiles read; and nodes with more outputs than a block
# has columns, which the direct kernels take.
WIDE = [
    Map((2, 70), (5, 560)),
    Map((70, 2), (600, 5)),
    upsampling((75, 71), 8, crop=(3, 4, 5, 2)),
    scaling((9, 60), 32),
    Map((1, 2), (3, 1200)),
    Map((1200, 2), (3, 5)),
    # The first tile has no output.
    upsampling((3, 600), 2, crop=(0, 0, 1150, 0)),
    upsampling((600, 3), 2, crop=(1150, 0, 0, 0)),
]


def geometry_of(map: Map) -> Geometry:
    if map.stride:
        return Deconvolution(map.stride, map.kernel_size, map.offset)
    return Resize(map.align_corners, map.uncropped, map.offset)


def drawn(map: Map, dtype: torch.dtype, masks: tuple[int, int] = (2, 3)) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (*masks, *map.output_size)
    if dtype.is_floating_point:
        return torch.rand(shape, generator=generator).to(dtype)
    target = torch.randint(0, 2, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.1] = 7
    return target.to(dtype)


def check(
    emulation: Emulation,
    map: Map,
    scores: Tensor,
    target: Tensor,
    *,
    gamma: float | None = None,
    regions: bool = True,
    layout: torch.memory_format = CONTIGUOUS,
) -> None:
    dtype, (batch, masks) = scores.dtype, scores.shape[:2]
    wide = scores.double().clone().requires_grad_()
    expected = reference.sigmoid_sums(
        wide, target, geometry_of(map), ignore_index=7, gamma=gamma, regions=regions
    )
    weights = torch.linspace(0.5, 1.5, expected.numel()).reshape(expected.shape)
    (expected * weights).sum().backward()
    assert wide.grad is not None

    number = 4 + SCORES.index(target.dtype) if target.dtype in SCORES else target.dtype
    scores = among_nans(scores)
    of_target = (target, number, target.stride(), 7, gamma, int(regions))
    geometry, of_scores = map.geometry(batch, masks), (scores, scores.stride())
    sums, memory = guarded((batch, masks, 8), accumulated(dtype))
    emulation.call("sigmoid_sums", dtype, geometry, *of_scores, *of_target, sums)
    check_guards(sums, memory)
    gradient, memory = guarded(tuple(scores.shape), accumulated(dtype), layout)
    weigh = (weights.to(accumulated(dtype)), batch * masks)
    made = (gradient, gradient.stride())
    backward = (dtype, geometry, *weigh, *of_scores, *of_target, *made)
    emulation.call("sigmoid_sums_backward", *backward, None)
    check_guards(gradient, memory)
    both, memory = guarded((batch, masks, 8), accumulated(dtype))
    alone = gradient.clone()
    emulation.call("sigmoid_sums_backward", *backward, both)
    check_guards(both, memory)
    assert torch.equal(both, sums)
    assert torch.equal(gradient, alone)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for actual, right in ((sums, expected.detach()), (gradient, wide.grad)):
        scale = max(1.0, right.abs().max().item())
        torch.testing.assert_close(actual.double() / scale, right / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("map", MAPS, ids=str)
@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_matches_reference(emulation: Emulation, map: Map, dtype: torch.dtype) -> None:
    scores = (2 * torch.randn(2, 3, *map.input_size, dtype=torch.float64)).to(dtype)
    check(emulation, map, scores, drawn(map, torch.uint8), gamma=1.5)


@pytest.mark.parametrize("dtype", [*LABELS, *SCORES], ids=str)
def test_any_target_and_layout(emulation: Emulation, dtype: torch.dtype) -> None:
    map = MAPS[3]
    scores = torch.randn(2, 3, *map.input_size)
    target = drawn(map, dtype)
    for layout in ("contiguous", "channels last", "transposed", "every other column"):
        check(
            emulation,
            map,
            laid_out(scores, layout),
            laid_out(target, layout),
            regions=False,
            layout=CHANNELS_LAST if layout == "channels last" else CONTIGUOUS,
        )


@pytest.mark.parametrize("map", WIDE, ids=str)
@pytest.mark.parametrize("kind", ["labels", "numbers", "regions and focal"])
def test_many_tiles(emulation: Emulation, map: Map, kind: str) -> None:
    any_kind = kind == "regions and focal"
    scores = 3 * torch.randn(1, 2, *map.input_size)
    target = drawn(map, torch.float32 if kind == "numbers" else torch.uint8, (1, 2))
    if kind == "numbers":
        target = torch.where(target < 0.3, 0.0, torch.where(target > 0.6, 1.0, target))
    check(emulation, map, scores, target, gamma=1.5 if any_kind else None, regions=any_kind)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("ignored", [0, 1, 2, -1, 255, 300, -(2**40), 2**40])
def test_void_labels(emulation: Emulation, dtype: torch.dtype, ignored: int) -> None:
    """Labels other than zero, one and void are invalid, whatever they mean in other types."""
    map = MAPS[3]
    scores = torch.randn(1, 2, *map.input_size)
    target = torch.randint(0, 2, (1, 2, *map.output_size)).to(dtype)
    fits = torch.iinfo(dtype).min <= ignored <= torch.iinfo(dtype).max
    if fits:
        target[:, :, ::3] = ignored
    expected = reference.sigmoid_sums(
        scores.double(), target.long(), geometry_of(map), ignore_index=ignored
    )
    of_scores = (scores, scores.stride())
    of_target = (target, target.dtype, target.stride(), ignored, None, 0)
    geometry = map.geometry(1, 2)
    sums, _ = guarded((1, 2, 8), torch.float32)
    emulation.call("sigmoid_sums", scores.dtype, geometry, *of_scores, *of_target, sums)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-6)
    for wrong in {2, 7, torch.iinfo(dtype).min, torch.iinfo(dtype).max, ignored + 256} - {0, 1}:
        if wrong != ignored and torch.iinfo(dtype).min <= wrong <= torch.iinfo(dtype).max:
            other = target.clone()
            other[0, 1, 2, 3] = wrong
            of_target = (other, dtype, other.stride(), ignored, None, 0)
            emulation.call("sigmoid_sums", scores.dtype, geometry, *of_scores, *of_target, sums)
            assert sums[0, 1, :4].isnan().all(), wrong
            torch.testing.assert_close(sums[0, 0].double(), expected[0, 0], rtol=1e-5, atol=1e-6)
            gradient, _ = guarded(tuple(scores.shape), torch.float32)
            made = (gradient, gradient.stride(), None)
            weigh = (torch.ones(2, 8), 2)
            emulation.call(
                *("sigmoid_sums_backward", scores.dtype, geometry, *weigh),
                *(*of_scores, *of_target, *made),
            )
            assert gradient[0, 1].isnan().any()
            assert gradient[0, 0].isfinite().all()


def test_a_target_out_of_range_is_nan(emulation: Emulation) -> None:
    """Only the sums of its mask are NaN."""
    map = MAPS[3]
    scores = torch.randn(1, 2, *map.input_size)
    target = torch.zeros((1, 2, *map.output_size), dtype=torch.int64)
    target[0, 1, 2, 3] = 5
    sums, _ = guarded((1, 2, 8), torch.float32)
    of_scores = (scores, scores.stride())
    of_target = (target, target.dtype, target.stride(), 7, 2.0, 1)
    geometry = map.geometry(1, 2)
    emulation.call("sigmoid_sums", scores.dtype, geometry, *of_scores, *of_target, sums)
    assert sums[0, 0].isfinite().all()
    assert sums[0, 1].isnan().all()


def test_no_masks(emulation: Emulation) -> None:
    map = MAPS[0]
    for masks in ((0, 3), (2, 0)):
        scores = torch.zeros(*masks, *map.input_size)
        sums, memory = guarded((*masks, 8), torch.float32)
        target = torch.zeros((*masks, *map.output_size), dtype=torch.uint8)
        of_scores = (scores, scores.stride())
        of_target = (target, target.dtype, target.stride(), 7, None, 0)
        geometry = map.geometry(*masks)
        emulation.call("sigmoid_sums", scores.dtype, geometry, *of_scores, *of_target, sums)
        check_guards(sums, memory)


@pytest.mark.parametrize("dtype", SCORES, ids=str)
def test_losses_weigh_each_mask_alike_in_all_images(
    emulation: Emulation, dtype: torch.dtype
) -> None:
    """One row of weights per mask, in gradient and loss; an infinite sum has weight zero."""
    map, batch, masks = MAPS[3], 3, 2
    scores = torch.randn(batch, masks, *map.input_size, dtype=torch.float64).to(dtype)
    target = drawn(map, torch.uint8, (batch, masks))
    weight = torch.tensor([[1.0, 2, 0, 0, 0, 0, 0, 0], [0, 0.5, 3, -1, 0, 0, 0, 0]])
    wide = scores.double().clone().requires_grad_()
    expected, sums = reference.sigmoid_loss(wide, target, weight, geometry_of(map), ignore_index=7)
    expected.sum().backward()
    weight, sums = weight.to(accumulated(dtype)), sums.to(accumulated(dtype))
    gradient, memory = guarded(tuple(scores.shape), accumulated(dtype), CONTIGUOUS)
    of_scores = (scores, scores.stride())
    of_target = (target, target.dtype, target.stride(), 7, None, 0)
    emulation.call(
        "sigmoid_sums_backward",
        dtype,
        map.geometry(batch, masks),
        weight,
        masks,
        *of_scores,
        *of_target,
        gradient,
        gradient.stride(),
        None,
    )
    check_guards(gradient, memory)
    torch.testing.assert_close(gradient.double(), wide.grad, rtol=0, atol=1e-5)
    sums[..., 6] = torch.inf
    loss, memory = guarded((batch, masks), accumulated(dtype))
    emulation.call("weigh_sums", dtype, sums, weight, masks, batch * masks, 1, loss)
    check_guards(loss, memory)
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("map", [MAPS[3], WIDE[4]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("found", "of_sum"),
    [*((7, kind) for kind in range(8)), (0, 0), (0, 5), (0, 6), (1, 1), (1, 7), (0.0, 0), (1.0, 1)],
)
def test_infinite_weight_of_a_sum_without_the_pixel(
    emulation: Emulation, map: Map, dtype: torch.dtype, found: float, of_sum: int
) -> None:
    """It has no effect, neither at void pixels nor at those that add nothing to that sum."""
    scores = torch.randn(1, 1, *map.input_size, dtype=dtype)
    soft = isinstance(found, float)
    for gamma, regions in ((None, 0), (None, 1), (2.0, 0)):
        if soft and gamma is not None:
            continue
        target = torch.full(
            (1, 1, *map.output_size), found, dtype=torch.float32 if soft else torch.uint8
        )
        weight = torch.ones(1, 1, 8, dtype=dtype)
        weight[..., of_sum] = torch.inf
        number = 4 if soft else target.dtype
        of_target = (target, number, target.stride(), 7, gamma, regions)
        gradient, memory = guarded(tuple(scores.shape), dtype)
        of_scores, made = (scores, scores.stride()), (gradient, gradient.stride())
        geometry = map.geometry(1, 1)
        backward = (dtype, geometry, weight, 1, *of_scores, *of_target, *made, None)
        emulation.call("sigmoid_sums_backward", *backward)
        check_guards(gradient, memory)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_infinite_scores(emulation: Emulation, gamma: float) -> None:
    """Masks that are rightly on or off everywhere: loss and gradient are zero."""
    map = MAPS[3]
    scores = torch.full((1, 2, *map.input_size), torch.inf)
    scores[:, 1] = -torch.inf
    target = torch.zeros((1, 2, *map.output_size), dtype=torch.uint8)
    target[:, 0] = 1
    of_target = (target, target.dtype, target.stride(), 7, gamma, 0)
    geometry, of_scores = map.geometry(1, 2), (scores, scores.stride())
    sums, _ = guarded((1, 2, 8), torch.float32)
    emulation.call("sigmoid_sums", scores.dtype, geometry, *of_scores, *of_target, sums)
    pixels = target[0, 0].numel()
    assert sums.tolist() == [[[0, 0, pixels, pixels, 0, 0, 0, 0], [0, 0, 0, pixels, 0, 0, 0, 0]]]
    gradient, _ = guarded(tuple(scores.shape), torch.float32)
    weigh, made = (torch.ones(1, 2, 8), 2), (gradient, gradient.stride())
    emulation.call(
        "sigmoid_sums_backward", scores.dtype, geometry, *weigh, *of_scores, *of_target, *made, None
    )
    assert not gradient.any()


def test_no_races(checked: Emulation) -> None:
    checked.call("races_set_strict", 1)
    for map in (MAPS[0], MAPS[7], WIDE[0], WIDE[1]):
        scores = torch.randn(1, 2, *map.input_size)
        for dtype, gamma in ((torch.uint8, 2.0), (torch.uint8, None), (torch.float32, None)):
            target = drawn(map, dtype, (1, 2))
            check(checked, map, scores, target, gamma=gamma, regions=gamma is not None)

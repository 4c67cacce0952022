"""The fused cross-entropy's CUDA kernels, emulated: extreme scores and labels of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from .cross_entropy_cases import IGNORE, MAPS, Case, call, call_pixels, check, labels, scores
from .maps import Map, scaling, upsampling
from .operands import LABELS, among_nans

if TYPE_CHECKING:
    from .library import Emulation


KINDS = ["1e4", "1e4 noise", "200", "40", "equal", "common"]
KINDS += ["masked class", "masked nodes", "lowest", "winners masked"]


def extreme(generator: torch.Generator, kind: str, shape: tuple[int, int, int, int]) -> Tensor:
    """Scores whose maxima at nodes bound the pixels badly, or which invite rounding errors."""
    noise = torch.randn(shape, generator=generator)
    if kind == "1e4":  # another winner at every node
        return torch.where(torch.rand(shape, generator=generator) < 0.5, 1e4, -1e4)
    if kind == "1e4 noise":
        return noise * 1e4
    if kind == "200":
        return noise * 200
    if kind == "40":
        return noise * 40
    if kind == "equal":
        return torch.full(shape, 1e4)
    if kind == "common":
        return 1e4 + noise.round(decimals=2)
    if kind == "masked class":
        noise[:, shape[1] // 2] = -torch.inf
        return noise
    if kind == "masked nodes":
        noise[torch.rand(shape, generator=generator) < 0.3] = -torch.inf
        noise[:, 0] = 1.0
        return noise
    if kind == "lowest":
        noise[:, 1:][torch.rand(shape, generator=generator)[:, 1:] < 0.3] = -1e30
        return noise
    assert kind == "winners masked"  # every node has a class of its own, all others are masked
    winner = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), generator=generator)
    return torch.full(shape, -torch.inf).scatter_(1, winner, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("map", "smoothing"),
    [
        (scaling((3, 5), 2), 0.0),
        (upsampling((2, 20), 4), 0.1),
        (upsampling((3, 4), 8, crop=(1, 2, 3, 4)), 0.0),
        (scaling((2, 2), 8), 0.1),
        (scaling((2, 3), 16), 0.0),
        (scaling((1, 2), 32), 0.0),
        (upsampling((3, 4), 3), 0.1),
        (upsampling((3, 4), 8, odd=True), 0.0),
        (Map((5, 6), (23, 41)), 0.1),
        (Map((5, 6), (33, 51), align_corners=True), 0.0),
        (Map((3, 3), (29, 57)), 0.0),
        (upsampling((2, 2), 40, crop=(30, 29, 0, 31)), 0.0),
    ],
    ids=["x2", "s4", "s8", "x8", "x16", "x32", "s3", "s8 odd", "any", "corners", "x19", "s40"],
)
def test_extreme_scores(emulation: Emulation, map: Map, kind: str, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(KINDS.index(kind))
    classes = 5
    input = among_nans(extreme(generator, kind, (1, classes, *map.input_size)))
    case = Case(map, label_smoothing=smoothing)
    random_target = labels(generator, (1, *map.output_size), classes)
    check(emulation, case, input, random_target, pixels=True)
    if kind != "lowest":
        # If every pixel is right, the loss is a small difference of large numbers.
        best = map(input.double()).nan_to_num(nan=-torch.inf, neginf=-1e300).argmax(1)
        check(emulation, case, input, best.to(torch.uint8), least=1e-6, pixels=True)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    "name",
    ["stride 8", "scale 4", "stride 3", "any size", "corners", "stride 8 odd", "stride 40", "down"],
)
def test_scores_that_are_not_finite(
    emulation: Emulation, name: str, smoothing: float, value: float
) -> None:
    generator = torch.Generator().manual_seed(5)
    map, classes = MAPS[name], 4
    case = Case(map, torch.tensor([1.0, 0.0, 2.0, 1.0]), smoothing)
    for every_class in (False, True):
        input = scores(generator, (1, classes, *map.input_size))
        target = labels(generator, (1, *map.output_size), classes)
        i, j = map.input_size[0] // 2, map.input_size[1] // 2
        input[0, slice(None) if every_class else 1, i, j] = value
        check(emulation, case, input, target, pixels=True)
        # Void wherever the node is read, so it must have no effect.
        spike = torch.zeros(1, 1, *map.input_size, dtype=torch.float64)
        spike[0, 0, i, j] = 1
        target[map(spike)[:, 0] != 0] = IGNORE
        result = call(emulation, case, input, target)
        assert result.loss.isfinite()
        assert result.gradient.isfinite().all()
        assert (result.gradient[0, :, i, j] == 0).all()
        check(emulation, case, input, target, pixels=True)


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "any size", "stride 40"])
def test_void(emulation: Emulation, name: str) -> None:
    generator = torch.Generator().manual_seed(6)
    case = Case(MAPS[name], label_smoothing=0.1)
    input = scores(generator, (1, 3, *case.map.input_size))
    target = torch.full((1, *case.map.output_size), IGNORE, dtype=torch.int64)
    nothing = call(emulation, case, input.fill_(torch.nan), target)
    assert nothing.loss == 0
    assert nothing.total_weight == 0
    assert (nothing.gradient == 0).all()
    input = scores(generator, (1, 3, *case.map.input_size))
    for y, x in ((0, 0), (5, 7), (case.map.output_size[0] - 1, case.map.output_size[1] - 1)):
        one = target.clone()
        one[0, y, x] = 2
        check(emulation, case, input, one, pixels=True)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("ignore_index", [255, 0, 2, -100, 2**40])
def test_ignored_labels(emulation: Emulation, dtype: torch.dtype, ignore_index: int) -> None:
    generator = torch.Generator().manual_seed(7)
    limits = torch.iinfo(dtype)
    case = Case(MAPS["stride 8"], ignore_index=ignore_index)
    input = scores(generator, (1, 4, *case.map.input_size))
    target = labels(generator, (1, *case.map.output_size), 4, void=0)
    if limits.min <= ignore_index <= limits.max:
        target = target.to(dtype)
        target[:, ::3] = ignore_index
    check(emulation, case, input, target.to(dtype), pixels=True)


@pytest.mark.parametrize("name", ["stride 8", "scale 4", "stride 3", "any size", "down"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *((torch.uint8, 4), (torch.uint8, 254), (torch.int16, -1), (torch.int16, 32767)),
        *((torch.int32, -(2**31)), (torch.int64, 2**32 + 1), (torch.int64, -(2**63))),
    ],
    ids=str,
)
def test_label_out_of_range(
    emulation: Emulation, name: str, dtype: torch.dtype, value: int
) -> None:
    generator = torch.Generator().manual_seed(8)
    case = Case(MAPS[name], torch.ones(4), 0.1)
    input = scores(generator, (2, 4, *case.map.input_size))
    target = labels(generator, (2, *case.map.output_size), 4).to(dtype)
    valid = call(emulation, case, input, target)
    target[1, 0, 0] = value
    result = call(emulation, case, input, target)
    assert result.loss.isnan()
    assert result.gradient[1].isnan().any()
    assert torch.equal(result.gradient[0], valid.gradient[0])
    assert call(emulation, case, input, target, with_gradient=False).loss.isnan()
    losses, _ = call_pixels(emulation, case, input, target, torch.ones(target.shape))
    assert losses[1, 0, 0].isnan()
    assert losses.isnan().sum() == 1
    losses, gradient = call_pixels(emulation, case, input, target, torch.ones(target.shape))
    assert losses.isnan().nonzero().tolist() == [[1, 0, 0]]
    assert gradient[1].isnan().any()
    assert gradient[0].isfinite().all()

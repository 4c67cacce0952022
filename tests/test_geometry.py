from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Geometry, Grid, Resize, crop_offset

GEOMETRIES = [
    Deconvolution(2, offset=1),
    Deconvolution(4, 7, (2, 1)),
    Resize(),
    Resize(True),
    Resize(uncropped_size=(40, 50), offset=(3, 1)),
]


def test_a_deconvolution_spells_out_its_defaults() -> None:
    assert Deconvolution(8, offset=31) == Deconvolution(8, 16, (31, 31))
    assert Deconvolution(1) == Deconvolution(1, 1, 0)
    assert repr(Deconvolution(8)) == "Deconvolution(stride=8, kernel_size=16, offset=(0, 0))"
    assert Deconvolution(8, offset=(31, 30)).output_size((70, 60)) == (537, 458)
    assert Deconvolution(32, 63).output_size((1, 1)) == (63, 63)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometries_are_values(geometry: Geometry) -> None:
    for other in (copy.deepcopy(geometry), pickle.loads(pickle.dumps(geometry))):
        assert other == geometry
        assert hash(other) == hash(geometry)
    assert len({*GEOMETRIES, geometry}) == len(GEOMETRIES)
    with pytest.raises(FrozenInstanceError):
        geometry.stride = 3  # type: ignore[union-attr, misc]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, r"stride must be in \[1, 2\*\*30\], got 0"),
        ((2**31,), ValueError, "stride must be in"),
        ((2.0,), TypeError, "stride must be an integer, got 2.0"),
        ((True,), TypeError, "stride must be an integer, got True"),
        ((4, 6), ValueError, "kernel_size must be .* 8 or 7, got 6"),
        ((4, "8"), TypeError, "kernel_size must be an integer, got '8'"),
        ((4, None, -1), ValueError, r"offset must be >= 0, got \(-1, -1\)"),
        ((4, None, (0, 1, 2)), ValueError, "offset must be an integer or a pair"),
        ((4, None, 0.5), TypeError, "offset must be an integer, got 0.5"),
    ],
)
def test_a_deconvolution_refuses(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Deconvolution(*arguments)


def test_a_resize_spells_out_its_crop() -> None:
    assert Resize(uncropped_size=9, offset=2) == Resize(False, (9, 9), (2, 2))
    assert Resize(offset=0) == Resize()
    assert repr(Resize(True)) == "Resize(align_corners=True)"
    cropped = Resize(uncropped_size=(9, 7), offset=(2, 0))
    assert repr(cropped) == "Resize(align_corners=False, uncropped_size=(9, 7), offset=(2, 0))"
    assert eval(repr(cropped)) == cropped
    assert cropped.output_size((3, 3)) == (7, 7)
    assert cropped.before_crop(4) == (9, 7)
    assert Resize().before_crop(torch.Size([4, 5])) == (4, 5)
    assert ops.argmax(torch.zeros(1, 2, 3, 3), geometry=cropped).shape == (1, 7, 7)
    with pytest.raises(TypeError, match="size must be given with a Resize, got None"):
        ops.argmax(torch.zeros(1, 2, 3, 3), geometry=Resize())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1,), TypeError, "align_corners must be a bool, got 1"),
        ((False, 0), ValueError, r"uncropped_size must be in \[1, 2\*\*30\], got \(0, 0\)"),
        ((False, (4, 2**31)), ValueError, "uncropped_size must be in"),
        ((False, "4"), TypeError, "uncropped_size must be an integer, got '4'"),
        ((False, 4, -1), ValueError, r"offset must be >= 0, got \(-1, -1\)"),
        ((False, 4, 0.5), TypeError, "offset must be an integer, got 0.5"),
        ((False, (4, 5), (0, 5)), ValueError, "offset must be below the uncropped width 5, got 5"),
        ((False, None, (0, 1)), ValueError, r"uncropped_size must be .* got None and \(0, 1\)"),
    ],
)
def test_a_resize_refuses(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Resize(*arguments)


def loss(scores: Tensor, target: Tensor, geometry: Geometry) -> Tensor:
    return ops.cross_entropy(scores, target, geometry)


def loss_of_its_own(scores: Tensor, target: Tensor, offset: int) -> Tensor:
    return ops.cross_entropy(scores, target, Deconvolution(4, offset=offset))


class Loss(nn.Module):
    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        return loss(scores, target, self.geometry)


class LossOfAGeometry(nn.Module):
    def forward(self, scores: Tensor, target: Tensor, geometry: Geometry) -> Tensor:
        return loss(scores, target, geometry)


def compiled(function: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")


SCORES, TARGET = torch.randn(1, 3, 5, 6), torch.randint(0, 3, (1, 9, 10))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_geometries_are_compiled(dynamic: bool) -> None:
    """As an argument, as a module's attribute, and made in the compiled code."""
    torch.compiler.reset()
    function = compiled(loss, dynamic)
    for geometry in GEOMETRIES:
        expected = loss(SCORES, TARGET, geometry)
        assert torch.equal(function(SCORES, TARGET, geometry), expected)
        assert torch.equal(compiled(Loss(geometry), dynamic)(SCORES, TARGET), expected)
    function = compiled(loss_of_its_own, dynamic)
    for offset in (0, 1, 3):
        assert torch.equal(
            function(SCORES, TARGET, offset), loss_of_its_own(SCORES, TARGET, offset)
        )


class Zoom(nn.Module):
    def forward(self, scores: Tensor, offset: Tensor) -> Tensor:
        first: Any = offset.item()
        return ops.interpolate(scores, 2, uncropped_size=8 * scores.shape[3], offset=first)


def test_an_offset_may_be_a_value_that_tracing_does_not_know() -> None:
    offset = torch.tensor(7)
    exported = torch.export.export(Zoom(), (SCORES, torch.tensor(5)), strict=False)
    assert torch.equal(exported.module()(SCORES, offset), Zoom()(SCORES, offset))


@pytest.mark.parametrize("offset", [1, (0, 2), -1])
def test_an_offset_alone_is_refused_where_compiled(offset: Any) -> None:
    """It would be dropped, where others are refused by the operator."""

    def cropped(scores: torch.Tensor) -> torch.Tensor:
        return ops.interpolate(scores, 2, offset=offset)

    torch.compiler.reset()
    with pytest.raises(ValueError, match="offset"):
        torch.compile(cropped, backend="eager")(SCORES)


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometries_are_exported(geometry: Geometry, strict: bool) -> None:
    expected = loss(SCORES, TARGET, geometry)
    program = torch.export.export(Loss(geometry), (SCORES, TARGET), strict=strict)
    assert torch.equal(program.module()(SCORES, TARGET), expected)
    arguments = (SCORES, TARGET, geometry)
    program = torch.export.export(LossOfAGeometry(), arguments, strict=strict)
    assert torch.equal(program.module()(*arguments), expected)


def through_alexnet(grid: Grid) -> Grid:
    grid = grid.window(11, stride=4, padding=100).window(3, stride=2)
    grid = grid.window(5, padding=2).window(3, stride=2)
    for _ in range(3):
        grid = grid.window(3, padding=1)
    return grid.window(3, stride=2).window(6)


def test_alexnet_has_its_published_offset_and_receptive_field():
    grid = through_alexnet(Grid())
    assert grid.receptive_field == 355
    assert crop_offset(grid.upsample(32, kernel_size=63), Grid()) == 18


def test_offset_between_cells_is_refused():
    # FCN-AlexNet needs k = 63 for this reason.
    grid = through_alexnet(Grid())
    with pytest.raises(ValueError, match="integer >= 0, got 37/2"):
        crop_offset(grid.upsample(32), Grid())


def test_negative_offset_is_refused():
    with pytest.raises(ValueError, match="integer >= 0, got -2"):
        crop_offset(Grid().window(5), Grid())


def test_different_strides_are_refused():
    with pytest.raises(ValueError, match="same stride, got 2 and 1"):
        crop_offset(Grid().window(2, stride=2), Grid())


def test_center_is_the_middle_of_what_a_cell_sees():
    # Cell j of a pooling 2/2 sees pixels 2j and 2j + 1; the next convolution one more cell
    # on either side.
    pool = Grid().window(2, stride=2)
    assert [pool.center(j) for j in range(3)] == [Fraction(1, 2), Fraction(5, 2), Fraction(9, 2)]
    assert pool.receptive_field == 2
    conv = pool.window(3, padding=1)
    assert conv.center(1) == pool.center(1)
    assert conv.receptive_field == 6


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, stride=2, padding=4, dilation=3),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.Conv2d(1, 1, [3, 3], stride=np.int64(2), padding=[4, 4], dilation=3),
        nn.MaxPool2d([3, 3], stride=np.int64(2), padding=(1, 1)),
        nn.AvgPool2d((3, 3), stride=[2, 2], padding=np.int8(1)),
    ],
)
def test_through_reads_the_layer(layer):
    expected = {
        nn.Conv2d: Grid().window(3, stride=2, padding=4, dilation=3),
        nn.MaxPool2d: Grid().window(3, stride=2, padding=1),
        nn.AvgPool2d: Grid().window(3, stride=2, padding=1),
    }
    assert Grid().through(layer) == expected[type(layer)]


def test_dilation_counts_into_the_kernel():
    assert Grid().window(3, dilation=2) == Grid().window(5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(1, 1, (3, 5)), r"kernel_size must be one integer for both axes, got \(3, 5\)"),
        (nn.Conv2d(1, 1, 3, padding="same"), "padding must be one integer .* got 'same'"),
        (nn.MaxPool2d(2, stride=(2, 1)), r"stride must be one integer .* got \(2, 1\)"),
        (nn.MaxPool2d([2, 3]), r"kernel_size must be one integer .* got \[2, 3\]"),
        (nn.MaxPool2d(2.0), "kernel_size must be one integer .* got 2.0"),
    ],
)
def test_layers_without_one_geometry_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        Grid().through(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(1, 1, 4, stride=2),
        nn.Conv1d(1, 1, 3),
        nn.MaxPool3d(2),
        nn.Linear(1, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Conv2d(1, 1, 3)),
        None,
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_other_kinds_are_refused(layer):
    with pytest.raises(TypeError, match=f"^layer must be .*, got {type(layer).__name__}$"):
        Grid().through(layer)


def test_grids_of_integers_are_those_of_fractions():
    grid = Grid(2, np.int64(-1), np.int32(3))
    assert grid == Grid(Fraction(2), Fraction(-1), Fraction(3))
    assert grid.stride == Fraction(1, 2)
    assert crop_offset(grid, Grid(np.uint8(2), -1)) == 0
    assert all(type(part.numerator) is int for part in (grid.scale, grid.shift))


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        ((3,), ValueError, r"input_size must be an integer or a pair \(y, x\), got \(3,\)"),
        ((2.5, 2), TypeError, "input_size must be an integer, got 2.5"),
        ("ab", TypeError, "input_size must be an integer, got 'ab'"),
        (b"ab", TypeError, "input_size must be an integer, got b'ab'"),
        (None, TypeError, "input_size must be an integer, got None"),
    ],
)
def test_sizes_that_are_none_are_refused(size, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Deconvolution(8).output_size(size)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Grid().window(3, stride=0), ValueError, "stride must be >= 1, got 0"),
        (lambda: Grid().window(3, stride=-2), ValueError, "stride must be >= 1, got -2"),
        (lambda: Grid().window(0), ValueError, "kernel_size must be >= 1, got 0"),
        (lambda: Grid().window(3, dilation=0), ValueError, "dilation must be >= 1, got 0"),
        (lambda: Grid().window(3, padding=0.5), TypeError, "padding must be an integer, got 0.5"),
        (lambda: Grid().window(True), TypeError, "kernel_size must be an integer, got True"),
        (lambda: Grid().upsample(0), ValueError, "stride must be >= 1, got 0"),
        (lambda: Grid().upsample(2, kernel_size=0), ValueError, "kernel_size must be >= 1, got 0"),
        (lambda: Grid().upsample("2"), TypeError, "stride must be an integer, got '2'"),
        (lambda: Grid(Fraction(0)), ValueError, "scale must be > 0, got 0"),
        (lambda: Grid(Fraction(-1, 2)), ValueError, "scale must be > 0, got -1/2"),
        (lambda: Grid(1 / 3), TypeError, "scale must be an integer or a Fraction, got 0.33"),
        (lambda: Grid("1"), TypeError, "scale must be an integer or a Fraction, got '1'"),
        (lambda: Grid(True), TypeError, "scale must be an integer or a Fraction, got True"),
        (lambda: Grid(1, 0.5), TypeError, "shift must be an integer or a Fraction, got 0.5"),
        (lambda: Grid(1, None), TypeError, "shift must be an integer or a Fraction, got None"),
        (
            lambda: Grid(1, 0, float("nan")),
            TypeError,
            "receptive_field must be an integer or a Fraction, got nan",
        ),
        (lambda: Grid(1, 0, 0), ValueError, "receptive_field must be > 0, got 0"),
        (lambda: Grid(1, 0, Fraction(-1, 2)), ValueError, "receptive_field must be > 0, got -1/2"),
        (lambda: Grid().center(0.5), TypeError, "cell must be an integer or a Fraction, got 0.5"),
        (lambda: Grid().center("a"), TypeError, "cell must be an integer or a Fraction, got 'a'"),
        (lambda: crop_offset("a", Grid()), TypeError, "source must be a Grid, got str"),
        (lambda: crop_offset(Grid(), None), TypeError, "reference must be a Grid, got NoneType"),
    ],
)
def test_grids_that_are_none_are_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_a_window_may_crop():
    assert Grid().window(1, padding=-3).center(0) == 3


def test_the_kernel_of_a_grid_is_that_of_a_deconvolution():
    for stride in (1, 2, 8):
        kernel_size = Deconvolution(stride).kernel_size
        assert Grid().upsample(stride) == Grid().upsample(stride, kernel_size=kernel_size)
    assert Grid().upsample(1) == Grid()


def test_upsample_undoes_a_pooling():
    grid = Grid().window(2, stride=2)
    assert grid.upsample(2).scale == 1
    # k4 s2 puts cell 0 of its result one pixel before the image.
    assert crop_offset(grid.upsample(2), Grid()) == 1

from __future__ import annotations

from fractions import Fraction

import pytest
from torch import nn

from fcn_ext.geometry import Grid, crop_offset


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
    ],
)
def test_through_reads_the_layer(layer):
    expected = {
        nn.Conv2d: Grid().window(3, stride=2, padding=4, dilation=3),
        nn.MaxPool2d: Grid().window(3, stride=2, padding=1),
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
    ],
)
def test_layers_without_one_geometry_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        Grid().through(layer)


def test_upsample_undoes_a_pooling():
    grid = Grid().window(2, stride=2)
    assert grid.upsample(2).scale == 1
    # k4 s2 puts cell 0 of its result one pixel before the image.
    assert crop_offset(grid.upsample(2), Grid()) == 1

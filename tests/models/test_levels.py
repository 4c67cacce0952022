"""Strides, kernels, crops and paddings from grids alone."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fcn_ext.geometry import Deconvolution, Grid
from fcn_ext.models.levels import last_level, skip_levels


def vgg(first_padding: int, fc6_padding: int) -> dict[str, Grid]:
    """VGG16's grids, its layers typed in: kernel and number of convolutions, then pooling."""
    grids = {}
    grid = Grid()
    for stage, depth in enumerate((2, 2, 3, 3, 3), 1):
        for index in range(depth):
            grid = grid.window(3, padding=first_padding if (stage, index) == (1, 0) else 1)
        grids[f"pool{stage}"] = grid = grid.window(2, stride=2)
    grids["fc7"] = grid.window(7, padding=fc6_padding)
    return grids


@pytest.mark.parametrize(
    ("skips", "names", "offsets"),
    [
        ([], ["upscore"], [19]),
        (["pool4"], ["upscore2", "upscore16"], [5, 27]),
        (["pool4", "pool3"], ["upscore2", "upscore_pool4", "upscore8"], [5, 9, 31]),
    ],
)
def test_crops_and_names_are_the_published_ones(skips, names, offsets):
    grids = vgg(100, 0)
    levels = skip_levels(grids["fc7"], [(skip, grids[skip]) for skip in skips])
    levels.append(last_level(levels[-1].grid if levels else grids["fc7"], levels, skips))
    assert [level.name for level in levels] == names
    assert [level.offset for level in levels] == offsets
    assert [level.padding for level in levels] == [0] * len(levels)
    assert all(level.step == Deconvolution(level.step.stride) for level in levels)


def test_maps_that_keep_the_border_are_padded():
    grids = vgg(1, 3)
    levels = skip_levels(grids["fc7"], [(skip, grids[skip]) for skip in ("pool4", "pool3")])
    assert [level.padding for level in levels] == [2, 6]


def test_kernels_are_odd_where_even_ones_miss_by_half_a_cell():
    top, skip = Grid(Fraction(1, 4)), Grid(Fraction(1, 2))
    (level,) = skip_levels(top, [("fine", skip)])
    assert level.step == Deconvolution(2, 3)
    last = last_level(level.grid, [level], ["fine"])
    assert last.step == Deconvolution(2, 3)
    assert [level.name, last.name] == ["upscore2", "upscore_fine"]


def test_grids_that_do_not_meet_are_refused():
    with pytest.raises(ValueError, match="coarse to fine by whole strides, got a with stride 3 "):
        skip_levels(Grid(Fraction(1, 8)), [("a", Grid(Fraction(1, 3)))])
    with pytest.raises(ValueError, match="got fine with stride 8 after one of 4"):
        skip_levels(Grid(Fraction(1, 4)), [("fine", Grid(Fraction(1, 8)))])
    with pytest.raises(ValueError, match="crop offset must be an integer"):
        skip_levels(Grid(Fraction(1, 4), Fraction(1, 3)), [("a", Grid(Fraction(1, 2)))])

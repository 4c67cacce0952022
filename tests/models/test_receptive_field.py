"""What cells see of the image, by the layers' geometry."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_ext.models import (
    Region,
    build_classifier,
    build_model,
    build_multi_head_model,
    receptive_fields,
)

from .common import build_on_meta
from .field_nets import NETS


# fcn.berkeleyvision.org's nets; 355 and 404 are in Table 1 of the paper, whose 907 of GoogLeNet
# counts in the average over 7x7 cells that the text leaves out: 715 + 6 * 32.
@pytest.mark.parametrize(
    ("name", "layer", "field", "stride"),
    [
        ("fcn8s", "pool3", 44, 8),
        ("fcn8s", "pool4", 100, 16),
        ("fcn8s", "pool5", 212, 32),
        ("fcn8s", "fc6", 404, 32),
        ("fcn8s", "fc7", 404, 32),
        ("fcn8s", "score_fr", 404, 32),
        ("fcn8s", "score_pool4", 100, 16),
        ("fcn-alexnet", "fc7", 355, 32),
        ("fcn-googlenet", "inception_5b", 715, 32),
        ("fcn-squeezenet", "fire9", 207, 16),
    ],
)
@pytest.mark.parametrize("padding", ["published", "same"])
def test_published_fields(name: str, layer: str, field: int, stride: int, padding: str) -> None:
    net = build_on_meta(name, padding=padding)
    found = receptive_fields(net, (1, 3, 64, 80))[layer]
    assert found.receptive_field == (field, field)
    assert found.grids is not None
    assert {grid.stride for grid in found.grids} == {stride}


@pytest.mark.parametrize("name", ["fcn8s", "fcn-alexnet-8s", "fcn-googlenet-8s"])
@pytest.mark.parametrize("padding", ["published", "same"])
def test_grids_are_those_that_crops_are_computed_from(name: str, padding: str) -> None:
    net = build_on_meta(name, padding=padding)
    layers = receptive_fields(net, (1, 3, 100, 90))
    of_trunk = net.trunk.grids()
    compared = [map for map in of_trunk if map in layers]
    assert len(compared) >= 5
    for map in compared:
        assert layers[map].grids == (of_trunk[map],) * 2
    output = layers["output"]
    assert output.shape == (1, 21, 100, 90)
    assert output.grids is not None
    assert [(g.scale, g.shift) for g in output.grids] == [(1, 0)] * 2  # each logit at its pixel


def test_parameters_and_shapes() -> None:
    layers = receptive_fields(build_on_meta("fcn8s"), (2, 3, 500, 500))
    assert layers["output"].parameters == 134_362_751
    assert layers["fc6"].parameters == 102_764_544
    assert layers["pool3"].shape == (2, 256, 88, 88)
    assert layers["score_fr"].shape == (2, 21, 16, 16)
    assert layers["conv1_1"].kind == "Conv2d"


def test_analytic_values() -> None:
    """By hand, with scale and shift of fcn_ext.geometry's table."""
    layers = receptive_fields(NETS["plain"], (1, 2, 17, 22))
    assert [layer.receptive_field for layer in layers.values()] == [(3, 3), (4, 4), (8, 8)]
    grids = layers["2"].grids
    assert grids is not None
    assert (grids[0].stride, grids[0].center(0)) == (2, Fraction(5, 2))

    dilated = receptive_fields(NETS["dilated"], (1, 2, 17, 22))
    assert dilated["0"].receptive_field == (7, 7)
    assert dilated["1"].receptive_field == (8, 8)

    (layer,) = receptive_fields(NETS["asymmetric"], (1, 2, 17, 22)).values()
    assert layer.receptive_field == (1, 5)
    assert layer.grids is not None
    assert [grid.stride for grid in layer.grids] == [2, 1]
    assert [grid.center(0) for grid in layer.grids] == [0, -2]

    skipping = receptive_fields(NETS["skipping"], (1, 2, 17, 22))["1"]
    assert skipping.receptive_field == (7, 7)
    assert skipping.grids is not None
    assert skipping.grids[0].stride == 15


def test_branches_see_the_box_around_all_of_them() -> None:
    layers = receptive_fields(NETS["branches"], (1, 2, 17, 22))
    assert layers["wide"].receptive_field == (5, 5)
    assert layers["narrow"].receptive_field == (1, 3)
    assert layers["output"].receptive_field == (5, 5)
    assert layers["output"].grids == layers["wide"].grids
    misaligned = layers["off"].grids
    assert misaligned is not None
    assert misaligned[0].center(0) == Fraction(1, 2)


def test_what_sees_everything_has_no_grid() -> None:
    layers = receptive_fields(NETS["squeezed"], (1, 2, 17, 22))
    assert layers["conv"].receptive_field == (3, 3)
    assert layers["output"].receptive_field is None
    assert layers["output"].sees((0, 0)) == Region(0, 17, 0, 22)
    classifier = build_classifier("squeezenet", num_classes=5, width=0.1)
    last = list(receptive_fields(classifier, (1, 3, 227, 227)).values())[-1]
    assert last.receptive_field is None
    assert last.shape == (1, 5)


def test_several_heads_and_streams() -> None:
    heads = build_multi_head_model("fcn32s", {"a": 2, "b": 3}, width=0.02)
    layers = receptive_fields(heads, (1, 3, 20, 20))
    assert (
        layers["a.score_fr"].receptive_field == layers["b.score_fr"].receptive_field == (404,) * 2
    )
    streams = build_model("fcn32s", 2, width=0.02, streams=["color", "hha"])
    assert "hha.fc7" in receptive_fields(streams, (1, 6, 20, 20))


@pytest.mark.parametrize("shape", [torch.Size([1, 1, 5, 5]), np.array([1, 1, 5, 5]), [1, 1, 5, 5]])
def test_shapes_of_images_come_as_any_list(shape: Any) -> None:
    (layer,) = receptive_fields(nn.Conv2d(1, 1, 3), shape).values()
    assert layer.shape == (1, 1, 3, 3)


@pytest.mark.parametrize("shape", [3, None, "1155", b"\1\1\5\5", {1, 2, 5, 6}, frozenset({1})])
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(TypeError, match=r"^input_shape must be \(N, C, H, W\), all >= 1, got"):
        receptive_fields(nn.Conv2d(1, 1, 3), shape)


@pytest.mark.parametrize("sizes", [(15, 49), (21, 69), (3, 41), (41, 3), (31, 82)])
def test_nearest_cells_are_those_that_torch_takes_where_rounding_decides(
    sizes: tuple[int, int],
) -> None:
    size, new = sizes
    layer = receptive_fields(nn.Upsample(size=(1, new)), (1, 1, 1, size))["output"]
    columns = torch.arange(size, dtype=torch.float64).view(1, 1, 1, size)
    taken = F.interpolate(columns, (1, new)).long().flatten().tolist()
    assert [layer.sees((0, cell)).left for cell in range(new)] == taken


@pytest.mark.parametrize("factor", [3.3, 0.7, 1.9, 0.3])
@pytest.mark.parametrize("recompute", [False, True])
def test_nearest_cells_by_a_factor_are_those_that_torch_takes(
    factor: float, recompute: bool
) -> None:
    net = nn.Upsample(scale_factor=factor, recompute_scale_factor=recompute)
    for size in range(4, 60):
        columns = torch.arange(size, dtype=torch.float32).view(1, 1, 1, size).expand(1, 1, 4, size)
        taken = net(columns)[0, 0, 0].long().tolist()
        layer = receptive_fields(net, columns.shape).get("output")
        assert layer is not None
        assert [layer.sees((0, cell)).left for cell in range(len(taken))] == taken


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, (1, 3, 8, 8)), TypeError, "module must be a torch.nn.Module, got NoneType"),
        ((nn.ReLU(), (3, 8, 8)), ValueError, r"input_shape must be \(N, C, H, W\), all >= 1"),
        ((nn.ReLU(), (1, 3, 0, 8)), ValueError, "input_shape must be"),
        ((nn.ReLU(), (1, 3, 8.0, 8)), ValueError, "input_shape must be"),
    ],
)
def test_what_is_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        receptive_fields(*arguments)

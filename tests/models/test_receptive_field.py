"""What cells see of the image: by the layers' geometry, and by gradients."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext.models import (
    FCN,
    Head,
    Region,
    VGG16Trunk,
    build_classifier,
    build_model,
    build_multi_head_model,
    measured_field,
    receptive_fields,
)


def on_meta(name: str, **options: Any) -> FCN:
    with torch.device("meta"):
        return build_model(name, **options)


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
    net = on_meta(name, padding=padding)
    found = receptive_fields(net, (1, 3, 64, 80))[layer]
    assert found.receptive_field == (field, field)
    assert found.grids is not None
    assert {grid.stride for grid in found.grids} == {stride}


@pytest.mark.parametrize("name", ["fcn8s", "fcn-alexnet-8s", "fcn-googlenet-8s"])
@pytest.mark.parametrize("padding", ["published", "same"])
def test_grids_are_those_that_crops_are_computed_from(name: str, padding: str) -> None:
    net = on_meta(name, padding=padding)
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
    layers = receptive_fields(on_meta("fcn8s"), (2, 3, 500, 500))
    assert layers["output"].parameters == 134_362_751
    assert layers["fc6"].parameters == 102_764_544
    assert layers["pool3"].shape == (2, 256, 88, 88)
    assert layers["score_fr"].shape == (2, 21, 16, 16)
    assert layers["conv1_1"].kind == "Conv2d"


class Branches(nn.Module):
    """Two ways of different sides and one around them, met by a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 3, 5, padding=2)
        self.narrow = nn.Conv2d(2, 3, (1, 3), padding=(0, 1))
        self.off = nn.Conv2d(2, 3, 2)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x).relu_()
        both = self.wide(x) + self.narrow(x)
        return torch.cat([both, self.off(F.pad(x, (0, 1, 0, 1))), x], 1)


class Squeezed(nn.Module):
    """A mean over the image beside a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Shared(nn.Module):
    """One layer called twice, a dense and a cropped upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.up = nn.ConvTranspose2d(2, 2, 4, stride=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.avg_pool2d(self.conv(self.conv(x)), 3)
        return self.up(coarse)[:, :, 2:, 1:-1]


class Written(nn.Module):
    """Results are written into parts of other tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = x.new_zeros(len(x), 4, *x.shape[2:])
        both[:, :2] = x
        both[:, 2:].copy_(self.conv(x))
        return self.last(both)


NETS: dict[str, nn.Module] = {
    "plain": nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(3, 3, 3)),
    "dilated": nn.Sequential(nn.Conv2d(2, 3, 3, dilation=3, padding=2), nn.Conv2d(3, 2, 2)),
    "asymmetric": nn.Sequential(nn.Conv2d(2, 3, (1, 5), stride=(2, 1), padding=(0, 4))),
    "skipping": nn.Sequential(nn.Conv2d(2, 3, 2, stride=5), nn.Conv2d(3, 2, 2, stride=3)),
    "ceil": nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True)),
    "far_padding": nn.Sequential(nn.Conv2d(2, 2, 5), nn.Conv2d(2, 2, 3, padding=6)),
    "same_even": nn.Sequential(nn.Conv2d(2, 2, 4, padding="same"), nn.ReLU(inplace=True)),
    "grouped": nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.LocalResponseNorm(3), nn.SiLU()),
    "reflected": nn.Sequential(nn.ReflectionPad2d(3), nn.ReplicationPad2d(1), nn.Conv2d(2, 2, 4)),
    "upsampled": nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
    "corners": nn.Sequential(nn.AvgPool2d(3), nn.UpsamplingBilinear2d(size=(13, 9))),
    "nearest": nn.Sequential(nn.AvgPool2d(3), nn.Upsample(size=(13, 9))),
    "adaptive": nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d((5, 7))),
    "branches": Branches(),
    "squeezed": Squeezed(),
    "shared": Shared(),
    "classifier": nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 15 * 20, 4)),
}


def made_positive(net: nn.Module) -> nn.Module:
    """In float64, with weights that let every pixel of a field count."""
    net = net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.abs() + 0.1)
    return net


def cells_of(size: tuple[int, int]) -> list[tuple[int, int]]:
    height, width = size
    rows, columns = (0, height // 2, height - 1), (width // 3, 0, width - 1)
    return list(dict.fromkeys(zip(rows, columns, strict=True)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", NETS)
def test_measured_fields_are_the_theoretical_ones(name: str) -> None:
    """All pixels count by positive weights, and with averages in place of maxima."""
    net = made_positive(NETS[name])
    images = torch.rand(1, 2, 17, 22, dtype=torch.float64) + 0.5
    layers = receptive_fields(net, images.shape)
    assert layers
    for layer in layers.values():
        maxima = (name, layer.name) not in [("plain", "0")] and name in ("plain", "ceil")
        for cell in cells_of(layer.map_size):
            theory = layer.sees(cell)
            measured = Region.around(measured_field(net, layer.name, images, cell) > 0)
            assert theory.holds(measured)
            if not maxima:
                assert measured == theory, (layer.name, cell)


def test_maxima_see_less_than_their_field() -> None:
    net = NETS["plain"].double()
    images = torch.randn(1, 2, 17, 22, dtype=torch.float64)
    for name, layer in receptive_fields(net, images.shape).items():
        for cell in cells_of(layer.map_size):
            seen = Region.around(measured_field(net, name, images, cell) > 0)
            assert layer.sees(cell).holds(seen)


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


def test_what_is_written_into_a_tensor_counts_everywhere() -> None:
    net, images = made_positive(Written()), torch.rand(1, 2, 7, 8, dtype=torch.float64)
    last = receptive_fields(net, images.shape)["last"]
    assert last.sees((3, 3)) == Region(0, 7, 0, 8)
    measured = Region.around(measured_field(net, "last", images, (3, 3)) > 0)
    assert measured.size == (3, 3)


def test_a_layer_called_again_has_a_number() -> None:
    layers = receptive_fields(NETS["shared"], (1, 2, 17, 22))
    assert list(layers) == ["conv", "conv (2)", "up", "output"]
    assert layers["conv (2)"].receptive_field == (5, 5)
    images = torch.rand(1, 2, 17, 22, dtype=torch.float64)
    net = made_positive(NETS["shared"])
    for name in layers:
        seen = Region.around(measured_field(net, name, images) > 0)
        assert seen == layers[name].sees()


@pytest.mark.parametrize("name", ["fcn8s-atonce", "fcn-alexnet", "fcn-googlenet-16s"])
def test_whole_nets(name: str) -> None:
    net = build_model(name, 2, width=0.02, padding="same", dropout=0.0).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.05 * parameter.abs() + 0.01)
    images = torch.rand(1, 3, 60, 90, dtype=torch.float64)
    layers = receptive_fields(net, images.shape)
    for layer in ("score_fr", "output"):
        for cell in ((0, 0), layers[layer].middle):
            measured = Region.around(measured_field(net, layer, images, cell) > 0)
            assert layers[layer].sees(cell).holds(measured)


def test_several_heads_and_streams() -> None:
    heads = build_multi_head_model("fcn32s", {"a": 2, "b": 3}, width=0.02)
    layers = receptive_fields(heads, (1, 3, 20, 20))
    assert (
        layers["a.score_fr"].receptive_field == layers["b.score_fr"].receptive_field == (404,) * 2
    )
    streams = build_model("fcn32s", 2, width=0.02, streams=["color", "hha"])
    assert "hha.fc7" in receptive_fields(streams, (1, 6, 20, 20))


def test_a_net_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Dropout())
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = torch.rand(1, 1, 9, 9)
    layers = receptive_fields(net, images.shape)
    assert list(layers) == ["0"]
    gradient = measured_field(net, "0", images)
    assert gradient.shape == (9, 9)
    assert [part.training for part in net.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net[0].weight.grad is None
    assert not images.requires_grad


@pytest.mark.parametrize("shape", [torch.Size([1, 1, 5, 5]), np.array([1, 1, 5, 5]), [1, 1, 5, 5]])
def test_shapes_of_images_come_as_any_list(shape: Any) -> None:
    (layer,) = receptive_fields(nn.Conv2d(1, 1, 3), shape).values()
    assert layer.shape == (1, 1, 3, 3)


@pytest.mark.parametrize("shape", [3, None, "1155"])
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(TypeError, match=r"^input_shape must be \(N, C, H, W\), all >= 1, got"):
        receptive_fields(nn.Conv2d(1, 1, 3), shape)


def tied() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    net[1].weight = net[0].weight
    net[1].bias = net[0].bias
    return net


def shared_streams() -> nn.Module:
    trunk = VGG16Trunk(in_channels=1, width=0.02, padding="same")
    trunks = {"left": trunk, "right": trunk}
    return FCN(trunks, Head(trunks, 2))


def repeated(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, *layers, *layers)


@pytest.mark.parametrize(
    "make",
    [
        lambda: repeated(nn.Conv2d(2, 2, 3)),
        lambda: repeated(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)),
        lambda: repeated(nn.Sequential(nn.Conv2d(2, 2, 3), nn.PReLU(2))),
        tied,
        shared_streams,
    ],
)
def test_a_net_of_shared_parts_is_left_as_it_was(make: Callable[[], nn.Module]) -> None:
    net = make().eval()
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {name: value.clone() for name, value in state.items()}
    images = torch.rand(1, 2, 17, 19)
    expected = net(images)
    receptive_fields(net, images.shape)
    measured_field(net, list(receptive_fields(net, images.shape))[-1], images)
    after = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    assert list(after) == list(state)
    assert all(after[name] is value for name, value in state.items())
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert torch.equal(net(images), expected)


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


def test_what_is_refused_of_a_measurement() -> None:
    net, images = nn.Sequential(nn.Conv2d(1, 1, 3)), torch.rand(1, 1, 5, 5)
    with pytest.raises(ValueError, match="layer must be one of 0, got 'conv'"):
        measured_field(net, "conv", images)
    with pytest.raises(ValueError, match=r"cell must lie in a map of 3 x 3, got \(3, 0\)"):
        measured_field(net, "0", images, (3, 0))
    with pytest.raises(TypeError, match="images"):
        measured_field(net, "0", [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"images must be floating point, got torch\.int32"):
        measured_field(net, "0", images.int())
    with pytest.raises(ValueError, match=r"images must have shape \(N, C, H, W\), got"):
        measured_field(net, "0", images[0])
    with pytest.raises(ValueError, match=r"cell must lie in a map of 3 x 3, got \(-1, 0\)"):
        receptive_fields(net, images.shape)["0"].sees((-1, 0))

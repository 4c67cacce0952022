"""What cells see of the image, by gradients, beside what the layers' geometry says."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fcn_ext.models import (
    FCN,
    Head,
    Region,
    VGG16Trunk,
    build_model,
    measured_field,
    rarefied,
    receptive_fields,
)

from .field_nets import NETS, Written


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


@pytest.mark.parametrize(
    ("norm", "is_local"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3, track_running_stats=False), False),
        (nn.InstanceNorm2d(3), False),
        (nn.InstanceNorm2d(3, affine=True), False),
        (nn.InstanceNorm2d(3, track_running_stats=True), True),
        (nn.GroupNorm(1, 3), False),
    ],
    ids=str,
)
def test_statistics_of_a_map_see_all_of_it(norm: nn.Module, is_local: bool) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), norm, nn.Conv2d(3, 2, 3, padding=1)).double()
    images = torch.rand(2, 2, 17, 22, dtype=torch.float64)
    last = receptive_fields(net, images.shape)["2"]
    theory = last.sees((8, 9))
    assert theory.holds(Region.around(measured_field(net, "2", images, (8, 9)) > 0))
    assert (theory == Region(6, 11, 7, 12)) == is_local


def test_maxima_see_less_than_their_field() -> None:
    net = NETS["plain"].double()
    images = torch.randn(1, 2, 17, 22, dtype=torch.float64)
    for name, layer in receptive_fields(net, images.shape).items():
        for cell in cells_of(layer.map_size):
            seen = Region.around(measured_field(net, name, images, cell) > 0)
            assert layer.sees(cell).holds(seen)


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


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("made_inside", [False, True])
def test_fields_are_the_same_in_any_mode(
    mode: Callable[[], contextlib.AbstractContextManager[None]], made_inside: bool
) -> None:
    """For inference mode shows operations whole that consist of others."""
    layers = [nn.Conv2d(1, 2, 3), nn.Dropout(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding="same")]
    layers += [nn.BatchNorm2d(2), nn.Upsample(scale_factor=2, mode="bilinear")]
    net, images = nn.Sequential(*layers).eval(), torch.rand(1, 1, 12, 14)
    expected = {name: layer.grids for name, layer in receptive_fields(net, images.shape).items()}
    gradient = measured_field(net, "3", images)
    with mode():
        if made_inside:
            net, images = copy.deepcopy(net), images.clone()
        layers_there = receptive_fields(net, images.shape)
        assert {name: layer.grids for name, layer in layers_there.items()} == expected
        assert torch.equal(measured_field(net, "3", images), gradient)
        dense = rarefied(net[:4], images.shape)
        torch.testing.assert_close(dense(images)[:, :, ::2, ::2], net[:4](images))


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


def test_what_is_refused_of_a_measurement() -> None:
    net, images = nn.Sequential(nn.Conv2d(1, 1, 3)), torch.rand(1, 1, 5, 5)
    with pytest.raises(ValueError, match="layer must be one of 0, got 'conv'"):
        measured_field(net, "conv", images)
    for layer in (None, ["0"], {"0"}, 0):
        with pytest.raises(ValueError, match=r"^layer must be one of 0, got "):
            measured_field(net, layer, images)  # type: ignore[arg-type]
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

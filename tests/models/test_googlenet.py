"""What FCN-GoogLeNet has of its own; test_build.py asks what all nets have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext.models import FCN, FCNGoogLeNet, build_model, load_classifier
from fcn_ext.reference import bilinear_kernel

from .plain_googlenet import INCEPTIONS, caffe_shapes, maps

WAYS = ("1x1", "3x3", "5x5", "pool_proj")


@pytest.fixture(scope="module")
def caffe_layers() -> dict[str, Tensor]:
    """Random numbers in the shape of Caffe's model, in float64."""
    generator = torch.Generator().manual_seed(3)
    layers = {}
    for key, shape in caffe_shapes().items():
        std = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        layers[key] = std * torch.randn(shape, generator=generator, dtype=torch.float64)
    return layers


def _meta(**options) -> FCN:
    with torch.device("meta"):
        return FCNGoogLeNet(**options)


def _random_scores(model: FCN) -> None:
    nn.init.normal_(model.score_fr.weight, std=0.05)
    nn.init.normal_(model.score_fr.bias)


@pytest.mark.parametrize("size", [(1, 1), (61, 140)])
def test_equals_the_net_layer_by_layer(caffe_layers, size):
    model = FCNGoogLeNet(5, dropout=0.0).double()
    load_classifier(model, caffe_layers)
    _random_scores(model)
    image = 50 * torch.randn(1, 3, *size, dtype=torch.float64)
    expected_input, input = image.clone().requires_grad_(), image.clone().requires_grad_()

    features = maps(caffe_layers, expected_input, conv1_padding=100)["inception_5b"]
    scores = model.score_fr(features)
    taps = bilinear_kernel(63)
    kernel = torch.outer(taps, taps).expand(5, 1, 63, 63)
    upscore = F.conv_transpose2d(scores, kernel, stride=32, groups=5)
    expected = upscore[:, :, 98 : 98 + size[0], 98 : 98 + size[1]]
    logits = model(input)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)

    grad = torch.randn_like(expected)
    expected.backward(grad)
    logits.backward(grad)
    torch.testing.assert_close(input.grad, expected_input.grad, rtol=1e-11, atol=1e-12)


def test_has_the_numbers_of_the_paper():
    """Long et al., 2015, Table 1: 6 million parameters; but for the 7x7 average that the net
    leaves out, and with which a cell would see the 907 pixels printed there."""
    model = _meta()
    assert sum(parameter.numel() for parameter in model.parameters()) == 5_995_077
    assert (model.last_stride, model.last_kernel_size, model.last_offset) == (32, 63, 98)
    grid = model.trunk.grids()["inception_5b"]
    assert grid.receptive_field == 715
    assert grid.window(7).receptive_field == 907
    assert _meta(padding="same").last_offset == 31


def test_has_the_parameters_of_caffe():
    """6,998,552 in Caffe's model, but for the classifier's."""
    shapes = caffe_shapes()
    assert sum(np.prod(shape) for shape in shapes.values()) + 1024 * 1000 + 1000 == 6_998_552
    model = _meta()
    state = model.state_dict()
    for layer, source in model.trunk.caffe_layers().items():
        for kind in ("weight", "bias"):
            assert tuple(state[f"{layer}.{kind}"].shape) == shapes.pop(f"{source}.{kind}")
    assert not shapes


@pytest.mark.parametrize("padding", ["published", "same"])
def test_fits_every_image_size(padding):
    with torch.device("meta"):
        model = FCNGoogLeNet(width=1 / 32, padding=padding)
    for size in range(1, 400, 7):
        images = torch.empty(1, 3, size, 400 - size, device="meta")
        assert model(images).shape == (1, 21, size, 400 - size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("padding", ["published", "same"])
def test_a_ramp_stays_where_it_was(padding, way):
    """As in test_build.py, by one of the ways through all inceptions."""
    model = FCNGoogLeNet(1, width=1 / 64, padding=padding).double().eval()
    model.norm1 = model.norm2 = nn.Identity()  # a ramp would not stay one
    _pass_on(model, way)
    height, width = 400, 450
    ramp = torch.arange(height * 1.0, dtype=torch.float64)[:, None]
    ramp = ramp + 2 * torch.arange(width * 1.0, dtype=torch.float64)
    logits = model(ramp.expand(1, 3, height, width))[0, 0]
    # Poolings take what lies one cell on: of 2, 4, 8 and 16 pixels, and those in inceptions of 8
    # (twice), 16 (five times) and 32 (twice).
    ahead = 2 + 4 + 8 + 16 + (2 * 8 + 5 * 16 + 2 * 32 if way == "pool_proj" else 0)
    inner = (slice(64, height - 64 - ahead), slice(64, width - 64 - ahead))
    torch.testing.assert_close(logits[inner], (ramp + 3 * ahead)[inner], rtol=0, atol=1e-10)


@torch.no_grad()
def _pass_on(model: FCN, way: str) -> None:
    """Convolutions that hand one channel on, through ``way`` of each inception."""

    def tap(layer: nn.Module, channel: int) -> None:
        center = layer.kernel_size[0] // 2
        layer.weight[0, channel, center, center] = 1

    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    for name in ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3"):
        tap(model.trunk.get_submodule(name), 0)
    channel = 0
    for name in INCEPTIONS:
        layers = dict(model.trunk.get_submodule(f"inception_{name}").named_children())
        if f"{way}_reduce" in layers:
            tap(layers[f"{way}_reduce"], channel)
            tap(layers[way], 0)
        else:
            tap(layers[way], channel)
        channel = sum(layers[before].out_channels for before in WAYS[: WAYS.index(way)])
    tap(model.score_fr, channel)


def test_torchvisions_net_is_another():
    model = FCNGoogLeNet(width=1 / 32)
    state = {"conv1.conv.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(ValueError, match=r"GoogLeNetTrunk's classifier, but lacks \['conv1/7x7_s2"):
        load_classifier(model, state)
    with pytest.raises(ValueError, match=r"without batch norm, .* got one with"):
        load_classifier(model, {**state, "conv1.bn.running_mean": torch.zeros(64)})


def test_further_input_channels_start_from_the_mean(caffe_layers):
    model = FCNGoogLeNet(in_channels=4).double()
    load_classifier(model, caffe_layers)
    weight = model.conv1_7x7_s2.weight
    torch.testing.assert_close(weight[:, 3], caffe_layers["conv1/7x7_s2.weight"].mean(dim=1))


@pytest.mark.parametrize("padding", ["published", "same"])
def test_batch_norm_takes_the_place_of_response_normalization(padding):
    model = FCNGoogLeNet(5, width=1 / 32, batch_norm=True, padding=padding)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == 3 + 9 * 6
    assert not any(issubclass(kind, nn.LocalResponseNorm) for kind in kinds)
    _random_scores(model)
    model(torch.randn(2, 3, 33, 47)).sum().backward()
    assert model.trunk.get_submodule("inception_4c.5x5_bn").running_mean.count_nonzero() > 0
    # Its own names load, and so do Caffe's.
    other = FCNGoogLeNet(5, width=1 / 32, batch_norm=True, padding=padding)
    other.load_state_dict(model.state_dict())
    named = {
        f"{source}.{key}": value
        for layer, source in model.trunk.caffe_layers().items()
        for key, value in model.trunk.get_submodule(layer).state_dict().items()
    }
    report = load_classifier(FCNGoogLeNet(5, width=1 / 32, batch_norm=True), named)
    assert (report.initial, report.unused) == (("score_fr.weight", "score_fr.bias"), ())


def test_dropout_is_the_trunks_last_step():
    model = FCNGoogLeNet(5, width=1 / 32, dropout=0.5)
    images = torch.randn(1, 3, 40, 40)
    dropped = model.trunk(images)["inception_5b"]
    kept = model.eval().trunk(images)["inception_5b"]
    alive = dropped != 0
    assert 0 < alive.sum() < (kept != 0).sum()
    torch.testing.assert_close(dropped[alive], 2 * kept[alive])


def test_options_of_other_trunks_are_refused():
    with pytest.raises(TypeError, match="fc_channels"):
        build_model("fcn-googlenet", fc_channels=8)
    with pytest.raises(ValueError, match="width must be finite and > 0, got 0"):
        FCNGoogLeNet(width=0)

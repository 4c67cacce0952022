"""The nets of the table, by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fcn_ext.models import (
    FCN8s,
    FCN16s,
    FCN32s,
    FCNAlexNet,
    FCNGoogLeNet,
    FCNSqueezeNet,
    build_classifier,
    build_model,
    build_multi_head_model,
)

from .common import ALL, PUBLISHED, SIZES, build_on_meta, randomize


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_the_published_net(name, size, published_net, narrow):
    net = published_net(name)
    model = build_model(name, **narrow).double()
    model.load_state_dict(net.state_dict())
    image = 50 * torch.randn(2, 3, *size, dtype=torch.float64)
    expected_input, input = image.clone().requires_grad_(), image.clone().requires_grad_()

    expected, logits = net(expected_input), model(input)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)

    grad = torch.randn_like(expected)
    expected.backward(grad)
    logits.backward(grad)
    torch.testing.assert_close(input.grad, expected_input.grad, rtol=1e-11, atol=1e-12)
    expected_grads = dict(net.named_parameters())
    for key, parameter in model.state_dict(keep_vars=True).items():
        gap = (parameter.grad - expected_grads[key].grad).abs().max()
        assert gap <= 1e-12 * expected_grads[key].grad.abs().max(), key


@pytest.mark.parametrize(
    ("name", "parameters", "skip_offsets", "last_offset", "score_size"),
    [
        ("fcn32s", 134_346_581, [], 19, 16),
        ("fcn16s", 134_357_354, [5], 27, 34),
        ("fcn8s", 134_362_751, [5, 9], 31, 70),
        ("fcn8s-atonce", 134_362_751, [5, 9], 31, 70),
    ],
)
def test_has_the_published_numbers(name, parameters, skip_offsets, last_offset, score_size):
    model = build_on_meta(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert list(model.skip_offsets.values()) == skip_offsets
    assert model.last_offset == last_offset
    # Long et al., 2015, Table 1: one cell of the classifier sees 404 pixels.
    assert model.trunk.grids()["fc7"].receptive_field == 404

    sizes = {}
    for layer in ("conv1_2", "pool1", "pool2", "pool3", "pool4", "pool5", "score_fr"):
        getattr(model, layer).register_forward_hook(
            lambda _module, _input, output, layer=layer: sizes.update({layer: output.shape[-1]})
        )
    scores = model.scores(torch.empty(1, 3, 500, 500, device="meta"))
    assert list(sizes.values()) == [698, 349, 175, 88, 44, 22, 16]
    assert scores.shape == (1, 21, score_size, score_size)


def test_scores_lie_where_the_published_ones_do():
    for name, first, stride in [("fcn32s", 12.5, 32), ("fcn16s", -11.5, 16), ("fcn8s", -23.5, 8)]:
        grid = build_on_meta(name).score_grid
        assert [grid.center(cell) for cell in (0, 3)] == [first, first + 3 * stride]


def test_parameters_carry_the_published_names(published_net, narrow):
    for name in PUBLISHED:
        expected = [key for key in published_net(name).state_dict() if "upscore" not in key]
        assert sorted(build_model(name, **narrow).state_dict()) == sorted(expected)


RECORDED = json.loads(Path(__file__).with_name("state_dicts.json").read_text())


@pytest.mark.parametrize("record", RECORDED)
def test_state_dicts_stay_as_they_were(record):
    """Keys in their order, and shapes, which users have in files."""
    name, *norm = record.split("+")
    state = build_on_meta(name, batch_norm=bool(norm)).state_dict()
    assert [(key, list(value.shape)) for key, value in state.items()] == [*RECORDED[record].items()]


def test_initial_values_follow_the_seed_layer_by_layer(narrow):
    """He's values drawn in the order of the layers, after what each layer drew as torch made it."""
    torch.manual_seed(3)
    model = build_model("fcn16s", **narrow)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    state = model.state_dict()
    layers = [key[: -len(".weight")] for key in state if key.endswith(".weight")]
    for layer in layers[:-2]:
        out, inputs, *kernel = state[f"{layer}.weight"].shape
        nn.Conv2d(inputs, out, kernel)
    for layer in layers[:-2]:
        weight = torch.empty_like(state[f"{layer}.weight"])
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        assert torch.equal(weight, state[f"{layer}.weight"]), layer
        assert state[f"{layer}.bias"].count_nonzero() == 0
    for layer in layers[-2:]:
        nn.Conv2d(state[f"{layer}.weight"].shape[1], 5, 1)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("name", ALL)
def test_new_nets_score_zero(name, padding, narrow):
    model = build_model(name, padding=padding, **narrow)
    logits = model(torch.randn(1, 3, 40, 50))
    assert logits.shape == (1, 5, 40, 50)
    assert logits.count_nonzero() == 0
    # The features are alive: zero scores still receive a gradient.
    logits.sum().backward()
    for layer in model.score_layers:
        assert getattr(model, layer).weight.grad.count_nonzero() > 0


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "fcn-alexnet", "fcn-googlenet"])
def test_same_padding_takes_any_size(name):
    model = randomize(build_model(name, num_classes=2, width=1 / 64, padding="same")).eval()
    for height in range(1, 71):
        image = torch.randn(1, 3, height, 71 - height)
        logits = model(image)
        assert logits.shape == (1, 2, height, 71 - height)
        assert logits.isfinite().all()
        # No pixel lies further than half a cell outside the cells' centers.
        cells = model.scores(image).shape
        for axis, pixels in ((2, height), (3, 71 - height)):
            assert model.score_grid.center(0) <= model.last_stride / 2
            assert model.score_grid.center(cells[axis] - 1) >= pixels - 1 - model.last_stride / 2


def make_ramp_net(model: nn.Module, scored: str) -> nn.Module:
    """Convolutions that pass channel 0 on, and one score layer that reads it."""
    for name, parameter in model.state_dict(keep_vars=True).items():
        nn.init.zeros_(parameter)
        is_score = name.startswith("score")
        if name.endswith("weight") and (not is_score or name.startswith(scored)):
            center = parameter.shape[-1] // 2
            with torch.no_grad():
                parameter[0, 0, center, center] = 1
    return model


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("name", "scored", "stride"),
    [
        ("fcn32s", "score_fr", 32),
        ("fcn16s", "score_fr", 32),
        ("fcn16s", "score_pool4", 16),
        ("fcn8s", "score_fr", 32),
        ("fcn8s", "score_pool4", 16),
        ("fcn8s", "score_pool3", 8),
    ],
)
def test_a_ramp_stays_where_it_was(padding, name, scored, stride):
    # The largest value of a pooled window lies (stride - 1) / 2 past the window's center.
    # Interpolation is exact on a ramp, so every score must return raised by just that, if it lies
    # at the center of its window.
    model = build_model(name, num_classes=1, width=1 / 64, padding=padding).double().eval()
    make_ramp_net(model, scored)
    height, width = 203, 170
    ramp = torch.arange(height * 1.0, dtype=torch.float64)[:, None]
    ramp = ramp + 2 * torch.arange(width * 1.0, dtype=torch.float64)
    logits = model(ramp.expand(1, 3, height, width))[0, 0]
    inner = (slice(64, height - 64), slice(64, width - 64))
    torch.testing.assert_close(
        logits[inner], (ramp + 3 * (stride - 1) / 2)[inner], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
def test_same_padding_is_centered_up_to_the_border(name):
    # With symmetric kernels and whole cells, a mirrored image has mirrored logits.
    model = randomize(build_model(name, num_classes=2, width=1 / 64, padding="same")).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter += parameter.flip(2, 3)
    model.eval()
    image = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    mirrored = model(image.flip(2, 3)).flip(2, 3)
    torch.testing.assert_close(mirrored, model(image), rtol=1e-10, atol=1e-10)


def test_options_shape_the_net():
    model = build_on_meta("fcn8s", in_channels=4, num_classes=7, width=0.25, fc_channels=96)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["conv1_1.weight"] == (16, 4, 3, 3)
    assert shapes["conv5_3.weight"] == (128, 128, 3, 3)
    assert shapes["fc6.weight"] == (96, 128, 7, 7)
    assert shapes["fc7.weight"] == (96, 96, 1, 1)
    assert shapes["score_fr.weight"] == (7, 96, 1, 1)
    assert shapes["score_pool3.weight"] == (7, 64, 1, 1)
    assert build_on_meta("fcn8s", width=1e-9).fc6.weight.shape == (1, 1, 7, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"in_channels": -1}, "in_channels must be >= 1, got -1"),
        ({"fc_channels": 0}, "fc_channels must be >= 1, got 0"),
        ({"num_classes": 2**31}, r"num_classes must be < 2\*\*31, got 2147483648"),
        ({"in_channels": 2**40}, r"in_channels must be < 2\*\*31, got 1099511627776"),
        ({"fc_channels": 2**62}, r"fc_channels must be < 2\*\*31, got 4611686018427387904"),
        ({"width": 0}, "width must be finite and > 0, got 0"),
        ({"width": float("nan")}, "width must be finite and > 0, got nan"),
        ({"width": 1e30}, r"width must be <= 65536, got 1e\+30"),
        ({"padding": "valid"}, r"padding must be one of \('published', 'same', .*, got 'valid'"),
        (
            {"padding": "classifier"},
            "padding must be published or same for a net, got 'classifier'",
        ),
        ({"dropout": 1.5}, r"dropout must lie in \[0, 1\], got 1.5"),
        ({"skip_scales": [1, float("nan")]}, "skip_scales must be finite, got nan"),
        ({"skip_scales": [float("inf"), 1]}, "skip_scales must be finite, got inf"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_model("fcn8s", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 2.0}, "num_classes must be an integer, got 2.0"),
        ({"num_classes": True}, "num_classes must be an integer, got True"),
        ({"fc_channels": "8"}, "fc_channels must be an integer, got '8'"),
        ({"width": "a"}, "width must be a number, got 'a'"),
        ({"dropout": None}, "dropout must be a number, got None"),
        ({"batch_norm": "no"}, "batch_norm must be a bool, got 'no'"),
        ({"at_once": "no"}, "at_once must be a bool, got 'no'"),
        ({"at_once": 1}, "at_once must be a bool, got 1"),
        ({"skip_scales": 3}, "skip_scales must be a list of numbers, got 3"),
        ({"skip_scales": "ab"}, "skip_scales must be a number, got 'a'"),
        ({"skip_scales": torch.ones(2)}, "skip_scales must be a number, got tensor"),
        ({"skip_scales": {0.5, 0.1}}, "skip_scales must be a list of numbers, got {0"),
        ({"streams": 3}, "streams must be a list of names, got 3"),
        ({"streams": {"color", "hha"}}, "streams must be a list of names, got {'"),
        ({"streams": frozenset({"hha"})}, "streams must be a list of names, got frozenset"),
        ({"streams": b"ab"}, "streams must be a list of names, got b'ab'"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        build_model("fcn8s", **options)


def test_numbers_of_numpy_are_numbers(narrow):
    options = {**narrow, "num_classes": np.int64(4), "width": np.float32(0.03125)}
    model = build_model("fcn32s", **options)
    assert model(torch.zeros(1, 3, 8, 9)).shape == (1, 4, 8, 9)
    assert type(model.num_classes) is int


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match=r"fcn32s, fcn16s, .*, got 'fcn4s'"):
        build_model("fcn4s")
    for name in (None, 8, ["fcn8s"], {"fcn8s"}):
        with pytest.raises(
            ValueError, match=rf"name must be one of fcn32s, .*, got {re.escape(repr(name))}$"
        ):
            build_model(name)
        with pytest.raises(
            ValueError, match=rf"name must be one of vgg16, .*, got {re.escape(repr(name))}$"
        ):
            build_classifier(name)
    with pytest.raises(TypeError, match="depth"):
        build_model("fcn8s", depth=16)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (FCN32s, "fcn32s"),
        (FCN16s, "fcn16s"),
        (FCN8s, "fcn8s"),
        (FCNAlexNet, "fcn-alexnet"),
        (FCNGoogLeNet, "fcn-googlenet"),
        (FCNSqueezeNet, "fcn-squeezenet"),
    ],
)
def test_rows_have_functions(build, name, narrow):
    narrow = {**narrow, "padding": "same"}
    torch.manual_seed(0)
    expected = build_model(name, **narrow).state_dict()
    torch.manual_seed(0)
    state = build(**narrow).state_dict()
    assert list(state) == list(expected)
    assert all(map(torch.equal, state.values(), expected.values()))


def test_at_once_scales_the_skips(narrow):
    assert FCN8s(at_once=True, **narrow).skip_scales == {"pool4": 0.01, "pool3": 0.0001}
    assert FCN8s(**narrow).skip_scales == {"pool4": 1, "pool3": 1}
    assert FCN16s(at_once=True, **narrow).skip_scales == {"pool4": 0.01}
    assert build_model("fcn8s-atonce", at_once=False, **narrow).skip_scales["pool3"] == 1
    net = build_model("fcn-googlenet-8s-atonce", width=1 / 32)
    assert net.skip_scales == {"pool3": 0.01, "pool2": 0.0001}
    net = build_model("fcn-googlenet-8s", width=1 / 32, skip_scales=(0.3, 0.1))
    assert net.skip_scales == {"pool3": 0.3, "pool2": 0.1}
    with pytest.raises(
        ValueError, match=r"skip_scales must be one number for each skip, 2, got \[1\]"
    ):
        FCN8s(skip_scales=[1])
    with pytest.raises(TypeError, match="at_once is an option of nets with skips"):
        FCN32s(at_once=True)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([3], "heads must be a dict of numbers of classes, got list"),
        (3, "heads must be a dict of numbers of classes, got int"),
        ({"a": {}}, "heads must have num_classes each, got {} for 'a'"),
        ({"a": 3, "b": {"ignore_index": 0}}, "heads must have num_classes each, got .* for 'b'"),
    ],
)
def test_heads_of_a_wrong_type_are_refused(heads: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        build_multi_head_model("fcn32s", heads, width=1 / 32)


@pytest.mark.parametrize("streams", [["a", "a"], ("a", "b", "a"), iter(["b", "b"])])
def test_streams_of_one_name(streams: Any) -> None:
    with pytest.raises(ValueError, match=r"streams must be different names, got '[ab]' more than"):
        build_model("fcn32s", 5, streams=streams, width=1 / 32)

"""Color and depth in one net, early or late, and two sets of classes: the nets of NYUDv2 and SIFT
Flow. What nets of several parts have in common is asked in test_fcn.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import ops
from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import (
    FCN,
    MultiHeadFCN,
    build_model,
    build_multi_head_model,
    initialize_from_coarser,
    initialize_from_streams,
    load_classifier,
)

from .common import randomize
from .conftest import dense_bilinear

STREAMS = ["color", "hha"]


def double(name: str, num_classes: int = 5, **options) -> FCN:
    options = {"width": 1 / 32, "dropout": 0.0, **options}
    return randomize(build_model(name, num_classes, **options).double().eval())


def images_of(channels: int = 6) -> Tensor:
    return torch.randn(2, channels, 40, 61, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fcn32s", {}),
        ("fcn16s", {"padding": "same", "batch_norm": True}),
        ("fcn8s-atonce", {}),
        ("fcn-squeezenet-8s", {"padding": "same"}),
        ("fcn16s", {"context": True}),
    ],
)
def test_two_streams_start_as_the_mean_of_two_nets(name, options):
    """nyud-fcn32s-color-hha, and the paper's FCN-16s RGB-HHA, which was never published."""
    nets = {stream: double(name, **options) for stream in STREAMS}
    model = double(name, streams=STREAMS, **options)
    report = initialize_from_streams(model, nets)
    assert (report.initial, report.unused) == ((), ())
    images = images_of()
    expected = (nets["color"](images[:, :3]) + nets["hha"](images[:, 3:])) / 2
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)
    target = torch.randint(0, 5, (2, 40, 61))
    target[:, :9] = 255
    loss = F.cross_entropy(expected, target, ignore_index=255)
    torch.testing.assert_close(model.loss(images, target), loss, rtol=1e-11, atol=1e-12)


def test_streams_may_have_channels_of_their_own():
    nets = {"color": double("fcn32s"), "depth": double("fcn32s", in_channels=1)}
    model = double("fcn32s", streams={"color": 3, "depth": 1})
    assert model.in_channels == 4
    initialize_from_streams(model, nets)
    images = images_of(4)
    expected = (nets["color"](images[:, :3]) + nets["depth"](images[:, 3:])) / 2
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)


def test_a_finer_net_starts_from_streams_as_from_the_coarser_net_of_them():
    nets = {stream: double("fcn32s") for stream in STREAMS}
    model, coarser = double("fcn16s", streams=STREAMS), double("fcn32s", streams=STREAMS)
    report = initialize_from_streams(model, nets)
    assert {key.rpartition(".")[0] for key in report.initial} == {
        "color.score_pool4",
        "hha.score_pool4",
    }
    initialize_from_streams(coarser, nets)
    images = images_of()
    expected = ops.upsample(coarser.scores(images), 2)
    assert torch.equal(model.scores(images), expected)
    other = double("fcn16s", streams=STREAMS)
    initialize_from_coarser(other, coarser)
    assert torch.equal(other.scores(images), expected)


def test_learned_upsampling_is_nobodys():
    """Streams share it, so that of one net cannot be taken."""
    nets = {stream: double("fcn32s", upsampling="dense") for stream in STREAMS}
    model = double("fcn32s", streams=STREAMS, upsampling="dense")
    before = model.upscore.weight.clone()
    report = initialize_from_streams(model, nets)
    assert report.initial == ("upscore.weight",)
    assert report.unused == ("color: upscore.weight", "hha: upscore.weight")
    assert torch.equal(model.upscore.weight, before)


def test_two_heads_start_from_two_nets_of_them():
    heads = {"sem": 5, "geo": 3}

    def build(**options) -> MultiHeadFCN:
        model = build_multi_head_model("fcn32s", heads, width=1 / 32, dropout=0.0, **options)
        return randomize(model.double().eval())

    nets, model = {stream: build() for stream in STREAMS}, build(streams=STREAMS)
    assert initialize_from_streams(model, nets).initial == ()
    images = images_of()
    color, hha = nets["color"](images[:, :3]), nets["hha"](images[:, 3:])
    for head, found in model(images).items():
        torch.testing.assert_close(found, (color[head] + hha[head]) / 2, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("streams", "change", "message"),
    [
        (["color"], {}, "one for each trunk, color, hha, got color"),
        (["color", "depth"], {}, "one for each trunk, color, hha, got color, depth"),
        (STREAMS, {"padding": "same"}, "hha: its net must have padding='published' as model"),
        (STREAMS, {"context": True}, "hha: its net must have no context, as model has none"),
        (STREAMS, {"batch_norm": True}, "hha: its net must have batch_norm=False as model"),
        (STREAMS, {"num_classes": 4}, r"hha: score_fr\.weight must have shape \(5, 128, 1, 1\)"),
        (STREAMS, {"in_channels": 1}, r"hha: conv1_1\.weight must have shape \(2, 3, 3, 3\), got"),
        (STREAMS, {"name": "fcn-alexnet"}, "hha: its net must be on the trunk of model, VGG16Tr"),
        (STREAMS, {"name": "fcn8s"}, "hha: its net must have no skip that model .*, got pool3"),
        (STREAMS, {"skip_scales": [2.0]}, "hha: its net must scale pool4 by 1.0 as model, got 2.0"),
        (STREAMS, {"streams": ["a", "b"]}, "hha: its net must have one trunk, got a, b"),
    ],
)
def test_unfitting_nets_are_refused_untouched(streams, change, message):
    model = double("fcn16s", streams=STREAMS)
    nets = {stream: double("fcn16s") for stream in streams}
    nets[streams[-1]] = double(**{"name": "fcn16s", **change})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        initialize_from_streams(model, nets)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_wrong_streams_are_refused():
    with pytest.raises(TypeError, match=r"streams must be a list of names, such as \['color'\]"):
        build_model("fcn32s", streams="color")
    with pytest.raises(TypeError, match="in_channels must be left out if streams gives them"):
        build_model("fcn32s", streams={"color": 3}, in_channels=3)
    for none in ([], {}, iter([])):
        with pytest.raises(ValueError, match="streams must have at least one name, got none"):
            build_model("fcn32s", streams=none)
    for name in ("a.b", "", "keys"):
        for streams in ([name, "color"], {name: 3}):
            with pytest.raises(ValueError, match=r"^streams must have names without dots"):
                build_model("fcn32s", streams=streams)
    with pytest.raises(TypeError, match=r"^streams must have strings for names, got 1$"):
        build_model("fcn32s", streams=[1, 2])
    with pytest.raises(ValueError, match=r"in_channels must be >= 1, got 0"):
        build_model("fcn32s", streams={"color": 0})


# ------------------------------------------------------------------ early fusion


def test_early_fusion_is_a_fourth_channel(published_net):
    """nyud-fcn32s-color-d: the filters of depth are the mean of the three of color, so a picture
    whose depth is d and whose colors are c answers as one of colors c + d / 3."""
    color = published_net("fcn32s")
    model = double("fcn32s", in_channels=4)
    report = load_classifier(model, color.state_dict())
    assert "conv1_1.weight" in report.loaded
    state = {**color.state_dict(), "conv1_1.weight": model.conv1_1.weight}
    del state["upscore.weight"]
    model.load_state_dict(state)
    images = images_of(4)
    expected = color(images[:, :3] + images[:, 3:] / 3)
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)


# ------------------------------------------------------------------ published state dicts


def test_published_names_of_two_streams_load():
    model, other = double("fcn32s", streams=STREAMS), double("fcn32s", streams=STREAMS)
    state = {
        f"{layer}{part}.{kind}": value
        for key, value in model.state_dict().items()
        for part, layer, kind in [key.split(".")]
    }
    assert {"conv1_1color.weight", "fc7hha.bias", "score_frcolor.weight"} <= state.keys()
    state["upscore.weight"] = dense_bilinear(5, 64)
    assert other.load_state_dict(state) == ([], [])
    images = images_of()
    assert torch.equal(other(images), model(images))
    assert next(iter(other.state_dict())) == "color.conv1_1.weight"
    state["upscore.weight"] = 2 * state["upscore.weight"]
    with pytest.raises(RuntimeError, match=r"upscore\.weight must be the bilinear kernel"):
        other.load_state_dict(state)


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
def test_published_names_of_two_heads_load(name):
    def build() -> MultiHeadFCN:
        model = build_multi_head_model(name, {"sem": 5, "geo": 3}, width=1 / 32, dropout=0.0)
        return randomize(model.double().eval())

    model, other = build(), build()
    state = {}
    for key, value in model.state_dict().items():
        head, _, rest = key.partition(".")
        layer, _, kind = rest.partition(".")
        state[f"{layer}_{head}.{kind}" if head in ("sem", "geo") else key] = value
    assert {"score_fr_sem.weight", "score_fr_geo.bias", "conv1_1.weight"} <= state.keys()
    if name == "fcn8s":
        state["upscore_pool4_geo.weight"] = dense_bilinear(3, 4)
    assert other.load_state_dict(state) == ([], [])
    images = images_of(3)
    for head, found in other(images).items():
        assert torch.equal(found, model(images)[head])


def test_published_name_of_the_four_channels_loads():
    model, other = double("fcn32s", in_channels=4), double("fcn32s", in_channels=4)
    state = model.state_dict()
    for kind in ("weight", "bias"):
        state[f"conv1_1_bgrd.{kind}"] = state.pop(f"conv1_1.{kind}")
    assert other.load_state_dict(state) == ([], [])
    assert torch.equal(other.conv1_1.weight, model.conv1_1.weight)
    with pytest.raises(RuntimeError, match="conv1_1_bgrd"):
        double("fcn32s").load_state_dict(state)


# ------------------------------------------------------------------ two heads by name


@pytest.mark.parametrize("name", ["fcn16s", "fcn-googlenet-8s"])
def test_heads_share_the_net_of_a_name(name):
    """siftflow-fcn16s: each head has its own scores of every map; the losses are summed."""
    heads = {"sem": 7, "geo": {"num_classes": 3, "ignore_index": 9, "loss_weight": 0.5}}
    model = build_multi_head_model(name, heads, width=1 / 32, dropout=0.0)
    randomize(model.double().eval())
    images = images_of(3)
    target = {
        "sem": torch.randint(0, 7, (2, 40, 61)),
        "geo": torch.randint(0, 3, (2, 40, 61)),
    }
    target["sem"][:, :5] = 255
    target["geo"][:, 3:9] = 9
    expected, matrices = [], {}
    for head, (classes, void, weight) in {"sem": (7, 255, 1.0), "geo": (3, 9, 0.5)}.items():
        alone = double(name, classes)
        prefix = f"{head}."
        state = {key.removeprefix(prefix): value for key, value in model.state_dict().items()}
        alone.load_state_dict({key: state[key] for key in alone.state_dict()})
        logits = alone(images)
        torch.testing.assert_close(model(images)[head], logits, rtol=1e-12, atol=1e-12)
        loss = F.cross_entropy(logits, target[head], ignore_index=void, reduction="sum")
        expected.append(weight * loss)
        matrices[head] = ConfusionMatrix(classes, ignore_index=void)
    loss = model.loss(images, target, reduction="sum")
    torch.testing.assert_close(loss, sum(expected), rtol=1e-11, atol=1e-11)
    model.evaluate(images, target, matrices)
    counted = {head: matrix.compute().num_pixels for head, matrix in matrices.items()}
    assert counted == {"sem": 2 * 35 * 61, "geo": 2 * 34 * 61}


def test_wrong_heads_are_refused():
    for heads, error, message in [
        ({}, ValueError, "heads must hold at least one Head, got none"),
        ({"a": 0}, ValueError, "num_classes must be >= 1, got 0"),
        ({"a": {}}, TypeError, "num_classes"),
        ({"a": {"num_classes": 2, "colour": 1}}, TypeError, "colour"),
        ({"a": 2.5}, TypeError, "num_classes must be an integer, got 2.5"),
    ]:
        with pytest.raises(error, match=message):
            build_multi_head_model("fcn32s", heads, width=1 / 64)

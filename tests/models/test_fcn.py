"""Nets of trunks and heads."""

from __future__ import annotations

import copy
import inspect
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_ext import ops
from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import FCN, Head, MultiHeadFCN, VGG16Trunk, build_model

from .common import ALL, OTHER_SIZES, randomize


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("name", ALL)
def test_logits_are_the_upsampled_scores(name, padding, narrow):
    model = randomize(build_model(name, padding=padding, **narrow)).eval()
    images = torch.randn(2, 3, 21, 37)
    expected = ops.upsample(
        model.scores(images),
        model.last_stride,
        kernel_size=model.last_kernel_size,
        offset=model.last_offset,
        output_size=images.shape[-2:],
    )
    assert torch.equal(model(images), expected)


def test_empty_batch(narrow):
    assert build_model("fcn8s", **narrow)(torch.empty(0, 3, 20, 30)).shape == (0, 5, 20, 30)


@pytest.mark.parametrize("padding", ["published", "same"])
def test_channels_last(padding, narrow):
    model = randomize(build_model("fcn8s", padding=padding, **narrow)).double().eval()
    images = torch.randn(2, 3, 35, 50, dtype=torch.float64)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    logits = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["published", "same"])
def test_compiles_as_one_graph(padding, narrow):
    model = randomize(build_model("fcn8s", padding=padding, **narrow)).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for size in [(33, 47), (64, 65)]:
        images = torch.randn(1, 3, *size)
        torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize("padding", ["published", "same"])
def test_exports_with_dynamic_sizes(padding, narrow):
    model = randomize(build_model("fcn8s", padding=padding, **narrow)).eval()
    dynamic = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    exported = torch.export.export(model, (torch.randn(2, 3, 96, 80),), dynamic_shapes=(dynamic,))
    for batch, size in enumerate(OTHER_SIZES, start=1):
        images = torch.randn(batch, 3, *size)
        torch.testing.assert_close(exported.module()(images), model(images))


def test_autocast_gives_bfloat16_logits(narrow):
    model = randomize(build_model("fcn8s", padding="same", **narrow)).eval()
    images = torch.randn(1, 3, 96, 80)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.bfloat16
    expected = model(images)
    # Twenty layers, each rounded to 2^-8.
    gap = (logits.float() - expected).abs().max().item()
    assert gap <= 20 * 2**-8 * expected.abs().max().item()


def test_a_copy_is_independent(narrow):
    model = randomize(build_model("fcn8s-atonce", **narrow)).eval()
    images = torch.randn(1, 3, 9, 9)
    expected = model(images)
    duplicate = copy.deepcopy(model)
    nn.init.zeros_(model.fc6.weight)
    assert torch.equal(duplicate(images), expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"shape \(N, 3, H, W\) .* got \(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8), r"shape \(N, 3, H, W\) .* got \(1, 4, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8), r"H, W >= 1, got \(1, 3, 0, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floating point, got torch.uint8"),
    ],
)
def test_wrong_images_are_refused(images, message, narrow):
    with pytest.raises(ValueError, match=message):
        build_model("fcn32s", **narrow)(images)


# ------------------------------------------------------------------ several trunks


def two_streams(padding: str = "published", **options) -> FCN:
    """Color and a depth of one channel, each with skips of its own, fused late."""
    trunks = {
        "color": VGG16Trunk(width=1 / 32, dropout=0.0, padding=padding),
        "depth": VGG16Trunk(width=1 / 32, dropout=0.0, padding=padding, in_channels=1),
    }
    return FCN(trunks, Head(trunks, 5, **options))


def alone(model: FCN, name: str, **options) -> FCN:
    """The net of one of the streams, with its numbers."""
    trunk = copy.deepcopy(model.trunks[name])
    net = FCN(trunk, Head(trunk, 5, **options)).double()
    prefix = f"{name}."
    state = model.state_dict()
    state = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("skips", [(), ("pool4",), ("pool4", "pool3")])
def test_two_streams_are_half_of_each(skips, padding):
    """nyud-fcn32s-color-hha: 0.5 + 0.5; with skips on both streams alike, all being linear."""
    model = randomize(two_streams(padding, skips=skips)).double().eval()
    assert model.in_channels == 4
    images = torch.randn(2, 4, 40, 61, dtype=torch.float64)
    color, depth = alone(model, "color", skips=skips), alone(model, "depth", skips=skips)
    expected = (color(images[:, :3]) + depth(images[:, 3:])) / 2
    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)
    target = torch.randint(0, 5, (2, 40, 61))
    loss = model.loss(images, target)
    torch.testing.assert_close(loss, F.cross_entropy(expected, target), rtol=1e-12, atol=1e-12)
    assert torch.equal(model.predict(images), model(images).argmax(1))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_shares_of_the_streams_are_free():
    model = randomize(two_streams(trunk_weights={"color": 1, "depth": 0.25})).double().eval()
    images = torch.randn(1, 4, 20, 31, dtype=torch.float64)
    expected = alone(model, "color")(images[:, :3]) + alone(model, "depth")(images[:, 3:]) / 4
    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)


def test_two_streams_name_their_layers_by_trunk():
    model = two_streams(skips=["pool4"])
    single = build_model("fcn16s", width=1 / 32, num_classes=5)
    names = [f"{trunk}.{key}" for trunk in ("color", "depth") for key in single.state_dict()]
    assert sorted(model.state_dict()) == sorted(names)
    assert model.score_layers[-1] == "depth.score_pool4"
    with pytest.raises(ValueError, match="trunk must be the only one, got trunks color, depth"):
        model.trunk  # noqa: B018


def test_whoever_looks_at_all_attributes_passes_over_the_only_trunk():
    """Of several there is none; torch.jit.trace and inspect ask for every attribute."""
    model = two_streams(skips=["pool4"]).float().eval()
    assert not hasattr(model, "trunk")
    assert hasattr(build_model("fcn32s", width=1 / 32), "trunk")
    assert "trunks" in dict(inspect.getmembers(model))
    with pytest.raises(AttributeError, match="has no attribute 'trunk_of_elm'"):
        model.trunk_of_elm  # noqa: B018
    images = torch.randn(1, model.in_channels, 20, 31)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and warns of every check
        traced = torch.jit.trace(model, images)
    torch.testing.assert_close(traced(images), model(images))


@pytest.mark.parametrize("make", ["two_streams", "two_heads"])
def test_nets_of_several_parts_are_saved_and_loaded(make):
    build = globals()[make]
    model, other = randomize(build()).eval(), build().eval()
    images = torch.randn(1, model.in_channels, 30, 21)
    expected = model.scores(images)
    other.load_state_dict(model.state_dict())
    for net in (other, copy.deepcopy(model)):
        torch.testing.assert_close(net.scores(images), expected, rtol=0, atol=0)
    keys = list(model.state_dict())
    with pytest.raises(RuntimeError, match=f'Missing key.*"{keys[0]}"'):
        other.load_state_dict({key: model.state_dict()[key] for key in keys[1:]})


@pytest.mark.parametrize("make", ["two_streams", "two_heads"])
def test_nets_of_several_parts_compile_and_export(make):
    model = randomize(globals()[make]("same")).eval()
    images = torch.randn(2, model.in_channels, 96, 80)
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(compiled(images), model(images))
    dynamic = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    exported = torch.export.export(model, (images,), dynamic_shapes=(dynamic,))
    for size in OTHER_SIZES:
        images = torch.randn(1, model.in_channels, *size)
        torch.testing.assert_close(exported.module()(images), model(images))


# ------------------------------------------------------------------ several heads


def two_heads(padding: str = "published", **options) -> MultiHeadFCN:
    trunk = VGG16Trunk(width=1 / 32, dropout=0.0, padding=padding)
    semantic = Head(trunk, 7, skips=["pool4", "pool3"])
    geometric = Head(trunk, 3, skips=["pool4"], ignore_index=9, loss_weight=0.5)
    return MultiHeadFCN(trunk, {"semantic": semantic, "geometric": geometric})


def batch_of_two_heads():
    images = torch.randn(2, 3, 40, 61, dtype=torch.float64)
    target = {
        "semantic": torch.randint(0, 7, (2, 40, 61)),
        "geometric": torch.randint(0, 3, (2, 40, 61), dtype=torch.uint8),
    }
    target["semantic"][:, :5] = 255
    target["geometric"][:, 3:9] = 9
    return images, target


@pytest.mark.parametrize("padding", ["published", "same"])
def test_two_heads_are_two_nets_on_one_trunk(padding):
    model = randomize(two_heads(padding)).double().eval()
    images, target = batch_of_two_heads()
    nets = {name: FCN(model.trunks["main"], head) for name, head in model.heads.items()}
    logits, scores, labels = model(images), model.scores(images), model.predict(images)
    matrices = {"semantic": ConfusionMatrix(7), "geometric": ConfusionMatrix(3, ignore_index=9)}
    model.evaluate(images, target, matrices)
    for name, net in nets.items():
        assert torch.equal(logits[name], net(images))
        assert torch.equal(scores[name], net.scores(images))
        assert torch.equal(labels[name], net.predict(images))
        expected = ConfusionMatrix(net.num_classes, ignore_index=net.ignore_index)
        net.evaluate(images, target[name], expected)
        assert torch.equal(matrices[name].matrix, expected.matrix)
        assert expected.compute().num_pixels == (target[name] != net.ignore_index).sum()
    losses = {name: net.loss(images, target[name]) for name, net in nets.items()}
    for name, loss in model.losses(images, target).items():
        assert torch.equal(loss, losses[name])
    joint = losses["semantic"] + 0.5 * losses["geometric"]
    torch.testing.assert_close(model.loss(images, target), joint, rtol=1e-12, atol=1e-12)
    weight = {"geometric": torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)}
    weighted = losses["semantic"] + 0.5 * nets["geometric"].loss(
        images, target["geometric"], weight=weight["geometric"]
    )
    torch.testing.assert_close(model.loss(images, target, weight=weight), weighted)


@pytest.mark.parametrize("head", ["semantic", "geometric"])
@pytest.mark.parametrize("wrong", ["dtype", "device", "shape", "classes"])
def test_a_head_whose_batch_is_refused_leaves_the_other_uncounted(head, wrong):
    model = two_heads().double().eval()
    images, target = batch_of_two_heads()
    matrices = {"semantic": ConfusionMatrix(7), "geometric": ConfusionMatrix(3, ignore_index=9)}
    if wrong == "dtype":
        target[head] = target[head].float()
    elif wrong == "device":
        target[head] = target[head].to("meta")
    elif wrong == "shape":
        target[head] = target[head][:, 1:]
    else:
        matrices[head] = ConfusionMatrix(5)
    with pytest.raises(ValueError, match="must"):
        model.evaluate(images, target, matrices)
    for matrix in matrices.values():
        assert int(matrix.matrix.sum()) == 0
        assert "device=None" in repr(matrix)


def test_threads_wait_for_the_counts_of_heads_in_one_order():
    """Whatever the order of the dicts; and not while the net runs, which takes longest."""
    events = []

    class Watched(ConfusionMatrix):
        def all_or_nothing(self):
            events.append(self)
            return super().all_or_nothing()

    model = two_heads().double().eval()
    model.trunks["main"].register_forward_hook(lambda *_: events.append("net"))
    images, target = batch_of_two_heads()
    matrices = {"semantic": Watched(7), "geometric": Watched(3, ignore_index=9)}
    model.evaluate(images, target, matrices)
    first = list(events)
    events.clear()
    model.evaluate(images, target, dict(reversed(matrices.items())))
    assert first[0] == "net"
    assert len(first) == 3
    assert all(own is other for own, other in zip(first, events, strict=True))


def test_the_trunk_runs_once_for_all_heads():
    model = two_heads().double()
    ran = []
    model.trunks["main"].register_forward_hook(lambda *_: ran.append(1))
    model.loss(*batch_of_two_heads()).backward()
    assert len(ran) == 1


def test_two_heads_name_their_layers_by_head():
    keys = [key for key in two_heads().state_dict() if "score" in key]
    assert keys == [
        *(f"semantic.score_{n}.{k}" for n in ("fr", "pool4", "pool3") for k in ("weight", "bias")),
        *(f"geometric.score_{n}.{k}" for n in ("fr", "pool4") for k in ("weight", "bias")),
    ]
    assert "conv1_1.weight" in two_heads().state_dict()


def test_two_heads_on_two_streams():
    trunks = {name: VGG16Trunk(width=1 / 32, dropout=0.0) for name in ("color", "depth")}
    heads = {"semantic": Head(trunks, 4), "geometric": Head(trunks, 2, upsampling="dense")}
    model = randomize(MultiHeadFCN(trunks, heads)).eval()
    maps = model(torch.randn(1, 6, 20, 30))
    assert [map.shape for map in maps.values()] == [(1, 4, 20, 30), (1, 2, 20, 30)]
    assert "semantic.depth.score_fr.weight" in model.state_dict()
    assert "geometric.upscore.weight" in model.state_dict()


def test_wrong_entries_are_refused():
    model = two_heads().double()
    images, target = batch_of_two_heads()
    with pytest.raises(ValueError, match="each head, semantic, geometric, got semantic"):
        model.loss(images, {"semantic": target["semantic"]})
    with pytest.raises(TypeError, match="target must be a dict by head, got Tensor"):
        model.loss(images, target["semantic"])
    with pytest.raises(ValueError, match=r"target must have .* \(2, 40, 61\), got \(2, 40, 60\)"):
        model.loss(images, {**target, "geometric": target["geometric"][..., 1:]})
    matrices = {"semantic": ConfusionMatrix(7), "geometric": ConfusionMatrix(4)}
    with pytest.raises(ValueError, match="count the net's classes, 3, got 4"):
        model.evaluate(images, target, matrices)
    assert matrices["semantic"].matrix.sum() == 0
    for wrong in (None, torch.zeros(3, 3, dtype=torch.int64)):
        with pytest.raises(TypeError, match=r"^matrix must be a ConfusionMatrix, got"):
            model.evaluate(images, target, {**matrices, "geometric": wrong})
    with pytest.raises(TypeError, match=r"^weight must be a dict by head, got Tensor"):
        model.loss(images, target, weight=torch.ones(3))
    with pytest.raises(ValueError, match=r"^weight must be of heads, .*, got one for 'geo'"):
        model.losses(images, target, weight={"geo": torch.ones(3)})


@pytest.mark.parametrize("skips", [[], ["pool4"]])
@pytest.mark.parametrize(
    ("made", "given", "message"),
    [
        ({"width": 1 / 16}, {}, "got one for 256 channels of fc7, beside a .* fc7 has 128"),
        ({"padding": "same"}, {}, "got one whose fc7 has its first cell at pixel"),
        ({}, {"padding": "same"}, "got one whose fc7 has its first cell at pixel"),
        ({}, {"top": "pool5"}, "got one that scores fc7, beside a VGG16Trunk of .*, pool5$"),
    ],
)
def test_a_head_of_another_trunk_is_refused(skips, made, given, message):
    options = {"width": 1 / 32}
    head = Head(VGG16Trunk(**{**options, **made}), 3, skips=skips)
    message = f"^heads must be made for the net's trunks, {message}"
    with pytest.raises(ValueError, match=message):
        FCN(VGG16Trunk(**{**options, **given}), head)
    with pytest.raises(ValueError, match=message):
        MultiHeadFCN(VGG16Trunk(**{**options, **given}), {"a": head})
    assert FCN(VGG16Trunk(**{**options, **made}), head).head is head


def test_parts_that_do_not_fit_are_refused():
    trunk, other = VGG16Trunk(width=1 / 32), VGG16Trunk(width=1 / 32)
    with pytest.raises(TypeError, match="MultiHeadFCN takes several"):
        FCN(trunk, {"a": Head(trunk, 3)})
    with pytest.raises(TypeError, match=r"^head must be a Head, got Linear$"):
        FCN(trunk, torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="made for the net's trunks, a, b, got one for main"):
        FCN({"a": trunk, "b": other}, Head(trunk, 3))
    with pytest.raises(ValueError, match="heads must hold at least one Head, got none"):
        MultiHeadFCN(trunk, {})
    for name in ("a.b", "", "keys"):
        with pytest.raises(ValueError, match="trunks must have names without dots"):
            FCN({name: trunk}, Head(trunk, 3))
    with pytest.raises(TypeError, match=r"trunks must have strings for names, got 1$"):
        FCN({1: trunk}, Head(trunk, 3))
    with pytest.raises(TypeError, match=r"heads must have strings for names, got None$"):
        MultiHeadFCN(trunk, {None: Head(trunk, 3)})

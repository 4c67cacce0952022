"""Upsampling, fixed and learned, and state dicts that have its kernels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import FCN, FCN8s, GoogLeNetTrunk, Head, build_model, initialize_from_coarser

from .common import OTHER_SIZES, randomize

NAMES = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_bilinear_kernels_are_left_out(name, dtype, published_net, narrow):
    state = {key: value.to(dtype) for key, value in published_net(name).state_dict().items()}
    keys = list(state)
    model = build_model(name, **narrow)
    result = model.load_state_dict(state)
    assert result.missing_keys == []
    assert result.unexpected_keys == []
    assert list(state) == keys, "the caller's state dict stays whole"
    torch.testing.assert_close(model.fc6.weight, state["fc6.weight"].float())


def test_depthwise_kernels_are_left_out(published_net, narrow):
    state = published_net("fcn8s").state_dict()
    for key in ("upscore2.weight", "upscore_pool4.weight", "upscore8.weight"):
        state[key] = state[key].diagonal().permute(2, 0, 1).unsqueeze(1)
    build_model("fcn8s", **narrow).load_state_dict(state)


def test_loads_as_part_of_another_module(published_net, narrow):
    state = {f"net.{key}": value for key, value in published_net("fcn8s").state_dict().items()}
    parent = nn.ModuleDict({"net": build_model("fcn8s", **narrow)})
    parent.load_state_dict(state)
    state["net.upscore8.weight"] = state["net.upscore8.weight"] * 1.01
    with pytest.raises(RuntimeError, match=r"net\.upscore8\.weight must be the bilinear kernel"):
        parent.load_state_dict(state)


def learned(weight):
    return weight + 1e-3


def off_diagonal(weight):
    weight = weight.clone()
    weight[0, 1, 2, 2] = 1e-6
    return weight


def not_a_number(weight):
    weight = weight.clone()
    weight[1, 1, 0, 0] = float("nan")
    return weight


def scaled(weight):
    return weight * (1 + 1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (learned, "must not mix classes"),
        (off_diagonal, "must not mix classes"),
        (not_a_number, "must be the bilinear kernel of size 4, as upsampling is fixed here"),
        (scaled, ".* differs by up to .*e-06, so it was probably learned"),
        (lambda weight: weight[:, :, :3, :3], r"must have shape \(5, 5, 4, 4\) or \(5, 1, 4, 4\)"),
        (lambda weight: weight.long(), "must be a floating-point tensor, got torch.int64"),
        (lambda weight: weight.to_sparse(), "must be an ordinary dense tensor, got torch.sparse"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_other_kernels_are_refused_by_name(change, message, strict, published_net, narrow):
    state = published_net("fcn16s").state_dict()
    state["upscore2.weight"] = change(state["upscore2.weight"])
    with pytest.raises(RuntimeError, match=rf"upscore2\.weight {message}"):
        build_model("fcn16s", **narrow).load_state_dict(state, strict=strict)


def test_kernels_of_another_net_are_unexpected(published_net, narrow):
    state = published_net("fcn32s").state_dict()
    result = build_model("fcn8s", **narrow).load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["upscore.weight"]


def test_own_state_dict_returns(narrow):
    model = build_model("fcn8s", **narrow)
    other = build_model("fcn8s", **narrow)
    other.load_state_dict(model.state_dict())
    assert all(map(torch.equal, other.parameters(), model.parameters()))


# ------------------------------------------------------------------ learned

PAPER = {"upscore2": "dense", "upscore_pool4": "dense"}  # the paper's text; the last is fixed
KINDS = ["depthwise", "dense", PAPER]


def learned_net(upsampling, name: str = "fcn8s", **options) -> FCN:
    model = build_model(name, num_classes=5, width=1 / 32, upsampling=upsampling, **options)
    return model.double().eval()


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("upsampling", KINDS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_learned_kernels_start_as_the_fixed_ones(upsampling, padding, size):
    model = learned_net(upsampling, padding=padding)
    fixed = randomize(learned_net("fixed", padding=padding))
    result = model.load_state_dict(fixed.state_dict(), strict=False)
    assert result.missing_keys == [
        f"{name}.weight" for name, kind in model.head.upsampling.items() if kind != "fixed"
    ]
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(model(images), fixed(images), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("upsampling", KINDS, ids=str)
def test_learned_kernels_are_trained(upsampling):
    model = randomize(learned_net(upsampling))
    images = torch.randn(1, 3, 40, 61, dtype=torch.float64)
    before = model(images)
    model.loss(images, torch.randint(0, 5, (1, 40, 61))).backward()
    learned = [name for name, kind in model.head.upsampling.items() if kind != "fixed"]
    for name in learned:
        assert getattr(model, name).weight.grad.count_nonzero() > 0
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    assert not torch.equal(model(images), before)
    other = learned_net(upsampling)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("upsampling", KINDS, ids=str)
def test_what_scores_give_is_what_logits_give(upsampling):
    """Where the last upsampling is learned, the scores have full size already."""
    model = randomize(learned_net(upsampling))
    images = torch.randn(2, 3, 40, 61, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 40, 61))
    target[:, :7] = 255
    logits = model(images)
    if upsampling is not PAPER:
        assert torch.equal(model.scores(images), logits)
        assert model.last_stride == 1
    expected = F.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(model.loss(images, target), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(model.predict(images), logits.argmax(1))
    matrix, wanted = ConfusionMatrix(5), ConfusionMatrix(5)
    model.evaluate(images, target, matrix)
    wanted.update(logits.detach(), target)
    assert torch.equal(matrix.matrix, wanted.matrix)


def test_published_kernels_that_were_trained_load(published_net):
    """Into layers that learn; and the net is the published one."""
    net = published_net("fcn8s")
    for name in ("upscore2", "upscore_pool4", "upscore8"):
        nn.init.normal_(getattr(net, name).weight)
    model = learned_net("dense", dropout=0.0)
    assert model.load_state_dict(net.state_dict()) == ([], [])
    images = torch.randn(2, 3, 33, 47, dtype=torch.float64)
    torch.testing.assert_close(model(images), net(images), rtol=1e-11, atol=1e-11)


def test_kernels_load_in_either_shape():
    dense, depthwise = learned_net("dense"), learned_net("depthwise")
    for name in depthwise.head.upsampling:
        nn.init.normal_(getattr(depthwise, name).weight)
    dense.load_state_dict(depthwise.state_dict())
    images = torch.randn(1, 3, 20, 31, dtype=torch.float64)
    torch.testing.assert_close(dense(images), depthwise(images), rtol=1e-12, atol=1e-12)
    other = learned_net("depthwise")
    other.load_state_dict(dense.state_dict())
    assert torch.equal(other(images), depthwise(images))
    nn.init.normal_(dense.upscore2.weight)
    with pytest.raises(RuntimeError, match=r"upscore2\.weight mixes classes.*upsampling=\"dense\""):
        other.load_state_dict(dense.state_dict())
    state = {**depthwise.state_dict(), "upscore8.weight": torch.zeros(5, 5, 4, 4)}
    with pytest.raises(RuntimeError, match=r"upscore8\.weight must have shape \(5, 5, 16, 16\)"):
        other.load_state_dict(state)


@pytest.mark.parametrize("source", ["dense", "depthwise"])
@pytest.mark.parametrize("target", ["fixed", "dense", "depthwise"])
def test_kernels_without_memory_load_in_either_shape(source, target):
    with torch.device("meta"):
        state = learned_net(source).state_dict()
        model = learned_net(target)
    assert model.load_state_dict(state, assign=True) == ([], [])
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("source", ["dense", "depthwise"])
@pytest.mark.parametrize("target", ["fixed", "dense", "depthwise"])
def test_kernels_load_whatever_the_default_device(source, target):
    """As a net is loaded that is built without memory."""
    net = learned_net(source)
    state = net.state_dict()
    with torch.device("meta"):
        model = learned_net(target)
        assert model.load_state_dict(state, assign=True) == ([], [])
        if target != "fixed":
            model.upscore2.reset_parameters()
    images = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    torch.testing.assert_close(model(images), net(images))


@pytest.mark.parametrize("source", ["dense", "depthwise"])
@pytest.mark.parametrize("target", ["fixed", "dense", "depthwise"])
def test_kernels_of_eight_bits_load(source, target):
    state = learned_net(source).state_dict()
    narrow = {
        name: value.to(torch.float8_e4m3fn) if name.startswith("upscore") else value
        for name, value in state.items()
    }
    model = learned_net(target)
    assert model.load_state_dict(narrow) == ([], [])
    if target != "fixed":
        assert torch.equal(model.upscore2.weight, learned_net(target).upscore2.weight)


@pytest.mark.parametrize(("source", "target"), [("dense", "depthwise"), ("depthwise", "dense")])
def test_assigned_kernels_of_another_shape_have_memory_of_their_own(source, target):
    net, model = learned_net(source), learned_net(target)
    model.load_state_dict(net.state_dict(), assign=True)
    for name in model.head.upsampling:
        own, other = (getattr(part, name).weight for part in (model, net))
        assert own.is_contiguous()
        assert own.untyped_storage().nbytes() == own.numel() * own.itemsize
        assert own.untyped_storage().data_ptr() != other.untyped_storage().data_ptr()


def test_learned_kernels_of_one_layer_alone():
    model = FCN8s(5, width=1 / 32, upsampling={"upscore_pool4": "depthwise"})
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes["upscore_pool4.weight"] == (5, 1, 4, 4)
    assert [key for key in shapes if key.startswith("up")] == ["upscore_pool4.weight"]


@pytest.mark.parametrize(
    ("kinds", "name", "expected"),
    [
        ("dense", "fcn8s", ["dense", "dense", "dense"]),
        ({"inner": "dense"}, "fcn8s", ["dense", "dense", "fixed"]),
        ({"last": "depthwise"}, "fcn8s", ["fixed", "fixed", "depthwise"]),
        ({"upscore2": "fixed", "inner": "dense"}, "fcn8s", ["fixed", "dense", "fixed"]),
        ({"inner": "dense", "last": "depthwise"}, "fcn32s", ["depthwise"]),
        ({"inner": "dense"}, "fcn32s", ["fixed"]),
    ],
)
def test_inner_and_last_layers_go_by_these_names(kinds, name, expected):
    model = build_model(name, 3, width=1 / 64, upsampling=kinds)
    assert list(model.head.upsampling.values()) == expected
    assert model.upsampling_layers == tuple(model.head.upsampling)


def test_odd_kernels_are_learned_too():
    """GoogLeNet's fusions ask for a side of 3."""
    trunk = GoogLeNetTrunk(width=1 / 32, padding="same", dropout=0.0)
    fixed = FCN(trunk, Head(trunk, 5, skips=["pool3", "pool2"]))
    model = FCN(trunk, Head(trunk, 5, skips=["pool3", "pool2"], upsampling="dense"))
    randomize(fixed)
    model.load_state_dict(fixed.state_dict(), strict=False)
    assert model.upscore2.weight.shape == (5, 5, 3, 3)
    images = torch.randn(1, 3, 65, 90)
    torch.testing.assert_close(model(images), fixed(images), rtol=1e-4, atol=1e-4)


def test_finer_nets_start_as_coarser_ones_with_learned_kernels():
    coarser = randomize(learned_net({"upscore2": "dense"}, "fcn16s"))
    model = randomize(learned_net(PAPER))
    report = initialize_from_coarser(model, coarser)
    assert "upscore2.weight" in report.loaded
    assert "upscore_pool4.weight" in report.initial
    assert report.unused == ()
    images = torch.randn(1, 3, 40, 61, dtype=torch.float64)
    expected = model.upscore_pool4(coarser.scores(images))
    torch.testing.assert_close(model.scores(images), expected, rtol=1e-12, atol=1e-12)
    plain = learned_net("fixed").upscore_pool4(coarser.scores(images))
    torch.testing.assert_close(model.scores(images), plain, rtol=1e-12, atol=1e-12)
    # The last upsampling has another stride in each net: nothing is taken from it.
    report = initialize_from_coarser(learned_net("dense"), learned_net("dense", "fcn16s"))
    assert report.unused == ("upscore16.weight",)


def test_what_a_coarser_net_learned_is_never_lost():
    """Taken in either shape, or refused."""
    coarser = randomize(learned_net({"upscore2": "depthwise"}, "fcn16s"))
    model = learned_net(PAPER)
    initialize_from_coarser(model, coarser)
    images = torch.randn(1, 3, 40, 61, dtype=torch.float64)
    expected = model.upscore_pool4(coarser.scores(images))
    torch.testing.assert_close(model.scores(images), expected, rtol=1e-12, atol=1e-12)
    for kinds, message in [
        ("fixed", "model must learn upscore2, as coarser does, got one that has it fixed"),
        ("depthwise", r"upscore2\.weight mixes classes, .* upsampling=\"dense\""),
    ]:
        model, coarser = learned_net(kinds), randomize(learned_net("dense", "fcn16s"))
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            initialize_from_coarser(model, coarser)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("upsampling", KINDS, ids=str)
def test_learned_upsampling_compiles_and_exports(upsampling):
    model = randomize(learned_net(upsampling, padding="same")).float()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    images = torch.randn(2, 3, 96, 80)
    torch.testing.assert_close(compiled(images), model(images))
    dynamic = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    exported = torch.export.export(model, (images,), dynamic_shapes=(dynamic,))
    for size in OTHER_SIZES:
        images = torch.randn(1, 3, *size)
        torch.testing.assert_close(exported.module()(images), model(images))

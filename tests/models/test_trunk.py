"""Trunks: their maps, where these lie, and their options."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_ext.geometry import Grid
from fcn_ext.models import (
    FCN,
    AlexNetTrunk,
    GoogLeNetTrunk,
    Head,
    SqueezeNetTrunk,
    Trunk,
    VGG16Trunk,
    build_model,
)

from .common import randomize

TRUNKS = {
    "vgg16": (VGG16Trunk, [2, 4, 8, 16, 32, 32, 32]),
    "alexnet": (AlexNetTrunk, [8, 16, 32, 32, 32]),
    "googlenet": (GoogLeNetTrunk, [2, 4, 4, 8, 16, 32, 32]),
    "squeezenet": (SqueezeNetTrunk, [4, 4, 8, 8, 16, 16, 32]),
}
every_trunk = pytest.mark.parametrize("name", TRUNKS)


def build(name: str, **options) -> Trunk:
    return TRUNKS[name][0](width=1 / 64, dropout=0.0, **options)


@every_trunk
@pytest.mark.parametrize("padding", ["published", "same"])
def test_gives_every_map_it_names(name, padding):
    trunk = build(name, padding=padding)
    grids = trunk.grids()
    assert list(grids) == list(trunk.channels)
    assert [grid.stride for grid in grids.values()] == TRUNKS[name][1]
    assert trunk.top == list(trunk.channels)[-1]
    maps = trunk(torch.randn(2, 3, 70, 50), keep=list(trunk.channels))
    assert list(maps) == list(trunk.channels)
    for key, map in maps.items():
        assert map.shape[:2] == (2, trunk.channels[key])
    assert list(trunk(torch.randn(2, 3, 70, 50))) == [trunk.top]


@every_trunk
def test_maps_do_not_depend_on_which_are_kept(name):
    trunk = build(name, padding="same").eval()
    images = torch.randn(1, 3, 70, 50)
    all_maps = {key: map.clone() for key, map in trunk(images, keep=list(trunk.channels)).items()}
    for key, expected in all_maps.items():
        assert torch.equal(trunk(images, keep=[key])[key], expected)


def test_layers_past_the_last_wanted_map_are_left_alone():
    trunk = build("vgg16")
    ran = []
    trunk.pool4.register_forward_hook(lambda *_: ran.append("pool4"))
    trunk.conv5_1.register_forward_hook(lambda *_: ran.append("conv5_1"))
    trunk(torch.randn(1, 3, 8, 8), keep=["pool3", "pool4"])
    assert ran == ["pool4"]


@every_trunk
@pytest.mark.parametrize("padding", ["published", "same"])
def test_grids_are_where_maps_look(name, padding):
    """A cell's gradient lies around the center of its grid, within its receptive field."""
    trunk = randomize(build(name, padding=padding)).double().eval()
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.abs_()  # every unit answers
    images = torch.rand(1, 3, 300, 300, dtype=torch.float64, requires_grad=True)
    for key, map in trunk(images, keep=list(trunk.channels)).items():
        grid = trunk.grids()[key]
        cell = round((150 * grid.scale) + grid.shift)
        (gradient,) = torch.autograd.grad(map[0, :, cell, cell].sum(), images, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        reach = (grid.receptive_field - 1) / 2
        assert grid.center(cell) - reach <= int(seen.min()), key
        assert int(seen.max()) <= grid.center(cell) + reach, key


def test_unknown_maps_are_refused():
    with pytest.raises(ValueError, match=r"keep must name maps of pool1, .*, fc7, got 'pool6'"):
        build("vgg16")(torch.randn(1, 3, 8, 8), keep=["pool6"])
    with pytest.raises(ValueError, match=r"keep must name maps of pool1, .*, got \['pool3'\]"):
        build("vgg16")(torch.randn(1, 3, 8, 8), keep=[["pool3"]])
    for keep in ("pool3", 3):
        with pytest.raises(TypeError, match=f"keep must be a list of names of maps, got {keep!r}"):
            build("vgg16")(torch.randn(1, 3, 8, 8), keep=keep)
    for top in ("pool6", ["pool3"], 3):
        with pytest.raises(ValueError, match=r"top must name a map of pool1, .*, got "):
            build("vgg16", top=top)


@every_trunk
def test_a_trunk_may_end_before_its_last_map(name):
    whole = build(name, padding="same").eval()
    top = list(whole.channels)[2]
    trunk = build(name, padding="same", top=top).eval()
    assert list(trunk.channels) == list(whole.channels)[:3]
    assert (trunk.top, trunk.whole, whole.whole) == (top, False, True)
    state = whole.state_dict()
    trunk.load_state_dict({key: state[key] for key in trunk.state_dict()})
    assert len(trunk.state_dict()) < len(state)
    assert {key.partition(".")[0] for key in trunk.state_dict()} == {
        layer.partition(".")[0] for layer in trunk.caffe_layers()
    }
    images = torch.randn(1, 3, 70, 50)
    assert torch.equal(trunk(images)[top], whole(images, keep=[top])[top])
    assert build(name, top=whole.top).whole
    with pytest.raises(ValueError, match=rf"top must name a map of .*{whole.top}, got 'pool0'"):
        build(name, top="pool0")


@pytest.mark.parametrize(
    ("top", "stride", "offset"), [("pool5", 32, 115), ("pool4", 16, 107), ("pool3", 8, 103)]
)
def test_nets_of_one_map_have_no_layer_after_it(top, stride, offset):
    """pool5-only, pool4-only and pool3-only of the paper's journal version."""
    model = randomize(build_model(f"fcn-{top}", 5, width=1 / 32)).double().eval()
    assert model.score_layers == (f"score_{top}",)
    assert (model.last_stride, model.last_offset, model.trunk.top) == (stride, offset, top)
    state = build_model("fcn8s", 5, width=1 / 32).state_dict()
    names = [key for key in model.state_dict() if not key.startswith("score")]
    assert set(names) < set(state)
    images = torch.randn(2, 3, 40, 61, dtype=torch.float64)
    whole = VGG16Trunk(width=1 / 32).double()
    result = whole.load_state_dict(model.trunk.state_dict(), strict=False)
    assert result.unexpected_keys == []
    scores = getattr(model, f"score_{top}")(whole(images, keep=[top])[top])
    assert torch.equal(model.scores(images), scores)


def frozen(**options) -> FCN:
    model = randomize(build_model("fcn16s", 5, width=1 / 32, padding="same", **options))
    model.freeze_trunks()
    return model


def test_frozen_trunks_are_left_alone():
    model = frozen(batch_norm=True, upsampling="dense")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.train()  # as training programs do after an evaluation
        model.loss(torch.randn(2, 3, 40, 61), torch.randint(0, 5, (2, 40, 61))).backward()
        optimizer.step()
    learned = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    names = [*model.score_layers, *model.upsampling_layers]
    biases = [f"{name}.bias" for name in model.score_layers]
    assert learned == {f"{name}.weight" for name in names} | set(biases)
    assert model.training
    assert not model.trunk.bn3_1.training


def test_frozen_trunks_drop_out_as_before():
    model = frozen(dropout=0.5)
    images = torch.randn(1, 3, 40, 61)
    model.train()
    assert not torch.equal(model.scores(images), model.scores(images))
    model.eval()
    assert torch.equal(model.scores(images), model.scores(images))


class Strided(Trunk):
    """A user's own trunk: two strided convolutions."""

    in_channels, channels, top = 2, {"fine": 3, "coarse": 4}, "coarse"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.gain = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, images, keep=None):
        fine = self.conv1(images).relu()
        maps = {"fine": fine, "coarse": self.gain * self.conv2(fine).relu()}
        return {name: maps[name] for name in keep or [self.top]}

    def grids(self):
        fine = Grid().through(self.conv1)
        return {"fine": fine, "coarse": fine.through(self.conv2)}


@pytest.mark.parametrize("size", [(1, 1), (17, 30), (64, 23)])
def test_a_trunk_of_ones_own(size):
    trunk = Strided()
    model = randomize(FCN(trunk, Head(trunk, 5, skips=["fine"]))).double().eval()
    assert model.last_stride == 2
    assert model.score_grid == Grid(Fraction(1, 2), model.score_grid.shift, Fraction(9 + 2))
    names = ["gain", "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
    names += ["score_fr.weight", "score_fr.bias", "score_fine.weight", "score_fine.bias"]
    assert sorted(model.state_dict()) == sorted(names)
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    target = torch.randint(0, 5, (2, *size))
    expected = F.cross_entropy(model(images), target)
    torch.testing.assert_close(model.loss(images, target), expected)
    other = FCN(Strided(), Head(trunk, 5, skips=["fine"])).double()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images), model(images))


def test_a_ramp_stays_where_it_was_on_a_trunk_of_ones_own():
    """Every score lies at the center of what it was computed from."""
    trunk = Strided()
    for skips in ((), ("fine",)):
        model = FCN(trunk, Head(trunk, 1, skips=skips)).double()
        scored = "score_fine" if skips else "score_fr"
        with torch.no_grad():
            for name, parameter in model.state_dict(keep_vars=True).items():
                if name == "gain":
                    continue
                parameter.zero_()
                if name.endswith("weight") and not (
                    name.startswith("score") and not name.startswith(scored)
                ):
                    center = parameter.shape[-1] // 2
                    parameter[0, 0, center, center] = 1
        ramp = torch.arange(50.0, dtype=torch.float64)[:, None] + torch.arange(40.0).double()
        logits = model(ramp.expand(1, 2, 50, 40))[0, 0]
        inner = (slice(8, 40), slice(8, 30))
        torch.testing.assert_close(logits[inner], ramp[inner], rtol=0, atol=1e-12)


def test_dropout_falls_on_single_elements(narrow):
    model = build_model("fcn32s", **{**narrow, "dropout": 0.5})
    seen = []
    model.drop6.register_forward_hook(lambda _module, input, output: seen.append((input, output)))
    model(torch.randn(1, 3, 96, 96))
    (features,), dropped = seen[0]
    alive = features != 0
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * features[kept])
    partly = [0 < kept[0, c].sum() < alive[0, c].sum() for c in range(128) if alive[0, c].sum() > 1]
    assert any(partly)
    model.eval()
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("padding", ["published", "same"])
def test_batch_norm_trains_and_infers(padding, narrow):
    model = build_model("fcn8s", batch_norm=True, padding=padding, **narrow)
    modules = model.trunk.named_modules()
    norms = [name for name, module in modules if isinstance(module, nn.BatchNorm2d)]
    assert norms == [
        f"bn{stage}_{i}"
        for stage, depth in enumerate([2, 2, 3, 3, 3], 1)
        for i in range(1, depth + 1)
    ]
    model.train()
    model(torch.randn(2, 3, 33, 47)).sum().backward()
    assert model.bn3_2.running_mean.count_nonzero() > 0
    assert model.eval()(torch.randn(1, 3, 1, 1)).shape == (1, 5, 1, 1)

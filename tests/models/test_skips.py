"""Skips on every trunk: AlexNet, GoogLeNet and SqueezeNet at 32s, 16s and 8s. Those on VGG16 are
published, and asked in test_build.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext import ops
from fcn_ext.models import FCN, MODEL_NAMES, build_model, initialize_from_coarser

from .common import build_on_meta, randomize
from .plain_skips import SKIPS, logits, trunk_maps

FAMILIES = list(SKIPS)
SCALES = {
    "": (),
    "-16s": (1.0,),
    "-8s": (1.0, 1.0),
    "-8s-atonce": (0.01, 0.0001),
}


def test_every_trunk_has_every_stride():
    for family in ("fcn", *(f"{family}-" for family in FAMILIES)):
        for stride in ("16s", "16s-atonce", "8s", "8s-atonce"):
            assert f"{family}{stride}" in MODEL_NAMES
    assert {"fcn32s", *FAMILIES} <= set(MODEL_NAMES)


def double(name: str, **options) -> FCN:
    return randomize(build_model(name, 5, width=1 / 32, dropout=0.0, **options).double().eval())


def by_caffe(model: FCN) -> dict[str, torch.Tensor]:
    """The parameters by Caffe's names."""
    names = model.trunk.caffe_layers()
    found = {}
    for key, value in model.state_dict(keep_vars=True).items():
        layer, _, kind = key.rpartition(".")
        found[f"{names.get(layer, layer)}.{kind}"] = value
    return found


@pytest.mark.parametrize(
    ("family", "ending", "size"),
    [
        ("fcn-squeezenet", "", (33, 47)),
        *((family, "-16s", (33, 47)) for family in FAMILIES),
        *((family, "-8s-atonce", size) for family in FAMILIES for size in [(1, 1), (33, 47)]),
    ],
)
def test_equals_the_net_in_plain_functions(family, ending, size):
    model, other = double(family + ending), double(family + ending)
    other.load_state_dict(model.state_dict())
    image = 50 * torch.randn(2, 3, *size, dtype=torch.float64)
    expected_input, input = image.clone().requires_grad_(), image.clone().requires_grad_()

    layers = by_caffe(other)
    maps = trunk_maps(family, layers, expected_input)
    expected = logits(SKIPS[family], SCALES[ending], layers, maps, image.shape)
    found = model(input)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)

    grad = torch.randn_like(expected)
    expected.backward(grad)
    found.backward(grad)
    torch.testing.assert_close(input.grad, expected_input.grad, rtol=1e-10, atol=1e-11)
    for key, parameter in by_caffe(model).items():
        gap = (parameter.grad - layers[key].grad).abs().max()
        assert gap <= 1e-11 * layers[key].grad.abs().max(), key


@pytest.mark.parametrize("family", ["fcn-alexnet-torchvision", "fcn-squeezenet"])
def test_trained_kernels_of_odd_sides_are_the_plain_ones(family):
    """They start bilinear, load from a state dict, and are what the plain net upsamples by."""
    model, fixed = double(f"{family}-8s", upsampling="dense"), double(f"{family}-8s")
    model.load_state_dict(fixed.state_dict(), strict=False)
    image = torch.randn(2, 3, 33, 47, dtype=torch.float64)
    for name in model.upsampling_layers:
        getattr(model, name).reset_parameters()
    torch.testing.assert_close(model(image), fixed(image), rtol=1e-10, atol=1e-11)

    state, names = randomize(model).state_dict(), model.upsampling_layers
    other = double(f"{family}-8s", upsampling="dense")
    other.load_state_dict(state)
    layers = by_caffe(other)
    maps = trunk_maps(family, layers, image)
    kernels = [state[f"{name}.weight"] for name in names]
    expected = logits(SKIPS[family], (1.0, 1.0), layers, maps, image.shape, kernels)
    torch.testing.assert_close(other(image), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_and_crops_follow_from_the_grids(family):
    """Odd kernels throughout: poolings of 3x3 put a cell right on one of the finer map's."""
    for ending, scales in SCALES.items():
        model = build_on_meta(family + ending)
        stride = 32 // 2 ** len(scales)
        assert (model.last_stride, model.last_kernel_size) == (stride, 2 * stride - 1)
        assert model.last_offset == SKIPS[family].last_offset
        assert tuple(model.skip_offsets.values()) == SKIPS[family].offsets[: len(scales)]
        assert model.skips == SKIPS[family].maps[: len(scales)]
        inner = list(model.head.upsampling)[:-1]
        assert [getattr(model, name).kernel_size for name in inner] == [3] * len(scales)


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fits_every_image_size(family, padding):
    with torch.device("meta"):
        model = build_model(f"{family}-8s", width=1 / 32, padding=padding)
    for size in range(1, 230, 7):  # all remainders of 32
        sides = (size, 230 - size)
        images = torch.empty(1, 3, *sides, device="meta")
        assert model(images).shape == (1, 21, *sides)
        # No pixel lies further than half a cell outside the cells' centers.
        for side, cells in zip(sides, model.scores(images).shape[2:], strict=True):
            assert model.score_grid.center(0) <= 4
            assert model.score_grid.center(cells - 1) >= side - 1 - 4


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("family", "layer", "ahead"),
    # What lies past the center: poolings take what is one cell on.
    [
        ("fcn-googlenet", "score_fr", 2 + 4 + 8 + 16),
        ("fcn-googlenet", "score_pool3", 2 + 4 + 8),
        ("fcn-googlenet", "score_pool2", 2 + 4),
        ("fcn-squeezenet", "score_fr", 2 + 4 + 8 + 16),
        ("fcn-squeezenet", "score_fire9", 2 + 4 + 8),
        ("fcn-squeezenet", "score_fire5", 2 + 4),
    ],
)
def test_a_ramp_stays_where_it_was(padding, family, layer, ahead):
    """As in test_build.py: each score lies at the center of what it was computed from."""
    model = build_model(f"{family}-8s", 1, width=1 / 64, padding=padding).double().eval()
    if family == "fcn-googlenet":
        model.norm1 = model.norm2 = nn.Identity()  # a ramp would not stay one
    with torch.no_grad():
        for name, parameter in model.state_dict(keep_vars=True).items():
            parameter.zero_()
            if name.endswith("weight") and (not name.startswith("score") or layer in name):
                center = parameter.shape[-1] // 2
                parameter[0, 0, center, center] = 1
    height, width = 203, 270
    ramp = torch.arange(height * 1.0, dtype=torch.float64)[:, None]
    ramp = ramp + 2 * torch.arange(width * 1.0, dtype=torch.float64)
    found = model(ramp.expand(1, 3, height, width))[0, 0]
    inner = (slice(64, height - 64), slice(64, width - 64))
    torch.testing.assert_close(found[inner], (ramp + 3 * ahead)[inner], rtol=0, atol=1e-10)


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("fine", "coarse"), [("-16s", ""), ("-8s", "-16s"), ("-8s-atonce", "-16s-atonce")]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_staged_nets_start_as_the_coarser(family, fine, coarse, padding):
    coarser = double(family + coarse, padding=padding)
    model = double(family + fine, padding=padding)
    report = initialize_from_coarser(model, coarser)
    new = model.skips[-1]
    assert report.initial == (f"score_{new}.weight", f"score_{new}.bias")
    assert report.unused == ()
    images = torch.randn(1, 3, 70, 91, dtype=torch.float64)
    expected = ops.upsample(coarser.scores(images), 2, kernel_size=3)
    assert torch.equal(model.scores(images), expected)

"""Heads: their levels, offsets and kernels from the grids, and their options."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution
from fcn_ext.models import FCN, AlexNetTrunk, GoogLeNetTrunk, Head, VGG16Trunk, receptive_fields

from .common import randomize

SIZES = [(1, 1), (33, 47), (64, 5), (75, 130)]


def vgg(**options) -> VGG16Trunk:
    return VGG16Trunk(width=1 / 64, dropout=0.0, **options)


def test_names_offsets_and_kernels_are_the_published_ones():
    head = Head(vgg(), 5, skips=["pool4", "pool3"])
    assert head.skip_offsets == {"pool4": 5, "pool3": 9}
    assert head.geometry == Deconvolution(8, 16, 31)
    assert list(head.upsampling) == ["upscore2", "upscore_pool4", "upscore8"]
    assert list(Head(vgg(), 5, skips=["pool4"]).upsampling) == ["upscore2", "upscore16"]
    assert list(Head(vgg(), 5).upsampling) == ["upscore"]
    assert all(not parameter.count_nonzero() for parameter in head.parameters())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("trunk", "skips"),
    [
        (VGG16Trunk, ["pool3"]),
        (VGG16Trunk, ["pool4", "pool2"]),
        (VGG16Trunk, ["pool5", "pool4", "pool3", "pool2", "pool1"]),
        (AlexNetTrunk, ["pool2"]),
        (AlexNetTrunk, ["pool2", "pool1"]),
        (GoogLeNetTrunk, ["pool3"]),
        (GoogLeNetTrunk, ["pool3", "pool2"]),
        (GoogLeNetTrunk, ["pool4", "pool2"]),  # pool4 has the stride of the top map
    ],
)
def test_any_skips_fit_any_size(trunk, skips, padding, size):
    trunk = trunk(width=1 / 64, padding=padding, dropout=0.0)
    model = randomize(FCN(trunk, Head(trunk, 2, skips=skips))).double().eval()
    assert model.last_stride == trunk.grids()[skips[-1]].stride
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    assert model(images).shape == (1, 2, *size)
    assert model.head.geometry.kernel_size in (2 * model.last_stride, 2 * model.last_stride - 1)


def scored_alone(trunk, layer: str, skips: list[str]) -> nn.Module:
    """A net that hands channel 0 on, to the score layer called ``layer`` alone."""
    model = FCN(trunk, Head(trunk, 1, skips=skips)).double().eval()
    with torch.no_grad():
        for name, parameter in model.state_dict(keep_vars=True).items():
            parameter.zero_()
            is_score = name.startswith("score")
            if name.endswith("weight") and (not is_score or name.startswith(layer)):
                center = parameter.shape[-1] // 2
                parameter[0, 0, center, center] = 1
    return model


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("layer", "ahead"),
    # What lies past the center: poolings of 3x3 take what is one cell on, of 4, 8 and 16 pixels;
    # fc6, of even side, reads what lies half a cell of 32 past its center.
    [("score_fr", 4 + 8 + 16 + 16), ("score_pool2", 4 + 8), ("score_pool1", 4)],
)
def test_alexnets_skips_lie_where_their_windows_do(padding, layer, ahead):
    """A ramp stays where it was; odd kernels where even ones would miss by half a cell."""
    trunk = AlexNetTrunk(variant="torchvision", width=1 / 64, padding=padding)
    model = scored_alone(trunk, layer, ["pool2", "pool1"])
    height, width = 203, 270
    ramp = torch.arange(height * 1.0, dtype=torch.float64)[:, None]
    ramp = ramp + 2 * torch.arange(width * 1.0, dtype=torch.float64)
    logits = model(ramp.expand(1, 3, height, width))[0, 0]
    inner = (slice(80, height - 80), slice(80, width - 80))
    torch.testing.assert_close(logits[inner], (ramp + 3 * ahead)[inner], rtol=0, atol=1e-10)


@pytest.mark.parametrize("top", ["pool5", "pool4", "pool3"])
def test_a_finer_map_alone_can_be_scored(top):
    """The pool5-only, pool4-only and pool3-only nets of the paper's journal version."""
    trunk = vgg()
    model = randomize(FCN(trunk, Head(trunk, 3, top=top))).double().eval()
    assert model.score_layers == (f"score_{top}",)
    images = torch.randn(2, 3, 40, 61, dtype=torch.float64)
    expected = model.get_submodule(f"score_{top}")(trunk(images, keep=[top])[top])
    assert torch.equal(model.scores(images), expected)
    stride = {"pool5": 32, "pool4": 16, "pool3": 8}[top]
    offset = model.last_offset
    expected = ops.upsample(expected, stride, offset=offset, output_size=(40, 61))
    assert torch.equal(model(images), expected)


def test_maps_are_scaled_before_they_are_scored():
    trunk = vgg(padding="same")
    model = randomize(FCN(trunk, Head(trunk, 3, skips={"pool4": 0.25}))).double().eval()
    plain = FCN(trunk, Head(trunk, 3, skips=["pool4"])).double().eval()
    state = model.state_dict()
    state["score_pool4.weight"] = state["score_pool4.weight"] * 0.25
    plain.load_state_dict(state)
    images = torch.randn(1, 3, 40, 61, dtype=torch.float64)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skips", [[], ["pool4", "pool3"]])
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_context_is_the_score_of_the_mean(skips, size):
    """Added to the scores of the top map's cells, before these are upsampled."""
    trunks = {"color": vgg(padding="same"), "depth": vgg(padding="same")}
    weights = {"color": 0.25, "depth": 2.0}
    head = Head(trunks, 3, skips=skips, trunk_weights=weights, context=True)
    model = randomize(FCN(trunks, head)).double().eval()
    without = FCN(trunks, Head(trunks, 3, skips=skips, trunk_weights=weights)).double().eval()
    state = model.state_dict()
    context = {name: state.pop(f"{name}.score_context.weight")[:, :, 0, 0] for name in trunks}
    without.load_state_dict(state)

    images = torch.randn(2, 6, *size, dtype=torch.float64)
    of_mean = torch.zeros(2, 3, dtype=torch.float64)
    for place, (name, trunk) in enumerate(trunks.items()):
        top = trunk(images[:, 3 * place : 3 * place + 3], keep=["fc7"])["fc7"]
        of_mean += weights[name] * top.mean(dim=(2, 3)) @ context[name].T
    assert of_mean.abs().min() > 0
    # As a bias of score_fr that differs from image to image.
    biases = {name: state[f"{name}.score_fr.bias"].clone() for name in trunks}
    for found, image, constant in zip(model.scores(images), images, of_mean, strict=True):
        for name, bias in biases.items():
            share = constant / (len(trunks) * weights[name])
            without.get_parameter(f"heads.main.streams.{name}.score_fr.bias").data = bias + share
        expected = without.scores(image[None])[0]
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_context_starts_from_zero_and_sees_the_whole_image():
    trunk = vgg(padding="same")
    model = FCN(trunk, Head(trunk, 3, context=True)).eval()
    assert model.score_layers == ("score_fr", "score_context")
    assert not model.score_context.weight.any()
    assert model.score_context.bias is None
    fields = receptive_fields(model, (1, 3, 64, 64))
    assert fields["score_fr"].grids is not None
    assert fields["output"].grids is None  # no window: all of the image

    randomize(model)
    images = torch.randn(1, 3, 300, 64, requires_grad=True)
    model.scores(images)[..., 0, 0].sum().backward()
    assert images.grad[..., -8:, :].abs().max() > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"context": 1}, TypeError, "context must be a bool, got 1"),
        ({"num_classes": 0}, ValueError, "num_classes must be >= 1, got 0"),
        ({"num_classes": 2**31}, ValueError, r"num_classes must be < 2\*\*31, got 2147483648"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an integer, got 0.5"),
        ({"loss_weight": "1"}, TypeError, "loss_weight must be a number, got '1'"),
        ({"loss_weight": float("nan")}, ValueError, "loss_weight must be finite and >= 0, got nan"),
        ({"loss_weight": -1}, ValueError, "loss_weight must be finite and >= 0, got -1.0"),
        ({"skips": "pool4"}, TypeError, r"a list of names, such as \['pool4'\], got 'pool4'"),
        ({"skips": ["fc7"]}, ValueError, "skips must leave out top, fc7, got it among them"),
        ({"skips": ["pool6"]}, ValueError, r"must name maps of the trunk, pool1, .*, got 'pool6'"),
        ({"top": "fc8"}, ValueError, r"must name maps of the trunk, pool1, .*, got 'fc8'"),
        ({"skips": ["pool3", "pool4"]}, ValueError, r"coarse to fine .* pool4 with stride 16 .* 8"),
        ({"skips": {"pool4": "a"}}, TypeError, "skips must be a number, got 'a'"),
        ({"skips": {"pool4": float("nan")}}, ValueError, "skips must be finite, got nan"),
        ({"skips": {"pool4": float("inf")}}, ValueError, "skips must be finite, got inf"),
        ({"skips": ["pool4", "pool4"]}, ValueError, "skips must be different names, got 'pool4'"),
        ({"skips": [["pool4"]]}, TypeError, r"skips must be a list of names, got \['pool4'\] in"),
        ({"skips": [4]}, TypeError, "skips must be a list of names, got 4 in it"),
        ({"top": ["fc7"]}, TypeError, r"top must be the name of a map, got \['fc7'\]"),
        ({"skips": 3}, TypeError, "skips must be a list of names, got 3"),
        ({"skips": {"pool4", "pool3"}}, TypeError, "skips must be a list of names, got {'pool"),
        ({"trunk_weights": 3}, TypeError, "trunk_weights must be a dict by trunk, got int"),
        ({"trunk_weights": {"main": float("nan")}}, ValueError, "trunk_weights must be finite"),
        ({"upsampling": "learned"}, ValueError, r"one of \('fixed', 'depthwise', 'dense'\), got"),
        (
            {"upsampling": {"upscore8": "dense"}},
            ValueError,
            "layers among upscore, or inner or last, got 'upscore8'",
        ),
        ({"trunk_weights": {"color": 1}}, ValueError, "a number for each of main, got color"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Head(vgg(), **{"num_classes": 5, **options})


def test_trunks_must_agree_on_where_cells_lie():
    trunks = {"a": vgg(), "b": vgg(padding="same")}
    with pytest.raises(ValueError, match=r"trunks must agree .* got fc7 of 'b' at stride 32"):
        Head(trunks, 5)
    with pytest.raises(TypeError, match="trunks must be Trunk or a dict of them, got Linear"):
        Head(nn.Linear(1, 1), 5)

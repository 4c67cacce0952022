from __future__ import annotations

import pytest
import torch

from fcn_ext import ops
from fcn_ext.models import (
    Head,
    MultiHeadFCN,
    VGG16Trunk,
    initialize_from_coarser,
)

from .common import net_of_streams, randomize, randomized


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize(
    ("fine", "coarse", "new"),
    [
        ("fcn16s", "fcn32s", {"score_pool4"}),
        ("fcn8s", "fcn16s", {"score_pool3"}),
        ("fcn8s", "fcn32s", {"score_pool4", "score_pool3"}),
        ("fcn8s-atonce", "fcn32s", {"score_pool4", "score_pool3"}),
    ],
)
def test_finer_net_starts_as_the_coarser(fine, coarse, new, padding, narrow):
    coarser = randomized(coarse, padding=padding, **narrow)
    model = randomized(fine, padding=padding, **narrow)
    report = initialize_from_coarser(model, coarser)
    assert {key.split(".")[0] for key in report.initial} == new
    assert sorted(report.loaded) == sorted(coarser.state_dict())
    assert report.unused == ()

    images = torch.randn(1, 3, 130, 151, dtype=torch.float64)
    expected = coarser.scores(images)
    for _ in new:
        expected = ops.upsample(expected, 2)
    assert torch.equal(model.scores(images), expected)

    # Each step by 2 puts nodes a quarter stride beside the old ones and cuts the corners between.
    strides = {"fcn32s": [32, 16], "fcn16s": [16]}[coarse][: len(new)]
    away = [
        [
            pixel
            for pixel in range(size)
            if all(
                abs(pixel - coarser.score_grid.center(cell)) >= sum(strides) / 4
                for cell in range(-1, cells + 1)
            )
        ]
        for size, cells in zip(images.shape[2:], coarser.scores(images).shape[2:], strict=True)
    ]
    assert all(len(pixels) > 10 for pixels in away)
    torch.testing.assert_close(
        model(images)[..., away[0], :][..., away[1]],
        coarser(images)[..., away[0], :][..., away[1]],
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("fine", "coarse", "options", "message"),
    [
        ("fcn16s", "fcn16s", {}, r"fewer skips than model's \('pool4',\), got \('pool4',\)"),
        ("fcn16s", "fcn8s", {}, r"got \('pool4', 'pool3'\)"),
        ("fcn16s", "fcn32s", {"context": True}, "coarser must have no context, as model has none"),
        ("fcn16s", "fcn32s", {"padding": "same"}, "padding='published' as model, got 'same'"),
        ("fcn16s", "fcn32s", {"batch_norm": True}, "batch_norm=False as model, got True"),
        ("fcn16s", "fcn-alexnet", {}, "on the trunk of model, VGG16Trunk, got AlexNetTrunk"),
        ("fcn8s-atonce", "fcn16s", {}, "scale pool4 by 0.01 as model, got 1.0"),
        (
            "fcn8s",
            "fcn16s",
            {"num_classes": 3},
            r"score_fr\.weight must have shape \(5, 128, 1, 1\), got \(3, 128, 1, 1\)",
        ),
    ],
)
def test_unfitting_coarser_nets_are_refused_untouched(fine, coarse, options, message, narrow):
    model = randomized(fine, **narrow)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        initialize_from_coarser(model, randomized(coarse, **{**narrow, **options}))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("has_context", [False, True])
def test_context_is_taken_or_starts_from_zero(has_context, narrow):
    coarser = randomized("fcn32s", context=has_context, **narrow)
    model = randomized("fcn8s", context=True, **narrow)
    report = initialize_from_coarser(model, coarser)
    assert ("score_context.weight" in report.loaded) == has_context
    assert ("score_context.weight" in report.initial) == (not has_context)
    images = torch.randn(1, 3, 130, 151, dtype=torch.float64)
    expected = ops.upsample(ops.upsample(coarser.scores(images), 2), 2)
    torch.testing.assert_close(model.scores(images), expected, rtol=1e-12, atol=1e-12)


def test_two_streams_start_from_runs_of_one_each():
    """As published for nyud-fcn32s-color-hha: the state dicts of both, behind their names."""
    color = randomized("fcn32s", num_classes=5, width=1 / 32)
    depth = randomized("fcn32s", num_classes=5, width=1 / 32)
    model = net_of_streams(["color", "depth"])
    state = {f"color.{key}": value for key, value in color.state_dict().items()}
    state |= {f"depth.{key}": value for key, value in depth.state_dict().items()}
    assert model.load_state_dict(state) == ([], [])
    images = torch.randn(1, 6, 20, 31, dtype=torch.float64)
    expected = (color(images[:, :3]) + depth(images[:, 3:])) / 2
    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)


def test_finer_two_stream_and_two_headed_nets_start_as_the_coarser():
    coarser, model = (
        net_of_streams(["color", "depth"]),
        net_of_streams(["color", "depth"], ["pool4"]),
    )
    report = initialize_from_coarser(model, coarser)
    assert {key.rpartition(".")[0] for key in report.initial} == {
        "color.score_pool4",
        "depth.score_pool4",
    }
    images = torch.randn(1, 6, 40, 51, dtype=torch.float64)
    assert torch.equal(model.scores(images), ops.upsample(coarser.scores(images), 2))

    def headed(skips) -> MultiHeadFCN:
        trunk = VGG16Trunk(width=1 / 32, dropout=0.0)
        heads = {"semantic": Head(trunk, 5, skips=skips), "geometric": Head(trunk, 3, skips=skips)}
        return randomize(MultiHeadFCN(trunk, heads)).double().eval()

    coarse, fine = headed(()), headed(["pool4"])
    initialize_from_coarser(fine, coarse)
    scores = coarse.scores(images[:, :3])
    for name, map in fine.scores(images[:, :3]).items():
        assert torch.equal(map, ops.upsample(scores[name], 2))
    with pytest.raises(ValueError, match="the heads of model, semantic, geometric, got main"):
        initialize_from_coarser(fine, randomized("fcn32s", num_classes=5, width=1 / 32))
    with pytest.raises(ValueError, match="the trunks of model, main, got color, depth"):
        initialize_from_coarser(fine, coarser)

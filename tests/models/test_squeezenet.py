"""What FCN-SqueezeNet has of its own; test_build.py and test_skips.py ask the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fcn_ext.models import FCNSqueezeNet, SqueezeNetTrunk, build_model, load_classifier

from .common import build_on_meta, randomize


def test_has_the_published_numbers():
    """SqueezeNet v1.1 has 1,235,496 parameters, of which conv10 for 1000 classes 513,000."""
    model = build_on_meta("fcn-squeezenet")
    parameters = sum(parameter.numel() for parameter in model.trunk.parameters())
    assert parameters == 1_235_496 - 513_000
    assert sum(parameter.numel() for parameter in model.parameters()) == 733_269
    sizes = {}
    trunk = SqueezeNetTrunk()
    trunk.conv1.padding = 0  # as in the classifier, for images of 227x227
    for name, map in trunk(torch.zeros(1, 3, 227, 227), keep=list(trunk.channels)).items():
        sizes[name] = (map.shape[1], map.shape[2])
    assert sizes == {
        "pool1": (64, 56),
        "fire3": (128, 56),
        "pool3": (128, 28),
        "fire5": (256, 28),
        "pool5": (256, 14),
        "fire9": (512, 14),
        "pool9": (512, 7),
    }


def torchvision_state() -> dict[str, torch.Tensor]:
    """torchvision's squeezenet1_1 by parameter names, an eighth as wide."""
    torch.manual_seed(5)
    shapes = {"features.0": (8, 3, 3)}
    inputs = 8
    for index, (squeezed, expanded) in zip(
        (3, 4, 6, 7, 9, 10, 11, 12),
        ((2, 8), (2, 8), (4, 16), (4, 16), (6, 24), (6, 24), (8, 32), (8, 32)),
        strict=True,
    ):
        shapes[f"features.{index}.squeeze"] = (squeezed, inputs, 1)
        shapes[f"features.{index}.expand1x1"] = (expanded, squeezed, 1)
        shapes[f"features.{index}.expand3x3"] = (expanded, squeezed, 3)
        inputs = 2 * expanded
    shapes["classifier.1"] = (1000, inputs, 1)
    state = {}
    for name, (channels, before, size) in shapes.items():
        state[f"{name}.weight"] = torch.randn(channels, before, size, size)
        state[f"{name}.bias"] = torch.randn(channels)
    return state


def test_torchvisions_layout_loads():
    model, state = FCNSqueezeNet(5, width=1 / 8), torchvision_state()
    report = load_classifier(model, state)
    assert report.initial == ("score_fr.weight", "score_fr.bias")
    assert report.unused == ("classifier.1.bias", "classifier.1.weight")
    loaded = model.state_dict()
    for name, source in (
        ("conv1", "features.0"),
        ("fire2.squeeze1x1", "features.3.squeeze"),
        ("fire5.expand3x3", "features.7.expand3x3"),
        ("fire6.expand1x1", "features.9.expand1x1"),
        ("fire9.expand3x3", "features.12.expand3x3"),
    ):
        for kind in ("weight", "bias"):
            assert torch.equal(loaded[f"{name}.{kind}"], state[f"{source}.{kind}"])
    del state["features.7.expand3x3.bias"]
    with pytest.raises(ValueError, match=r"SqueezeNetTrunk's classifier, but lacks \['features\.7"):
        load_classifier(model, state)


def test_published_weights_load(shared_data: Path):
    weights = np.load(shared_data / "weights" / "squeezenet_v1_1_oihw.npz")
    model = build_model("fcn-squeezenet-8s", 21)
    report = load_classifier(model, weights)
    assert report.unused == ("conv10.bias", "conv10.weight")
    assert all(name.startswith("score_") for name in report.initial)
    found = model.state_dict()["fire4.expand3x3.weight"].numpy()
    assert np.array_equal(found, weights["fire4/expand3x3.weight"])


@pytest.mark.parametrize("padding", ["published", "same"])
def test_batch_norm_follows_every_convolution(padding):
    model = FCNSqueezeNet(5, width=1 / 16, batch_norm=True, padding=padding)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == 1 + 8 * 3
    randomize(model)(torch.randn(2, 3, 33, 47)).sum().backward()
    assert model.trunk.get_submodule("fire6.expand3x3_bn").running_mean.count_nonzero() > 0
    other = FCNSqueezeNet(5, width=1 / 16, batch_norm=True, padding=padding)
    other.load_state_dict(model.state_dict())


def test_dropout_leaves_the_skips_alone():
    trunk = SqueezeNetTrunk(width=1 / 16)
    images = torch.randn(1, 3, 70, 70)
    maps = trunk(images, keep=["fire9", "pool9"])
    kept = trunk.eval()(images, keep=["fire9", "pool9"])
    assert torch.equal(maps["fire9"], kept["fire9"])
    alive = maps["pool9"] != 0
    assert 0 < alive.sum() < (kept["pool9"] != 0).sum()
    torch.testing.assert_close(maps["pool9"][alive], 2 * kept["pool9"][alive])


def test_options_of_other_trunks_are_refused():
    with pytest.raises(TypeError, match="fc_channels"):
        build_model("fcn-squeezenet", fc_channels=8)

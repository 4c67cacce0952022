from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext.models import (
    Trunk,
    build_model,
    load_classifier,
)

from .common import net_of_streams


class Classifier(nn.Module):
    """VGG16 with torchvision's parameter names, as narrow as the other nets here."""

    def __init__(self, batch_norm: bool = False, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for item in [2, 2, "M", 4, 4, "M", 8, 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M"]:
            if item == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(in_channels, item, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(item))
            layers.append(nn.ReLU())
            in_channels = item
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 7 * 7, 128),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(128, 10),
        )
        torch.manual_seed(3)
        for parameter in self.parameters():
            std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
            nn.init.normal_(parameter, std=std)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
        self.double().eval()


def caffe_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same numbers under Caffe's layer names, fc6 in the shape of a convolution."""
    features = sorted({int(key.split(".")[1]) for key in state if key.startswith("features.")})
    layers = [f"conv{s}_{i + 1}" for s, n in enumerate([2, 2, 3, 3, 3], 1) for i in range(n)]
    names = dict(zip((f"features.{index}" for index in features), layers, strict=True))
    names |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    renamed = {}
    for key, value in state.items():
        layer, kind = key.rsplit(".", 1)
        renamed[f"{names[layer]}.{kind}"] = value
    renamed["fc6.weight"] = renamed["fc6.weight"].reshape(128, 16, 7, 7)
    return renamed


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", ["fcn32s", "fcn8s"])
def test_net_computes_what_the_classifier_did(name, batch_norm, narrow):
    classifier = Classifier(batch_norm)
    model = build_model(name, batch_norm=batch_norm, padding="same", **narrow).double().eval()
    report = load_classifier(model, classifier.state_dict())
    scores = [f"{layer}.{kind}" for layer in model.score_layers for kind in ("weight", "bias")]
    assert sorted(report.initial) == sorted(scores)
    assert sorted(report.loaded + report.initial) == sorted(model.state_dict())
    assert report.unused == ("classifier.6.bias", "classifier.6.weight")

    image = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    expected = classifier.features(image)
    maps = model.trunk(image, keep=["pool5", "fc7"])
    torch.testing.assert_close(maps["pool5"], expected, rtol=1e-12, atol=1e-12)
    # The middle cell of the 7x7 map sees it all, as the classifier does.
    expected = classifier.classifier[:5](expected.flatten(1))
    torch.testing.assert_close(maps["fc7"][:, :, 3, 3], expected, rtol=1e-12, atol=1e-12)
    assert model(image).count_nonzero() == 0


def test_caffe_names(narrow):
    state = Classifier().state_dict()
    expected = build_model("fcn8s", **narrow)
    load_classifier(expected, state)
    for source in (
        caffe_names(state),
        {key: value.numpy() for key, value in caffe_names(state).items()},
        {**caffe_names(state), "fc6.weight": state["classifier.0.weight"]},
    ):
        model = build_model("fcn8s", **narrow)
        report = load_classifier(model, source)
        assert report.unused == ("fc8.bias", "fc8.weight")
        for key in report.loaded:
            assert torch.equal(model.state_dict()[key], expected.state_dict()[key])


def test_convolutions_alone_leave_fc6_and_fc7(narrow):
    state = {k: v for k, v in Classifier().state_dict().items() if k.startswith("features")}
    model = build_model("fcn32s", **narrow)
    before = model.fc6.weight.clone()
    report = load_classifier(model, state)
    assert {key.split(".")[0] for key in report.initial} == {"fc6", "fc7", "score_fr"}
    assert torch.equal(model.fc6.weight, before)


def test_further_input_channels_start_from_the_mean(narrow):
    state = Classifier().state_dict()
    weight = state["features.0.weight"].float()
    model = build_model("fcn32s", in_channels=5, **narrow)
    load_classifier(model, state)
    assert torch.equal(model.conv1_1.weight[:, :3], weight)
    for channel in (3, 4):
        torch.testing.assert_close(model.conv1_1.weight[:, channel], weight.mean(dim=1))


def test_one_input_channel_answers_as_three_equal_ones(narrow):
    state = Classifier().state_dict()
    gray = build_model("fcn32s", in_channels=1, **narrow).double()
    color = build_model("fcn32s", **narrow).double()
    load_classifier(gray, state)
    load_classifier(color, state)
    image = torch.randn(1, 1, 9, 12, dtype=torch.float64)
    expected = color.trunk(image.expand(1, 3, 9, 12))["fc7"]
    assert expected.count_nonzero() > 0
    torch.testing.assert_close(gray.trunk(image)["fc7"], expected, rtol=1e-12, atol=1e-12)


def changed(key, value):
    state = Classifier().state_dict()
    state[key] = value
    return state


def without(key):
    state = Classifier().state_dict()
    del state[key]
    return state


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        (
            changed("features.5.weight", torch.zeros(4, 2, 5, 5)),
            {},
            r"features\.5\.weight must have shape \(4, 2, 3, 3\), got \(4, 2, 5, 5\)",
        ),
        (
            changed("classifier.0.weight", torch.zeros(128, 400)),
            {},
            r"classifier\.0\.weight must have shape \(128, 784\), got \(128, 400\)",
        ),
        (
            changed("features.0.bias", torch.zeros(1, 1, 1, 2)),
            {},
            r"features\.0\.bias must have shape \(2,\), got \(1, 1, 1, 2\)",
        ),
        (
            Classifier().state_dict(),
            {"in_channels": 2},
            r"features\.0\.weight must have shape \(2, 2, 3, 3\), got \(2, 3, 3, 3\)",
        ),
        (without("features.28.bias"), {}, r"lacks \['features\.28\.bias'\]"),
        (without("classifier.3.weight"), {}, r"lacks \['classifier\.3\.weight'\]"),
        ({}, {}, r"lacks \['conv1_1\.bias'"),
        (Classifier(True).state_dict(), {}, "batch_norm=False, got one with"),
        (Classifier().state_dict(), {"batch_norm": True}, "batch_norm=True, got one without"),
    ],
)
def test_unfitting_classifiers_are_refused_untouched(state, options, message, narrow):
    model = build_model("fcn32s", **narrow, **options)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_classifier(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_each_of_several_trunks_takes_a_classifier():
    model = net_of_streams(["color", "depth"])
    with pytest.raises(ValueError, match=r"got trunks color, depth; load each, .*\['color'\]"):
        load_classifier(model, Classifier().state_dict())
    before = model.state_dict()["color.conv1_1.weight"].clone()
    report = load_classifier(model.trunks["depth"], Classifier().state_dict())
    assert report.initial == ()
    assert "conv1_1.weight" in report.loaded
    state = model.state_dict()
    assert torch.equal(
        state["depth.conv1_1.weight"], Classifier().state_dict()["features.0.weight"]
    )
    assert torch.equal(state["color.conv1_1.weight"], before)


def test_trunks_without_a_classifier_take_none():
    class Own(Trunk):
        def caffe_layers(self) -> dict[str, str]:
            return {}

    for model in (Own(), nn.Linear(1, 1)):
        name = type(model).__name__
        with pytest.raises(ValueError, match=f"model must have a classifier's trunk, got a {name}"):
            load_classifier(model, Classifier().state_dict())


def test_a_named_trunk_is_reported_by_its_name():
    model = net_of_streams(["color"])
    report = load_classifier(model, Classifier().state_dict())
    assert report.loaded[0] == "color.conv1_1.weight"
    assert report.initial == ("color.score_fr.weight", "color.score_fr.bias")

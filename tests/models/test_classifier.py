"""The classifiers as they were before surgery, and surgery undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.models import (
    CLASSIFIER_NAMES,
    Classifier,
    VGG16Trunk,
    build_classifier,
    build_model,
    classifier_name,
    classifier_state_dict,
    load_classifier,
    recognize_classifier,
)

from .common import randomize
from .plain_googlenet import maps as googlenet
from .plain_skips import alexnet, squeezenet
from .test_alexnet import Classifier as TorchvisionsAlexNet
from .test_surgery import Classifier as VGG16

LAYOUTS = [
    *((name, "caffe") for name in CLASSIFIER_NAMES),
    *((name, "torchvision") for name in ("vgg16", "alexnet-torchvision", "squeezenet")),
]


def double(name: str, **options) -> Classifier:
    model = build_classifier(name, 10, width=1 / 32, dropout=0.0, **options)
    return randomize(model.double().eval())


def images_of(side: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side, dtype=torch.float64)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg16_is_torchvisions(batch_norm):
    net, model = VGG16(batch_norm), double("vgg16", batch_norm=batch_norm)
    report = model.load(net.state_dict())
    assert (report.initial, report.unused) == ((), ())
    assert sorted(report.loaded) == sorted(model.state_dict())
    images = images_of(224)
    expected = net.classifier(net.features(images).flatten(1))
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)


def test_alexnet_is_torchvisions():
    net, model = TorchvisionsAlexNet(), double("alexnet-torchvision")
    model.load(net.state_dict())
    images = images_of(224)
    expected = net.classifier(net.features(images).flatten(1))
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "squeezenet"])
def test_equals_caffes_in_plain_functions(name):
    model = double(name)
    layers = classifier_state_dict(model)
    images = images_of(model.image_size)
    if name == "alexnet":
        layers["fc6.weight"] = layers["fc6.weight"].reshape(128, 8, 6, 6)
        layers["fc7.weight"] = layers["fc7.weight"].reshape(128, 128, 1, 1)
        features = alexnet(layers, images, caffe=True, padding=0)["fc7"]
        assert features.shape[2:] == (1, 1)
        expected = F.linear(features.flatten(1), layers["fc8.weight"], layers["fc8.bias"])
    elif name == "googlenet":
        features = googlenet(layers, images, conv1_padding=3)["inception_5b"]
        last = layers["loss3/classifier.weight"], layers["loss3/classifier.bias"]
        expected = F.linear(F.avg_pool2d(features, 7).flatten(1), *last)
    else:
        features = squeezenet(layers, images, padding=0)["fire9"]
        scores = F.conv2d(features, layers["conv10.weight"], layers["conv10.bias"]).relu()
        expected = F.avg_pool2d(scores, 14).flatten(1)
    torch.testing.assert_close(model(images), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_surgery_is_undone_bit_by_bit(name, layout):
    model, other = double(name), double(name)
    state = classifier_state_dict(model, layout)
    if not name.startswith("alexnet"):  # whose two builds differ in width
        assert classifier_name(state) == name
    matrices = [key for key, value in state.items() if value.dim() == 2]
    assert len(matrices) == {"googlenet": 1, "squeezenet": 0}.get(name, 3)
    other.load(state)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    # The net's surgery takes the same file, and is undone but for the last layer.
    family = {"vgg16": "fcn32s"}.get(name, f"fcn-{name}")
    net = build_model(family, 5, width=1 / 32).double()
    report = load_classifier(net, state)
    back = classifier_state_dict(net, layout)
    assert set(state) - set(back) == set(report.unused)
    assert len(report.unused) == 2
    for key, value in back.items():
        assert torch.equal(value, state[key]), key
        assert value.shape == state[key].shape


def test_alexnets_builds_are_told_apart_by_their_channels():
    state = classifier_state_dict(double("alexnet"))
    for channels, name in ((96, "alexnet"), (64, "alexnet-torchvision")):
        assert classifier_name({**state, "conv1.weight": torch.zeros(channels, 3, 11, 11)}) == name
    with pytest.raises(ValueError, match="that of a classifier"):
        classifier_name(state)


@pytest.mark.parametrize("name", CLASSIFIER_NAMES)
def test_larger_images_are_seen_at_several_places(name):
    model = double(name)
    side = model.trunk.smallest_image
    assert model.score_map(images_of(side)).shape == (2, 10, 1, 1)
    map = model.score_map(images_of(side + 70))
    assert min(map.shape[2:]) > 1
    images = torch.randn(1, 3, 250, 301, dtype=torch.float64)
    expected = model.score_map(images).mean((2, 3))
    assert torch.equal(model(images), expected)
    message = rf"\(N, 3, H, W\) with H, W >= {side}, got \(1, 3, {side - 1}, 300\)"
    if side > 1:
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(1, 3, side - 1, 300))
    with pytest.raises(ValueError, match=r"got \(1, 4, 300, 300\)"):
        model(torch.zeros(1, 4, 300, 300))
    with pytest.raises(ValueError, match=r"images must be floating point, got torch\.uint8"):
        model(torch.zeros(1, 3, 300, 300, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"images must be a torch\.Tensor, got ndarray"):
        model(np.zeros((1, 3, 300, 300)))


def test_what_the_smallest_images_are():
    smallest = {name: double(name).trunk.smallest_image for name in CLASSIFIER_NAMES}
    assert smallest["vgg16"] == 193  # five poolings by 2 that round up, and 7 cells for fc6
    for name in CLASSIFIER_NAMES:
        assert smallest[name] <= build_classifier(name, 2, width=1 / 64).image_size


def test_input_channels_are_widened():
    """As in the published early fusion of color and depth: by the mean over the three."""
    model, wide = double("squeezenet"), double("squeezenet", in_channels=4)
    wide.load(classifier_state_dict(model))
    torch.testing.assert_close(wide.trunk.conv1.weight[:, 3], model.trunk.conv1.weight.mean(1))
    images = images_of(227, channels=4)
    images[:, 3] = 0
    torch.testing.assert_close(wide(images), model(images[:, :3]), rtol=1e-12, atol=1e-12)


def test_unfitting_files_are_refused_untouched():
    model = double("vgg16")
    state = classifier_state_dict(model, "torchvision")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    randomize(model)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    assert not torch.equal(before["last.weight"], kept["last.weight"])
    without_last = {key: value for key, value in state.items() if "classifier.6" not in key}
    for wrong, message in [
        (without_last, "must hold the last layer of vgg16, fc8 or classifier.6, got features.0"),
        ({**state, "classifier.6.weight": torch.zeros(9, 128)}, r"shape \(10, 128\), got \(9, 128"),
        ({**state, "classifier.6.bias": torch.zeros(2, 5)}, r"shape \(10,\), got \(2, 5\)"),
        ({**state, "features.5.weight": torch.zeros(1)}, r"features\.5\.weight must have shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.load(wrong)
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"that of a classifier, vgg16, .*, got one with a, b"):
        recognize_classifier({"a": torch.zeros(1), "b": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"layout must be caffe for this GoogLeNetTrunk, got 'tor"):
        classifier_state_dict(double("googlenet"), "torchvision")
    with pytest.raises(ValueError, match=r"layout must be caffe for this AlexNetTrunk, got 'torch"):
        classifier_state_dict(double("alexnet"), "torchvision")
    with pytest.raises(ValueError, match=r"layout must be one of \('caffe', .*, got 'keras'"):
        classifier_state_dict(VGG16Trunk(width=1 / 64), "keras")
    with pytest.raises(ValueError, match=r"name must be one of vgg16, .*, got 'resnet'"):
        build_classifier("resnet")


def test_published_weights_are_recognized(shared_data: Path):
    for file, name in [("squeezenet_v1_1", "squeezenet"), ("googlenet_bvlc", "googlenet")]:
        model = recognize_classifier(np.load(shared_data / "weights" / f"{file}_oihw.npz"))
        assert (model.name, model.num_classes) == (name, 1000)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert parameters == {"squeezenet": 1_235_496, "googlenet": 6_998_552}[name]

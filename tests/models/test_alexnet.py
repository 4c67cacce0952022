"""What FCN-AlexNet has of its own. That it equals the published net is asked in test_build.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext.models import FCN, FCNAlexNet, build_model, load_classifier

VARIANTS = {"caffe": "fcn-alexnet", "torchvision": "fcn-alexnet-torchvision"}


class Classifier(nn.Module):
    """torchvision's alexnet by parameter names, as narrow as the other nets here."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 2, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(2, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(6, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(8 * 6 * 6, 128),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )
        torch.manual_seed(4)
        for parameter in self.parameters():
            std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
            nn.init.normal_(parameter, std=std)
        self.double().eval()


def _meta(**options) -> FCN:
    with torch.device("meta"):
        return FCNAlexNet(**options)


def test_has_the_published_numbers():
    model = _meta()
    assert sum(parameter.numel() for parameter in model.parameters()) == 56_954_261
    assert (model.last_stride, model.last_kernel_size, model.last_offset) == (32, 63, 18)
    # Long et al., 2015, Table 1: one cell of the classifier sees 355 pixels.
    assert model.trunk.grids()["fc7"].receptive_field == 355
    sizes = []
    for layer in (model.conv1, model.pool1, model.pool2, model.pool5, model.fc6):
        layer.register_forward_hook(lambda _module, _input, map: sizes.append(map.shape[-1]))
    scores = model.scores(torch.empty(1, 3, 500, 500, device="meta"))
    assert sizes == [173, 86, 43, 21, 16]
    assert scores.shape == (1, 21, 16, 16)


def test_has_the_numbers_of_torchvision():
    """Its 61,100,840 parameters, but for fc8's 1000 classes."""
    model = _meta(variant="torchvision", num_classes=1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == 61_100_840


@pytest.mark.parametrize("name", VARIANTS.values())
def test_fits_every_image_size(name):
    """The published padding keeps the last crop inside, as it does for FCN-32s."""
    with torch.device("meta"):
        model = build_model(name, width=1 / 32)
    for size in range(1, 400, 7):
        images = torch.empty(1, 3, size, 400 - size, device="meta")
        assert model(images).shape == (1, 21, size, 400 - size)


@pytest.mark.parametrize("padding", ["published", "same"])
def test_a_ramp_stays_where_it_was(padding):
    """As in test_build.py; without response normalization, which bends a ramp."""
    model = FCNAlexNet(1, variant="torchvision", width=1 / 64, padding=padding).double().eval()
    for name, parameter in model.named_parameters():
        nn.init.zeros_(parameter)
        if name.endswith("weight"):
            with torch.no_grad():
                parameter[0, 0, parameter.shape[2] // 2, parameter.shape[3] // 2] = 1
    height, width = 203, 270
    ramp = torch.arange(height * 1.0, dtype=torch.float64)[:, None]
    ramp = ramp + 2 * torch.arange(width * 1.0, dtype=torch.float64)
    logits = model(ramp.expand(1, 3, height, width))[0, 0]
    # Poolings take what lies one cell on, of 4, 8 and 16 pixels; fc6, of even side, reads what
    # lies half a cell of 32 past its center.
    ahead = 4 + 8 + 16 + 16
    inner = (slice(80, height - 80), slice(80, width - 80))
    torch.testing.assert_close(logits[inner], (ramp + 3 * ahead)[inner], rtol=0, atol=1e-10)


def test_computes_what_the_classifier_did(narrow):
    """Every cell of fc7 is the classifier's answer to the window that the cell sees."""
    classifier = Classifier()
    model = build_model("fcn-alexnet-torchvision", **narrow).double().eval()
    report = load_classifier(model, classifier.state_dict())
    assert report.initial == ("score_fr.weight", "score_fr.bias")
    assert report.unused == ("classifier.6.bias", "classifier.6.weight")

    classifier.features[0].padding = (100, 100)
    for layer in classifier.features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    images = torch.randn(2, 3, 83, 120, dtype=torch.float64)
    features = classifier.features(images)
    fc7 = model.trunk(images)["fc7"]
    assert fc7.shape[2:] == (features.shape[2] - 5, features.shape[3] - 5)
    for y, x in ((0, 0), (1, 2), (fc7.shape[2] - 1, fc7.shape[3] - 1)):
        window = features[:, :, y : y + 6, x : x + 6]
        expected = classifier.classifier[:6](window.flatten(1))
        torch.testing.assert_close(fc7[:, :, y, x], expected, rtol=1e-12, atol=1e-12)


def test_names_of_caffe(narrow, published_net):
    source = published_net("fcn-alexnet").state_dict()
    source["fc6.weight"] = source["fc6.weight"].reshape(128, 8 * 6 * 6)
    model = build_model("fcn-alexnet", **narrow).double()
    report = load_classifier(model, {key: value.numpy() for key, value in source.items()})
    assert report.unused == ("score_fr.bias", "score_fr.weight", "upscore.weight")
    for key in report.loaded:
        assert torch.equal(model.state_dict()[key].flatten(), source[key].flatten()), key


def test_the_other_builds_weights_are_refused(narrow):
    model = build_model("fcn-alexnet", **narrow)
    with pytest.raises(ValueError, match=r"features\.0\.weight must have shape \(4, 3, 11, 11\)"):
        load_classifier(model, Classifier().state_dict())
    with pytest.raises(ValueError, match="AlexNetTrunk's classifier, but lacks"):
        load_classifier(model, {"conv1_1.weight": torch.zeros(1)})


def test_further_input_channels_start_from_the_mean(narrow):
    state = Classifier().state_dict()
    model = build_model("fcn-alexnet-torchvision", in_channels=4, **narrow).double()
    load_classifier(model, state)
    torch.testing.assert_close(model.conv1.weight[:, 3], state["features.0.weight"].mean(dim=1))


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("name", VARIANTS.values())
def test_batch_norm_takes_the_place_of_response_normalization(name, padding, narrow):
    model = build_model(name, batch_norm=True, padding=padding, **narrow)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == 5
    assert not any(issubclass(kind, nn.LocalResponseNorm) for kind in kinds)
    model(torch.randn(2, 3, 33, 47)).sum().backward()
    assert model.bn3.running_mean.count_nonzero() > 0


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"variant must be one of \('caffe', 'torchvision'\)"):
        FCNAlexNet(variant="grouped")
    with pytest.raises(TypeError, match="at_once"):
        build_model("fcn-alexnet", at_once=True)

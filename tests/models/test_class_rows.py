"""Score layers that start from the rows of the classifier's last layer."""

from __future__ import annotations

import pytest
import torch

from fcn_ext.models import (
    CLASSIFIER_NAMES,
    build_classifier,
    build_model,
    build_multi_head_model,
    classifier_state_dict,
    initialize_scores,
)

from .common import randomize

NETS = {
    "vgg16": "fcn8s",
    "alexnet": "fcn-alexnet",
    "alexnet-torchvision": "fcn-alexnet-torchvision-16s",
    "googlenet": "fcn-googlenet-8s-atonce",
    "squeezenet": "fcn-squeezenet-8s",
}
ROWS = {1: [3], 4: [0, 7, 2]}


def state_of(name, layout="caffe"):
    model = randomize(build_classifier(name, 10, width=1 / 32).double())
    return classifier_state_dict(model, layout)


@pytest.mark.parametrize(
    ("name", "layout", "last"),
    [
        ("vgg16", "caffe", "fc8"),
        ("vgg16", "torchvision", "classifier.6"),
        ("alexnet", "caffe", "fc8"),
        ("alexnet-torchvision", "torchvision", "classifier.6"),
        ("googlenet", "caffe", "loss3/classifier"),
        ("squeezenet", "caffe", "conv10"),
        ("squeezenet", "torchvision", "classifier.1"),
    ],
)
def test_classes_start_from_the_mean_of_their_rows(name, layout, last):
    assert set(NETS) == set(CLASSIFIER_NAMES)
    state = state_of(name, layout)
    model = randomize(build_model(NETS[name], 6, width=1 / 32).double())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = initialize_scores(model, state, ROWS)
    assert report.loaded == ("score_fr.weight", "score_fr.bias")
    assert set(report.unused) == set(state) - {f"{last}.weight", f"{last}.bias"}

    weight, bias = state[f"{last}.weight"].flatten(1), state[f"{last}.bias"]
    length = (weight - weight.mean(0)).norm(dim=1).mean()
    after = model.state_dict()
    for index in range(6):
        found, offset = after["score_fr.weight"][index].flatten(), after["score_fr.bias"][index]
        if index not in ROWS:
            assert not found.any()
            assert offset == 0
            continue
        expected = weight[ROWS[index]].mean(0) - weight.mean(0)
        scale = length / expected.norm()
        torch.testing.assert_close(found, scale * expected)
        torch.testing.assert_close(offset, scale * (bias[ROWS[index]].mean() - bias.mean()))
    for key in set(after) - set(report.loaded):
        assert torch.equal(after[key], before[key]), key


def test_of_equally_long_rows_softmax_is_the_classifiers():
    """Then nothing is scaled, and what is taken off all rows softmax does not see."""
    state = state_of("googlenet")
    unit = torch.nn.functional.normalize(torch.randn_like(state["loss3/classifier.weight"][:5]))
    state["loss3/classifier.weight"] = torch.cat([unit, -unit]) + torch.randn(1, unit.shape[1])
    classifier = build_classifier("googlenet", 10, width=1 / 32, dropout=0.0).double()
    classifier.load(state)
    model = build_model("fcn-googlenet", 10, width=1 / 32).double()
    initialize_scores(model, state, {index: [index] for index in range(10)})

    (layer,) = model.head.score_layers.values()
    features = torch.randn(2, model.head.streams.main.score_fr.in_channels, 3, 5).double()
    scores, expected = layer(features).softmax(1), classifier.last(features).softmax(1)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(layer(features).mean(1), torch.zeros(2, 3, 5).double())


def test_single_precision_rounds_once_at_the_end():
    state = {key: value.float() for key, value in state_of("squeezenet").items()}
    model = build_model("fcn-squeezenet", 6, width=1 / 32)
    twin = build_model("fcn-squeezenet", 6, width=1 / 32).double()
    initialize_scores(model, state, ROWS)
    initialize_scores(twin, {key: value.double() for key, value in state.items()}, ROWS)
    assert torch.equal(
        model.state_dict()["score_fr.weight"], twin.state_dict()["score_fr.weight"].float()
    )


def test_rows_that_are_all_alike_tell_nothing_apart():
    state = state_of("squeezenet")
    state["conv10.weight"] = torch.ones_like(state["conv10.weight"])
    model = build_model("fcn-squeezenet", 6, width=1 / 32).double()
    initialize_scores(model, state, ROWS)
    assert not model.state_dict()["score_fr.weight"].any()
    assert model.state_dict()["score_fr.bias"].isfinite().all()


def test_head_of_several_is_named():
    state = state_of("googlenet")
    model = build_multi_head_model("fcn-googlenet", {"sem": 6, "geo": 3}, width=1 / 32)
    assert initialize_scores(model, state, ROWS, head="sem").loaded == (
        "sem.score_fr.weight",
        "sem.score_fr.bias",
    )
    assert not model.state_dict()["geo.score_fr.weight"].any()
    with pytest.raises(ValueError, match="head must be one of sem, geo, got 'main'"):
        initialize_scores(model, state, ROWS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({6: [0]}, r"rows must be of classes in \[0, 6\), got class 6"),
        ({-1: [0]}, r"rows must be of classes in \[0, 6\), got class -1"),
        ({0: []}, "rows must name at least one row of a class, got none for 0"),
        ({0: [3, 1, 3]}, r"rows must name each row of a class once, got \[3, 1, 3\]"),
        ({0: [10]}, r"rows must lie in \[0, 10\), as loss3/classifier has 10, got 10"),
        ({0: range(-1, 2)}, r"rows must lie in \[0, 10\), .*got -1"),
    ],
)
def test_rows_that_are_not_there_are_refused(rows, message):
    model = build_model("fcn-googlenet", 6, width=1 / 32)
    with pytest.raises(ValueError, match=message):
        initialize_scores(model, state_of("googlenet"), rows)
    assert not model.state_dict()["score_fr.weight"].any()


def changed(state, **values):
    return state | {f"loss3/classifier.{kind}": value for kind, value in values.items()}


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        ("fcn-squeezenet", {}, "the last layer of squeezenet, conv10 or classifier.1, got conv1/"),
        ("fcn8s", {}, "the last layer of vgg16, fc8 or classifier.6, got"),
        ("fcn-pool4", {}, "must score the map that its classifier scores, the last of VGG16Trunk"),
        (
            "fcn-googlenet",
            {"weight": torch.zeros(10, 9)},
            r"loss3/classifier.weight must have a row of 32 numbers .*, got shape \(10, 9\)",
        ),
        ("fcn-googlenet", {"weight": torch.zeros(32)}, r"got shape \(32,\)"),
        ("fcn-googlenet", {"bias": torch.zeros(9)}, r"bias must have shape \(10,\), got \(9,\)"),
    ],
)
def test_other_layers_than_the_classifiers_are_refused(net, change, message):
    model = build_model(net, 6, width=1 / 32)
    with pytest.raises(ValueError, match=message):
        initialize_scores(model, changed(state_of("googlenet"), **change), ROWS)


def test_several_trunks_are_refused():
    model = build_model("fcn-googlenet", 6, width=1 / 32, streams=["color", "hha"])
    with pytest.raises(ValueError, match="must be a trunk or have one alone, got trunks color"):
        initialize_scores(model, state_of("googlenet"), ROWS)

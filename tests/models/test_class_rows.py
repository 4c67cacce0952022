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
OTHERS = [1, 4, 5, 6, 8, 9]


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
@pytest.mark.parametrize("rest", [None, 2])
def test_classes_start_from_the_mean_of_their_rows(name, layout, last, rest):
    assert set(NETS) == set(CLASSIFIER_NAMES)
    state = state_of(name, layout)
    model = randomize(build_model(NETS[name], 6, width=1 / 32).double())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = initialize_scores(model, state, ROWS, rest=rest)
    rows = ROWS if rest is None else {**ROWS, rest: OTHERS}
    assert report.loaded == ("score_fr.weight", "score_fr.bias")
    assert set(report.unused) == set(state) - {f"{last}.weight", f"{last}.bias"}

    weight, bias = state[f"{last}.weight"].flatten(1), state[f"{last}.bias"]
    after = model.state_dict()
    for index in range(6):
        found, offset = after["score_fr.weight"][index].flatten(), after["score_fr.bias"][index]
        if index in rows:
            torch.testing.assert_close(found, weight[rows[index]].mean(0) - weight.mean(0))
            number = torch.tensor(len(rows[index])).double()
            torch.testing.assert_close(
                offset, bias[rows[index]].mean() - bias.mean() + number.log()
            )
        else:
            assert not found.any()
            assert offset == 0
    for key in set(after) - set(report.loaded):
        assert torch.equal(after[key], before[key]), key


def net_and_classifier():
    torch.manual_seed(4)
    classifier = randomize(build_classifier("googlenet", 10, width=1 / 32, dropout=0.0).double())
    model = build_model("fcn-googlenet", 3, width=1 / 32).double()
    features = torch.randn(2, classifier.last.in_channels, 3, 5).double()
    return model, classifier, features


def test_of_alike_rows_probabilities_are_the_sums_of_the_classifiers():
    """The bound by the mean is then exact."""
    model, classifier, features = net_and_classifier()
    kinds = torch.tensor([0, 1, 1, 0, 2, 2, 2, 0, 0, 1])
    with torch.no_grad():
        for parameter in classifier.last.parameters():
            parameter.copy_(parameter[[0, 1, 4]][kinds])
    rows = {kind: torch.nonzero(kinds == kind).flatten().tolist() for kind in (1, 2)}
    initialize_scores(model, classifier_state_dict(classifier), rows, rest=0)
    expected = torch.zeros(2, 3, 3, 5).double()
    expected.index_add_(1, kinds, classifier.last(features).softmax(1))
    (layer,) = model.head.score_layers.values()
    torch.testing.assert_close(layer(features).softmax(1), expected)


def test_scores_bound_the_sums_of_the_classifiers_from_below():
    model, classifier, features = net_and_classifier()
    rows = {0: [0, 1, 9], 1: [3, 5], 2: [2, 4, 6, 7, 8]}
    initialize_scores(model, classifier_state_dict(classifier), rows)
    scores = classifier.last(features)
    (layer,) = model.head.score_layers.values()
    found = layer(features) + scores.mean(1, keepdim=True)  # that mean is what was taken off
    for index, chosen in rows.items():
        assert (found[:, index] <= scores[:, chosen].logsumexp(1) + 1e-12).all()


def test_scale_is_a_factor_on_the_classifiers_scores():
    model, classifier, _ = net_and_classifier()
    rows = {0: [1], 1: [2, 5]}
    initialize_scores(model, classifier_state_dict(classifier), rows, rest=2, scale=0.25)
    found = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in classifier.last.parameters():
            parameter *= 0.25
    initialize_scores(model, classifier_state_dict(classifier), rows, rest=2)
    for key, value in found.items():
        torch.testing.assert_close(value, model.state_dict()[key])
    for scale in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="scale must be finite and > 0, got"):
            initialize_scores(model, classifier_state_dict(classifier), rows, scale=scale)


def test_single_precision_rounds_once_at_the_end():
    state = {key: value.float() for key, value in state_of("squeezenet").items()}
    model = build_model("fcn-squeezenet", 6, width=1 / 32)
    twin = build_model("fcn-squeezenet", 6, width=1 / 32).double()
    initialize_scores(model, state, ROWS)
    initialize_scores(twin, {key: value.double() for key, value in state.items()}, ROWS)
    assert torch.equal(
        model.state_dict()["score_fr.weight"], twin.state_dict()["score_fr.weight"].float()
    )


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
    for head in (None, ["sem"], {"sem"}, 0):
        with pytest.raises(ValueError, match="head must be one of sem, geo, got "):
            initialize_scores(model, state, ROWS, head=head)


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


@pytest.mark.parametrize(
    ("rows", "rest", "message"),
    [
        ({1: [3]}, 1, "rest must be a class that rows leaves out, got 1"),
        ({1: [3]}, 6, r"rows must be of classes in \[0, 6\), got class 6"),
        ({1: range(10)}, 0, "rows must name at least one row of a class, got none for 0"),
    ],
)
def test_rest_that_cannot_be_is_refused(rows, rest, message):
    model = build_model("fcn-googlenet", 6, width=1 / 32)
    with pytest.raises(ValueError, match=message):
        initialize_scores(model, state_of("googlenet"), rows, rest=rest)


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
    with pytest.raises(ValueError, match="must be a trunk or have only one, got trunks color"):
        initialize_scores(model, state_of("googlenet"), ROWS)

"""State dicts, and what users do with them: the published names, in nets and parts of nets."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from fcn_ext.models import FCN, Head, VGG16Trunk, build_model

from .common import ALL, randomize

IMAGES = torch.randn(1, 3, 20, 30)


def build(name: str = "fcn8s", **options) -> FCN:
    return randomize(build_model(name, num_classes=5, width=1 / 32, **options)).eval()


@pytest.mark.parametrize("name", ALL)
def test_saved_state_dicts_load(name):
    model, other = build(name, batch_norm=True), build(name, batch_norm=True)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file)
    keys = list(state)
    assert not [key for key in keys if key.startswith(("trunks.", "heads."))]
    other.load_state_dict(state)
    assert list(state) == keys
    assert torch.equal(other(IMAGES), model(IMAGES))
    assert other.load_state_dict(state, assign=True) == ([], [])
    assert torch.equal(other(IMAGES), model(IMAGES))


def test_names_hold_in_a_module_around_the_net():
    parent = nn.ModuleDict({"net": build(), "other": nn.Linear(1, 1)})
    state = parent.state_dict()
    assert next(iter(state)) == "net.conv1_1.weight"
    assert next(reversed(state)) == "other.bias"
    other = nn.ModuleDict({"net": build(), "other": nn.Linear(1, 1)})
    other.load_state_dict(state)
    assert torch.equal(other["net"](IMAGES), parent["net"](IMAGES))
    del state["net.fc6.bias"]
    state["net.fc7.scale"] = torch.zeros(1)
    result = other.load_state_dict(state, strict=False)
    assert result == (["net.fc6.bias"], ["net.fc7.scale"])


def test_messages_use_the_published_names():
    model = build()
    state = model.state_dict()
    state["fc6.weight"] = torch.zeros(2, 2)
    del state["score_pool3.bias"]
    state["fc8.weight"] = state["conv1_1.scale"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as raised:
        model.load_state_dict(state)
    message = str(raised.value)
    for part in (
        'Missing key(s) in state_dict: "score_pool3.bias"',
        'Unexpected key(s) in state_dict: "fc8.weight", "conv1_1.scale"',
        "size mismatch for fc6.weight",
    ):
        assert part in message
    assert "trunks." not in message
    assert "heads." not in message


def test_versions_of_layers_are_known_by_both_names():
    """torch's batch norm reads the version of its state dict, by path; older code by name."""
    state = build(batch_norm=True).state_dict()
    for name in ("bn1_1", "trunks.main.bn1_1"):
        assert state._metadata[name] == {"version": 2}
    del state["bn1_1.num_batches_tracked"]
    result = build(batch_norm=True).load_state_dict(state, strict=False)
    assert result.missing_keys == ["bn1_1.num_batches_tracked"]


def test_paths_load_as_well():
    model, other = build(), build()
    other.load_state_dict(dict(model.named_parameters()))
    assert torch.equal(other(IMAGES), model(IMAGES))


def test_state_dicts_take_the_place_of_parameters():
    model, other = build(), build()
    result = torch.func.functional_call(model, other.state_dict(), (IMAGES,))
    assert torch.equal(result, other(IMAGES))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_keep_their_names(copied):
    model = build()
    other = copied(model)
    assert list(other.state_dict()) == list(model.state_dict())
    nn.init.zeros_(model.fc6.weight)
    assert other.fc6.weight.count_nonzero() > 0
    model.load_state_dict(other.state_dict())
    assert torch.equal(model(IMAGES), other(IMAGES))


def test_layers_are_attributes_by_their_names():
    model = build()
    assert model.conv1_1 is model.trunk.conv1_1
    assert model.get_submodule("score_pool3") is model.head.streams["main"]["score_pool3"]
    assert model.get_parameter("score_fr.weight").shape == (5, 128, 1, 1)
    before = model(IMAGES)
    model.fc6 = nn.Sequential(model.fc6)
    assert isinstance(model.trunk.fc6, nn.Sequential)
    assert torch.equal(model(IMAGES), before)
    assert "fc6.0.weight" in model.state_dict()
    assert "fc6" not in model._modules
    with pytest.raises(AttributeError, match="'FCN' object has no attribute 'conv9'"):
        model.conv9  # noqa: B018
    assert not hasattr(model, "conv9")


def test_a_layer_is_replaced_by_a_layer_or_none():
    """As torch has it of any module's layers."""
    net = build_model("fcn8s", 5, width=1 / 32)
    for wrong in (3, "conv", torch.zeros(1)):
        with pytest.raises(TypeError, match="cannot assign"):
            net.score_fr = wrong
    net.score_fr = None
    assert net.head.streams["main"]["score_fr"] is None
    net.conv1_1 = nn.Conv2d(3, 2, 3)
    assert net.trunk.conv1_1 is net.conv1_1


def test_a_layer_is_deleted_by_its_name():
    net = build_model("fcn8s", 5, width=1 / 32)
    del net.conv1_1
    assert not hasattr(net.trunk, "conv1_1")
    with pytest.raises(AttributeError, match="conv1_1"):
        del net.conv1_1
    net.extra = nn.Conv2d(3, 2, 3)
    del net.extra
    assert not hasattr(net, "extra")


def test_layers_without_names_of_their_own_are_refused():
    class Named(VGG16Trunk):
        def __init__(self) -> None:
            super().__init__(width=1 / 64)
            self.score_fr = nn.Identity()

    trunk = Named()
    with pytest.raises(ValueError, match=r"tell their layers apart, got score_fr for trunks\.main"):
        FCN(trunk, Head(trunk, 3))

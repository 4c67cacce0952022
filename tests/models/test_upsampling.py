"""State dicts of nets whose fixed upsampling kernels are parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fcn_ext.models import build_model

NAMES = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_bilinear_kernels_are_left_out(name, dtype, published_net, narrow):
    state = {key: value.to(dtype) for key, value in published_net(name).state_dict().items()}
    keys = list(state)
    model = build_model(name, **narrow)
    result = model.load_state_dict(state)
    assert result.missing_keys == []
    assert result.unexpected_keys == []
    assert list(state) == keys, "the caller's state dict stays whole"
    torch.testing.assert_close(model.fc6.weight, state["fc6.weight"].float())


def test_depthwise_kernels_are_left_out(published_net, narrow):
    state = published_net("fcn8s").state_dict()
    for key in ("upscore2.weight", "upscore_pool4.weight", "upscore8.weight"):
        state[key] = state[key].diagonal().permute(2, 0, 1).unsqueeze(1)
    build_model("fcn8s", **narrow).load_state_dict(state)


def test_loads_as_part_of_another_module(published_net, narrow):
    state = {f"net.{key}": value for key, value in published_net("fcn8s").state_dict().items()}
    parent = nn.ModuleDict({"net": build_model("fcn8s", **narrow)})
    parent.load_state_dict(state)
    state["net.upscore8.weight"] = state["net.upscore8.weight"] * 1.01
    with pytest.raises(RuntimeError, match=r"net\.upscore8\.weight must be the bilinear kernel"):
        parent.load_state_dict(state)


def learned(weight):
    return weight + 1e-3


def off_diagonal(weight):
    weight = weight.clone()
    weight[0, 1, 2, 2] = 1e-6
    return weight


def not_a_number(weight):
    weight = weight.clone()
    weight[1, 1, 0, 0] = float("nan")
    return weight


def scaled(weight):
    return weight * (1 + 1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (learned, "must not mix classes"),
        (off_diagonal, "must not mix classes"),
        (not_a_number, "must be the bilinear kernel of size 4, as upsampling is fixed here"),
        (scaled, ".* differs by up to .*e-06, so it was probably learned"),
        (lambda weight: weight[:, :, :3, :3], r"must have shape \(5, 5, 4, 4\) or \(5, 1, 4, 4\)"),
        (lambda weight: weight.long(), "must be a floating-point tensor, got torch.int64"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_other_kernels_are_refused_by_name(change, message, strict, published_net, narrow):
    state = published_net("fcn16s").state_dict()
    state["upscore2.weight"] = change(state["upscore2.weight"])
    with pytest.raises(RuntimeError, match=rf"upscore2\.weight {message}"):
        build_model("fcn16s", **narrow).load_state_dict(state, strict=strict)


def test_kernels_of_another_net_are_unexpected(published_net, narrow):
    state = published_net("fcn32s").state_dict()
    result = build_model("fcn8s", **narrow).load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["upscore.weight"]


def test_own_state_dict_returns(narrow):
    model = build_model("fcn8s", **narrow)
    other = build_model("fcn8s", **narrow)
    other.load_state_dict(model.state_dict())
    assert all(map(torch.equal, other.parameters(), model.parameters()))

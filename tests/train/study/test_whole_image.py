"""A whole image against its windows: what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fcn_ext.models import build_classifier
from fcn_train.study.whole_image import operations

Command = Callable[..., tuple[int, str, str]]


def test_operations_are_those_of_the_layers() -> None:
    net = build_classifier("alexnet", 10, width=0.1).eval()
    images = torch.zeros(2, 3, 227, 227)
    total, sizes = 0, {"conv1": 55, "conv2": 27, "conv3": 13, "conv4": 13, "conv5": 13}
    for name, layer in net.trunk.named_children():
        if isinstance(layer, torch.nn.Conv2d):
            side = sizes.get(name, 1)
            total += layer.weight.numel() * side * side
    total += net.last.weight.numel()
    assert operations(net, images) == pytest.approx(2 * total / 1e9)


def test_the_command(command: Command, tmp_path: Path) -> None:
    flags = ("--width", "0.05", "--size", "260", "300", "--batch", "2", "--repeats", "1")
    output = ("--threads", "1", "--output", tmp_path / "study")
    code, out, _ = command("study", "whole-image", *flags, *output)
    assert code == 0
    assert "260 x 300 against its 2 x 4 windows of 227 x 227: alexnet" in out
    assert (tmp_path / "study" / "picture.png").exists()
    values = json.loads((tmp_path / "study" / "study.json").read_text())
    rows = values["rows"]
    assert [row["cost"].split(",")[0] for row in rows] == ["multiply-adds", "forward", "backward"]
    for row in rows:
        assert row["all windows"] == pytest.approx(8 * row["a window"])
        assert row["ratio"] == pytest.approx(row["all windows"] / row["whole image"])
    assert 1 < rows[0]["ratio"] < 8
    assert [row["paper"] for row in rows] == [
        *(None, pytest.approx(5.4545, abs=1e-3), pytest.approx(6.486, abs=1e-3))
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "100", "500"), "--size must be >= 227, a window, got (100, 500)"),
        (("--size", "0", "500"), "--size must be in [1, 4096]"),
        (("--batch", "0"), "--batch must be >= 1, got 0"),
        (("--batch", "9" * 24), f"--batch must be <= 65536, got {'9' * 24}"),
        (("--repeats", "0"), "--repeats must be >= 1, got 0"),
        (("--seed", "-1"), "--seed must be in [0, 2**63), got -1"),
        (("--seed", str(2**80)), "--seed must be in [0, 2**63), got "),
        (("--width", "1e30"), "--width must be <= 65536, got 1e+30"),
        (("--width", "-1"), "--width must be finite and > 0, got -1.0"),
    ],
)
def test_mistakes(command: Command, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command("study", "whole-image", "--width", "0.05", *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err

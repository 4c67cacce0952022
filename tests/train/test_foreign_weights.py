"""Weights of other networks and other classes: what is taken of them, and what is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fcn_train.errors import UsageError
from fcn_train.foreign_weights import from_weights
from fcn_train.network import build_network
from fcn_train.options import TrainOptions
from fcn_train.run import load_run

from .test_initialize import PLAIN, some_weights

Command = Callable[..., tuple[int, str, str]]
NAMES = ("sky", "land", "sea")


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_foreign_weights_of_any_classes_are_tuned(num_classes: int, tmp_path: Path) -> None:
    source = some_weights(num_classes)
    source["upscore2.weight"] = torch.zeros(num_classes, num_classes, 4, 4)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.items()}}, tmp_path / "w.pth")
    model = build_network(PLAIN, len(NAMES))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = from_weights(model, tmp_path / "w.pth", [NAMES])
    for name, value in model.state_dict().items():
        anew = name.startswith("score_") and num_classes != len(NAMES)
        assert torch.equal(value, before[name] if anew else source[name]), name
    assert "left out: " in said
    assert "upscore2.weight" in said
    assert ("score_fr.weight" in said) == (num_classes != len(NAMES))


def test_run_of_other_classes_is_tuned(
    finished_run: Path, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    trained = load_run(finished_run)
    weights, names = trained.model.state_dict(), trained.classes.names
    assert weights["score_fr.weight"].any()
    model = build_network(tiny_options.model, 21)
    said = from_weights(model, finished_run, [names])
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert "left out" not in said
    # As many classes, but others: what the score layers know is of no use.
    model = build_network(tiny_options.model, 21)
    said = from_weights(model, finished_run, [names[::-1]])
    assert torch.equal(model.state_dict()["conv3_1.weight"], weights["conv3_1.weight"])
    assert not model.state_dict()["score_fr.weight"].any()
    assert "at their initial values: score_" in said


@pytest.mark.parametrize("change", [{"width": 0.1}, {"fc_channels": 32}])
def test_weights_of_another_network_are_refused(change: Any, tmp_path: Path) -> None:
    save_file(some_weights(options=replace(PLAIN, **change)), tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match=r"is of another network: .* must have shape"):
        from_weights(build_network(PLAIN, 3), tmp_path / "w.safetensors", [NAMES])


@pytest.mark.parametrize("name", ["fcn-alexnet", "fcn-alexnet-torchvision-8s"])
def test_a_run_on_another_trunk_is_named(name: str, finished_run: Path) -> None:
    """Nets on VGG16 and on AlexNet share names of layers; no --model.width makes them alike."""
    model = build_network(replace(PLAIN, name=name, width=0.25), 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"; it is a run of fcn8s, which has another trunk$"):
        from_weights(model, finished_run, [NAMES])


def test_fine_tuning_by_the_command_says_what_was_left_out(
    finished_run: Path, command: Command, sample_root: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(sample_root / "JPEGImages", data / "images")
    shutil.copytree(sample_root / "SegmentationClass", data / "labels")
    (data / "classes.txt").write_text("".join(f"class {i}\n" for i in range(22)))
    code, out, err = command(
        *("train", "--data.kind", "folder", "--data.root", data, "--data.crop", "32"),
        *("--data.train-split", "", "--data.val-split", "", "--init-weights", finished_run),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--optim.batch", "2"),
        *("--optim.steps", "1", "--threads", "1", "--output", tmp_path / "run"),
    )
    assert code == 0, err
    assert f"{finished_run}: " in out
    assert "left out: score_fr.weight, score_fr.bias" in out


def test_published_weights_of_two_heads_and_of_two_streams(tmp_path: Path) -> None:
    """Caffe's names: score_fr_sem of SIFT Flow's nets, conv1_1color and score_frhha of NYUDv2's."""
    generator = torch.Generator().manual_seed(3)
    heads = {"semantic": 33, "geometric": 3}
    two_heads = build_network(replace(PLAIN, name="fcn16s"), heads)
    late = replace(PLAIN, name="fcn32s", fusion="late")
    for model, classes in (
        (two_heads, [[f"{name} {i}" for i in range(n)] for name, n in heads.items()]),
        (build_network(late, 3, "color-hha"), [NAMES]),
    ):
        values = {
            name: torch.rand(value.shape, generator=generator)
            for name, value in model.state_dict().items()
        }
        source = {}
        for name, value in values.items():
            part, _, layer = name.rpartition(".")[0].rpartition(".")
            caffe = {
                "semantic": f"{layer}_sem",
                "geometric": f"{layer}_geo",
                "color": f"{layer}color",
                "hha": f"{layer}hha",
            }.get(part, layer)
            source[f"{caffe}.{name.rpartition('.')[2]}"] = value
        assert not source.keys() & {n for n in values if "." in n.rpartition(".")[0]}
        save_file(source, tmp_path / "w.safetensors")
        said = from_weights(model, tmp_path / "w.safetensors", classes)
        assert said.endswith(f"{len(values)} of {len(values)} tensors taken")
        for name, value in model.state_dict().items():
            assert torch.equal(value, values[name]), name

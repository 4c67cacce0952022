"""What networks of several heads start from, and what starts from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcn_train.data import write_sample_dataset
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

pytestmark = pytest.mark.usefixtures("no_pictures")

Command = Callable[..., tuple[int, str, str]]
BOTH = ("--data.label-folder", "SemanticLabels,GeoLabels")


def test_the_chain_of_coarser_runs(options: TrainOptions, tmp_path: Path) -> None:
    """32s to 16s to 8s, each with both heads."""
    optim = replace(options.optim, steps=1, lr=1e-9)
    before: Path | None = None
    for name in ("fcn32s", "fcn16s", "fcn8s"):
        model = replace(options.model, name=name)  # type: ignore[arg-type]
        output = tmp_path / name
        lr = 0.05 if before is None else 1e-9
        finer = replace(options, model=model, optim=replace(optim, lr=lr), output=output)
        run = train(replace(finer, init_coarser=before))
        if before is not None:
            weights = load_file(before / "last.safetensors")
            for key, value in load_file(run / "last.safetensors").items():
                if key in weights and "running" not in key and "num_batches" not in key:
                    torch.testing.assert_close(value, weights[key], atol=1e-6, rtol=1e-6)
        before = run


def test_a_net_of_two_heads_starts_from_one_of_one(
    semantic: Path,
    both: Path,
    options: TrainOptions,
    flags: tuple[object, ...],
    command: Command,
    tmp_path: Path,
) -> None:
    """The head of the same classes takes its score layers, the other starts from zero; and back."""
    small = (*flags, "--optim.lr", "1e-9", "--optim.warmup", "0")
    code, out, err = command("train", *small, *BOTH, "--init-weights", semantic)
    assert code == 0, err
    assert f"{semantic}: " in out
    assert "at their initial values: geometric.score_fr.weight" in out
    known = load_file(semantic / "last.safetensors")
    found = load_file(tmp_path / "run" / "last.safetensors")
    torch.testing.assert_close(
        found["semantic.score_fr.weight"], known["score_fr.weight"], atol=1e-6, rtol=1e-5
    )
    assert found["geometric.score_fr.weight"].abs().max() < 1e-6
    one = (*small[:-1], "0", "--output", tmp_path / "one", "--init-weights", both)
    code, out, err = command("train", *one, "--data.label-folder", "GeoLabels")
    assert code == 0, err
    assert "left out: semantic.score_fr.weight" in out
    torch.testing.assert_close(
        load_file(tmp_path / "one" / "last.safetensors")["score_fr.weight"],
        load_file(both / "last.safetensors")["geometric.score_fr.weight"],
        atol=1e-6,
        rtol=1e-5,
    )


def test_three_sets_of_a_folder(command: Command, tmp_path: Path) -> None:
    """Any number of heads; the classes of each in a file."""
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=3, val=1, size=48)
    shutil.copytree(root / "geometry", root / "third")
    (root / "classes-third.txt").write_text("a\nb\nc\nd\n")
    run = tmp_path / "run"
    code, _, err = command(
        *("train", "--model", "fcn-squeezenet", "--data.kind", "folder", "--data.root", root),
        *("--data.label-folder", "labels,geometry,third", "--model.width", "0.1"),
        *("--model.head-weights", "third=0.25,labels=1,geometry=0.5", "--data.crop", "32"),
        *("--optim.class-weights", "labels=none,geometry=median-frequency,third=none"),
        *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1", "--output", run),
    )
    assert code == 0, err
    model = load_run(run).model
    assert {name: head.num_classes for name, head in model.heads.items()} == {
        "labels": 21,
        "geometry": 3,
        "third": 4,
    }
    assert [head.loss_weight for head in model.heads.values()] == [1.0, 0.5, 0.25]

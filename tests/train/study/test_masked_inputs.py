"""Masked inputs: which network is scored on what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcn_train.config import load_config
from fcn_train.data.opening import open_split
from fcn_train.evaluator import Evaluator
from fcn_train.network import normalization_of
from fcn_train.options import DataOptions
from fcn_train.run import load_run
from fcn_train.runtime import open_runtime

Command = Callable[..., tuple[int, str, str]]
TINY = (
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32", "--seeds", "1"),
    *("--optim.batch", "2", "--optim.steps", "2", "--threads", "1", "--points", "1"),
)


@pytest.mark.usefixtures("no_pictures")
def test_the_command(command: Command, sample_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "study"
    flags = ("--data.root", sample_root, "--output", output)
    assert command("study", "masked-inputs", *flags, *TINY)[0] == 0
    values = json.loads((output / "study.json").read_text())
    rows = {row["input"]: row for row in values["rows"]}
    assert [row["paper"] for row in rows.values()] == [84.8, 81.0, 19.8, 76.1, 37.8, 29.1]
    runs = {load_config(path).data.mask: path for path in (output / "runs").iterdir()}
    assert set(runs) == {"none", "background", "foreground", "shape"}

    row = rows["reference, background alone"]
    assert (row["masked in training"], row["masked in scoring"]) == ("none", "foreground")
    run = load_run(runs["none"])
    dataset = open_split(DataOptions(root=sample_root, mask="foreground"), "val")
    runtime = open_runtime("cpu", 1, "none", print)
    matrix = Evaluator(dataset, runtime, normalization_of(run.options.model)).count(run.model)
    expected = 100 * np.nanmean(matrix.compute().class_iu[1:])
    assert row["mean IU without background (%)"] == pytest.approx(expected)

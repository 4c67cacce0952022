"""What a step can have beside the paper's rule, in one process and in two."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcn_train import compiling
from fcn_train.cli import main

from .several import Launcher

pytestmark = pytest.mark.usefixtures("no_pictures")


def losses(run: Path) -> list[float]:
    with (run / "training.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("amp", "loss"), [("none", "ohem"), ("fp16", "cross-entropy")])
def test_two_processes_train_as_one(amp: str, loss: str, sample_root: Path, tmp_path: Path) -> None:
    """Clipped by the norm of the gradients of all images, averaged, scaled, cached and measured."""
    flags = [
        *("train", "--data.root", str(sample_root), "--data.crop", "32", "--threads", "1"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--model.no-batch-norm"),
        *("--optim.batch", "3", "--optim.steps", "4", "--optim.schedule", "cosine"),
        *("--optim.clip-norm", "0.05", "--optim.ema", "0.9", "--amp", amp, "--profile"),
        *("--loss", loss),
        *("--data.transfer", "uint8", "--data.cache", "1MiB", "--log-every", "1"),
    ]
    runs = {size: tmp_path / f"{size}" for size in (1, 2)}
    for size, run in runs.items():
        given = [*flags, "--output", str(run)]
        ended = Launcher(tmp_path / "said").run(size, lambda rank, given=given: main(given))
        assert [end.code for end in ended] == [0] * size, ended
        assert all((end.out, end.err) == ("", "") for end in ended[1:]), ended
    one, two = runs.values()
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    tolerance = 1e-4 if amp == "none" else 1e-2
    first, second = (losses(run) for run in (one, two))
    assert second == pytest.approx(first, rel=tolerance)
    for name in ("last", "last-raw"):
        found, expected = (load_file(run / f"{name}.safetensors") for run in (two, one))
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, two)]
    skipped = [values.get("skipped_steps") for values in metrics]
    assert skipped == ([None, None] if amp == "none" else [0, 0])


def test_compiled_steps(sample_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of graphs that are run as they are: with dropout and batch norm over both processes, and a
    batch that does not divide."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    flags = [
        *("train", "--data.root", str(sample_root), "--data.crop", "32", "--threads", "1"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--model.batch-norm"),
        *("--optim.batch", "3", "--optim.steps", "3", "--log-every", "1"),
    ]
    runs = []
    warnings.simplefilter("ignore")  # what torch's compiler says of itself, here an error
    for size, more in ((1, []), (2, ["--compile"])):
        run = tmp_path / f"{size}"
        given = [*flags, *more, "--output", str(run)]
        ended = Launcher(tmp_path / "said").run(size, lambda rank, given=given: main(given))
        assert [end.code for end in ended] == [0] * size, ended
        runs.append(losses(run))
    assert runs[1] == pytest.approx(runs[0], rel=1e-4)

"""A network that diverged gives labels all the same: every command says that they mean nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from werkzeug.test import Client

from fcn_train.data import Example
from fcn_train.finite import FiniteWatch, NotFiniteError
from fcn_train.run import load_run
from fcn_train.runtime import Runtime
from fcn_train.segmenter import OnnxSegmenter
from fcn_train.serve.app import App, Limits
from fcn_train.weights import save_weights

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=[float("nan"), float("inf"), 1e30])
def diverged(request: pytest.FixtureRequest, varied_run: Path, tmp_path: Path) -> Path:
    """A run whose weights are not finite, or finite and so large that scores are not."""
    run = Path(shutil.copytree(varied_run, tmp_path / "diverged"))
    weights = load_file(run / "last.safetensors")
    (run / "last.safetensors").unlink()
    save_weights(
        run / "last.safetensors",
        {
            name: torch.full_like(value, request.param) if value.dim() == 4 else value
            for name, value in weights.items()
        },
    )
    return run


def test_scores_are_looked_at_in_the_block_alone(varied_run: Path, diverged: Path) -> None:
    images = torch.ones(1, 3, 9, 9)
    for path, finite in ((varied_run, True), (diverged, False)):
        net = load_run(path).model
        with FiniteWatch(net) as watch:
            assert watch.held()
            net.scores(images)
        assert watch.held() is finite
        with FiniteWatch(net) as after:
            pass
        net.scores(images)
        assert after.held()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("options", [(), ("--logits", "full"), ("--tta", "flip")])
def test_evaluation_warns(
    options: tuple[str, ...], diverged: Path, varied_run: Path, command: Command, tmp_path: Path
) -> None:
    said = "warning: {}: the network gives scores that are not finite, so its labels and these"
    for run, warns in ((diverged, True), (varied_run, False)):
        code, _, err = command("evaluate", run, "--output", tmp_path / "out", *options)
        assert code == 0
        assert (said.partition("{}: ")[2] in err) is warns


def test_there_is_no_calibration(diverged: Path, command: Command, tmp_path: Path) -> None:
    code, _, err = command("evaluate", diverged, "--calibration", "--output", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1
    assert "scores that are not finite, so there is nothing for --calibration to compare" in err


def test_prediction_names_the_images(
    diverged: Path, sample_root: Path, command: Command, tmp_path: Path
) -> None:
    image = sorted((sample_root / "JPEGImages").iterdir())[0]
    code, out, err = command("predict", diverged, image, "--output", tmp_path / "out")
    assert code == 1
    assert "0 of 1 image segmented" in out
    assert f"warning: {image}: {diverged} gives scores of it that are not finite" in err


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_scores_of_an_exported_file(output: str) -> None:
    def file(images: np.ndarray) -> list[np.ndarray]:
        return [np.full((1, 3, *images.shape[2:]), np.nan, dtype=np.float32)]

    file.path = Path("net.onnx")  # type: ignore[attr-defined]
    file.metadata = SimpleNamespace(  # type: ignore[attr-defined]
        output=output, pixels="uint8", channels="color", label_sets=(), normalization=None
    )
    image = np.zeros((5, 7, 3), dtype=np.uint8)
    with pytest.raises(NotFiniteError):
        OnnxSegmenter(cast(Any, file))(Example(image, image[..., 0]))


def test_the_page_is_told(diverged: Path, sample_root: Path) -> None:
    warned: list[str] = []
    app = App(
        load_run(diverged),
        Runtime(torch.device("cpu")),
        Limits(10**6, 10**6),
        "127.0.0.1",
        warned.append,
    )
    data = sorted((sample_root / "JPEGImages").iterdir())[0].read_bytes()
    client = Client(app)
    response = client.post(
        "/segment", data=data, content_type="image/jpeg", base_url="http://127.0.0.1:8000"
    )
    assert response.status_code == 422
    assert response.text == "The network gives scores of this picture that are not finite.\n"
    assert warned == []


@pytest.mark.usefixtures("no_pictures")
def test_training_that_diverges_in_its_last_step(
    sample_root: Path, command: Command, tmp_path: Path
) -> None:
    """Its loss was finite: it is that of the weights before."""
    run = tmp_path / "run"
    code, _, err = command(
        *("train", "--data.root", sample_root, "--data.crop", "32", "--model.width", "0.05"),
        *("--model.fc-channels", "16", "--model.no-batch-norm", "--optim.batch", "2"),
        *("--optim.steps", "1", "--optim.lr", "1e38", "--threads", "1", "--output", run),
    )
    assert code == 0
    assert "the network gives scores that are not finite" in err
    assert json.loads((run / "metrics.json").read_text())["steps"] == 1

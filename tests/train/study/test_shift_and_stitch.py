"""Shift-and-stitch against skips: where dense scores lie, and what the study writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fcn_ext.geometry import Deconvolution, Grid
from fcn_ext.models import FCN, build_model
from fcn_train.study.shift_and_stitch import STRIDE, DenseScores, rare, stitched

Command = Callable[..., tuple[int, str, str]]
TINY = (
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32", "--seeds", "1"),
    *("--optim.batch", "2", "--optim.steps", "2", "--threads", "1", "--points", "1"),
)


def net_of(name: str, padding: str, width: float = 0.02) -> FCN:
    model = build_model(name, 3, padding=padding, width=width, dropout=0.0).double().eval()
    torch.nn.init.normal_(model.score_fr.weight)
    return model


@pytest.mark.parametrize("name", ["fcn32s", "fcn-alexnet", "fcn-googlenet", "fcn-squeezenet"])
@pytest.mark.parametrize("padding", ["published", "same"])
def test_cells_lie_where_the_geometry_says(name: str, padding: str) -> None:
    net = net_of(name, padding)
    geometry = DenseScores(net, lambda images: images).geometry
    assert isinstance(geometry, Deconvolution)
    assert geometry.stride == STRIDE
    # Cell 0 of scores that are upsampled so: the middle of its kernel, cropped.
    middle = Grid().upsample(STRIDE, kernel_size=geometry.kernel_size).shift
    first = middle - geometry.offset[0]
    # The first of the net's own cells is the fourth.
    assert first + 3 * STRIDE == net.score_grid.center(0)


@pytest.mark.parametrize("padding", ["published", "same"])
@pytest.mark.parametrize("size", [(1, 1), (33, 64), (100, 61)])
@torch.no_grad()
def test_scores_cover_images_of_any_size(padding: str, size: tuple[int, int]) -> None:
    net = net_of("fcn-squeezenet", padding)
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    for dense in (stitched(net), rare(net)):
        assert dense(images).shape == (1, 3, *size)
        assert dense.predict(images).shape == (1, *size)


@torch.no_grad()
def test_the_nets_own_scores_are_among_the_dense() -> None:
    net = net_of("fcn-squeezenet", "same", 0.2)
    images = torch.randn(1, 3, 150, 180, dtype=torch.float64)
    own = net.scores(F.pad(images, (0, 24, 0, 24)))
    assert own.std() > 0
    assert torch.equal(stitched(net).scores(images)[:, :, 3::4, 3::4], own)


@pytest.mark.usefixtures("no_pictures")
def test_the_command(command: Command, sample_root: Path, tmp_path: Path) -> None:
    flags = ("--data.root", sample_root, "--output", tmp_path / "study")
    code, out, _ = command("study", "shift-and-stitch", *flags, *TINY)
    assert code == 0
    assert "The paper: section 3.2" in out
    assert (tmp_path / "study" / "picture.png").exists()
    values = json.loads((tmp_path / "study" / "study.json").read_text())
    rows = {row["scores"]: row for row in values["rows"]}
    assert list(rows) == [
        *("fcn32s", "fcn32s, shift-and-stitch to 8", "fcn32s, rarefied to 8"),
        *("fcn16s, skips", "fcn8s, skips"),
    ]
    cost = {name: row["G multiply-adds per image"] for name, row in rows.items()}
    # Sixteen passes, each on a larger canvas; the rarefied net shares what they have in common.
    assert cost["fcn32s, shift-and-stitch to 8"] > 16 * cost["fcn32s"]
    assert cost["fcn32s"] < cost["fcn32s, rarefied to 8"] < cost["fcn32s, shift-and-stitch to 8"]
    assert cost["fcn32s"] < cost["fcn16s, skips"] < cost["fcn8s, skips"] < 2 * cost["fcn32s"]
    metrics = json.loads((tmp_path / "study" / "runs" / "fcn8s-0" / "metrics.json").read_text())
    assert rows["fcn8s, skips"]["mean IU (%)"] == pytest.approx(100 * metrics["mean_iu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "fcn-pool4"), "--model must have a net at each stride, got fcn-pool4"),
        (("--model.upsampling", "dense"), "--model.upsampling must be fixed here, got dense"),
    ],
)
def test_mistakes(command: Command, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command("study", "shift-and-stitch", *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err

"""The loss sampled by cells and by classes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from fcn_ext.geometry import Grid
from fcn_ext.models import build_model
from fcn_train.class_weights import class_shares, class_weights
from fcn_train.data import open_dataset
from fcn_train.errors import UsageError
from fcn_train.loss import pixel_loss
from fcn_train.option_rules import check
from fcn_train.options import OptimOptions, TrainOptions
from fcn_train.sampling import sampled_cells, sampled_classes

GRIDS = {
    "same": Grid(Fraction(1, 8), Fraction(-7, 16)),
    "published": Grid(Fraction(1, 32), Fraction(-25, 64)),
    "pixels": Grid(),
    "before": Grid(Fraction(1, 8), Fraction(41, 16)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("size", [(1, 1), (20, 33), (64, 40)])
def test_cells_are_kept_whole(name: str, size: tuple[int, int]) -> None:
    grid = GRIDS[name]
    target = torch.randint(0, 5, (3, *size), dtype=torch.uint8)
    kept = sampled_cells(target, grid, 0.5) != 255
    for image in range(3):
        of_cell: dict[tuple[int, int], set[bool]] = {}
        for row in range(size[0]):
            for column in range(size[1]):
                cell = tuple(round(grid.scale * p + grid.shift) for p in (row, column))
                of_cell.setdefault(cell, set()).add(bool(kept[image, row, column]))  # type: ignore[arg-type]
        assert all(len(states) == 1 for states in of_cell.values())


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_share_of_cells(share: float) -> None:
    target = torch.ones(40, 64, 64, dtype=torch.uint8)
    kept = sampled_cells(target, GRIDS["same"], share) != 255
    cells = kept[:, ::8, ::8].float()
    assert abs(float(cells.mean()) - share) < 0.05


def test_void_stays_and_labels_stay() -> None:
    target = torch.randint(0, 3, (2, 16, 16), dtype=torch.uint8)
    target[:, :4] = 255
    for result in (
        sampled_cells(target, GRIDS["same"], 0.5),
        sampled_classes(target, torch.tensor([0.5, 1.0, 0.0])),
    ):
        assert (result[:, :4] == 255).all()
        assert ((result == target) | (result == 255)).all()
    empty = torch.zeros(2, 0, 4, dtype=torch.uint8)
    assert sampled_cells(empty, GRIDS["same"], 0.5).shape == (2, 0, 4)
    assert sampled_classes(empty, torch.ones(3)).shape == (2, 0, 4)


def test_shares_of_classes() -> None:
    target = torch.arange(3, dtype=torch.uint8).repeat_interleave(4000).reshape(1, 120, 100)
    result = sampled_classes(target, torch.tensor([0.25, 1.0, 0.0]))
    counts = [int((result == label).sum()) for label in range(3)]
    assert abs(counts[0] - 1000) < 150
    assert counts[1:] == [4000, 0]


def test_shares_are_weights_of_at_most_one(sample_root: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    shares = class_shares("median-frequency", dataset, torch.device("cpu"))
    weights = class_weights("median-frequency", dataset, torch.device("cpu"))
    assert shares is not None
    assert weights is not None
    assert weights.max() > 1
    assert torch.equal(shares, weights.clamp(max=1))
    assert class_shares("none", dataset, torch.device("cpu")) is None


def test_the_loss_of_what_was_drawn() -> None:
    """In expectation a sum is the share of the whole one; a mean has one pixel's size."""
    model = build_model("fcn8s", 4, width=0.03, padding="same", fc_channels=4).double().eval()
    for name in ("score_fr", "score_pool4", "score_pool3"):
        torch.nn.init.normal_(getattr(model, name).weight)
    images = torch.randn(2, 3, 40, 48, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 40, 48), dtype=torch.uint8)
    with torch.no_grad():
        whole = {r: float(pixel_loss(model, images, target, r)) for r in ("mean", "sum")}
        for reduction, factor in (("sum", 0.5), ("mean", 1.0)):
            torch.manual_seed(1)
            found = [
                float(pixel_loss(model, images, target, reduction, cells=0.5)) for _ in range(30)
            ]
            assert np.std(found) > 0
            assert np.mean(found) == pytest.approx(factor * whole[reduction], rel=0.08)
        torch.manual_seed(3)
        by_cells = pixel_loss(model, images, target, cells=0.5)
        torch.manual_seed(3)
        drawn = sampled_cells(target, model.score_grid, 0.5)
        assert torch.equal(by_cells, pixel_loss(model, images, drawn))
        assert torch.equal(
            pixel_loss(model, images, target, shares=torch.ones(4)),
            pixel_loss(model, images, target),
        )


@pytest.mark.parametrize("cells", [0.0, -1.0, 1.5, float("nan")])
def test_what_is_refused(cells: float) -> None:
    options = replace(TrainOptions(), optim=OptimOptions(cells=cells))
    with pytest.raises(UsageError, match=r"--optim.cells must be in \(0, 1\], got"):
        check(options)

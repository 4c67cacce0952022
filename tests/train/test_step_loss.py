"""What a training's steps learn by, and what of it each process takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_train.data import SegmentationDataset, open_dataset
from fcn_train.heads import Net
from fcn_train.loss import pixel_loss
from fcn_train.network import build_network
from fcn_train.options import TrainOptions
from fcn_train.processes import ALONE, Processes
from fcn_train.runtime import Runtime
from fcn_train.step_loss import StepLoss

OPTIONS = TrainOptions()


@pytest.fixture(scope="module")
def dataset(sample_root: Path) -> SegmentationDataset:
    return open_dataset("sample", sample_root, "train")


def network(*, batch_norm: bool = False) -> Net:
    model = replace(OPTIONS.model, width=0.05, fc_channels=16, batch_norm=batch_norm)
    return build_network(model, 21)


def step_loss(dataset: SegmentationDataset, here: Processes, model: Net, **values: str) -> StepLoss:
    optim = replace(OPTIONS.optim, batch=2, accumulate=2)
    options = replace(OPTIONS, optim=optim, **values)  # type: ignore[arg-type]
    return StepLoss(options, model, dataset, Runtime(torch.device("cpu"), processes=here), [""])


def cuts(loss: StepLoss) -> list[tuple[int, int, int]]:
    """The number of each batch, and where its images that are taken begin and end."""
    return [(part.number, part.start, part.stop) for part in loss.parts]


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 32, 32, generator=generator), torch.arange(2).repeat(2, 32, 16)


def test_alone_it_is_the_loss_that_the_options_name(dataset: SegmentationDataset) -> None:
    model = network().eval()
    images, target = example()
    loss = step_loss(dataset, ALONE, model)
    expected = pixel_loss(model, images, target, logits="coarse")
    assert loss(model, images, target) == expected
    assert cuts(loss) == [(0, 0, 2), (1, 0, 2)]
    assert loss.of_heads() == []
    dice = step_loss(dataset, ALONE, model, loss="dice")
    assert dice(model, images, target) != expected


@pytest.mark.parametrize(
    ("batch_norm", "values", "expected"),
    [
        (False, {}, [(0, 2, 2), (1, 0, 2)]),  # none of the first, all of the second
        (True, {}, [(0, 1, 2), (1, 1, 2)]),
        (False, {"loss": "dice"}, [(0, 1, 2), (1, 1, 2)]),
    ],
)
def test_what_goes_by_the_batch_is_cut_within_it(
    dataset: SegmentationDataset,
    batch_norm: bool,
    values: dict[str, str],
    expected: list[tuple[int, int, int]],
) -> None:
    second: Any = SimpleNamespace(rank=1, size=2, several=True, group=None)
    loss = step_loss(dataset, second, network(batch_norm=batch_norm), **values)
    assert cuts(loss) == expected

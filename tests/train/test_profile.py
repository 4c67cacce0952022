"""Where the time goes: every moment counts once, for the part that it is in."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_ext.models import build_model, build_multi_head_model
from fcn_train.loss import pixel_loss
from fcn_train.options import Logits, TrainOptions
from fcn_train.profile import FORWARD, LOADING, LOSS, OTHER, ROWS, STEP, VALIDATION, Profile
from fcn_train.train import train

from .running import assert_same_run


class Steps:
    """A clock that moves by one second a mark, and knows the time ``late`` marks after."""

    def __init__(self, late: int = 0) -> None:
        self.time = 0
        self._late = late

    def mark(self) -> int:
        self.time += 1
        return self.time

    def seconds(self, start: int, end: int, *, wait: bool) -> float | None:
        return float(end - start) if wait or end <= self.time - self._late else None


def measured(late: int) -> Profile:
    """A first step, a second one, and a validation in which images are loaded."""
    profile = Profile(Steps(late))
    for _ in range(2):
        with profile.part(LOADING):
            pass
        with profile.part(FORWARD):
            pass
        profile.step_is_over()
    with profile.part(VALIDATION), profile.part(LOADING):
        pass
    return profile


@pytest.mark.parametrize("late", [0, 3, 1000])
def test_every_moment_counts_once(late: int) -> None:
    """A clock that knows the time later, as that of a GPU, changes nothing."""
    seconds = measured(late).seconds()
    assert {name: value for name, value in seconds.items() if value} == {
        "first step": 2,
        LOADING: 2,  # of the second step, and within the validation
        FORWARD: 1,
        VALIDATION: 2,
        OTHER: 6,
    }
    assert tuple(seconds) == ROWS


def test_table_has_shares_of_the_whole_and_time_of_a_step() -> None:
    rows = {name: values for name, *values in measured(0).table()}
    assert sum(share for _, share, _ in rows.values()) == pytest.approx(1)
    assert rows[LOADING] == [2, pytest.approx(2 / 13), 2000]
    assert rows[VALIDATION][2] == 0


def test_error_within_a_part_ends_it() -> None:
    profile = Profile(Steps())
    with pytest.raises(MemoryError), profile.part(VALIDATION):
        raise MemoryError
    assert profile.seconds()[VALIDATION] == 1
    assert profile.seconds()[OTHER] == 3


def test_waiting_for_items_is_of_a_part() -> None:
    """What is done with them is not."""
    profile = Profile(Steps())
    profile.step_is_over()
    found = []
    for item in profile.timed(LOADING, iter("abc")):
        with profile.part(FORWARD):
            found.append(item)
    assert found == [*"abc"]
    assert profile.seconds()[LOADING] == 4  # the fourth finds the end
    assert profile.seconds()[FORWARD] == 3
    with pytest.raises(MemoryError):
        list(profile.timed(LOADING, (failing() for _ in range(3))))


def failing() -> None:
    raise MemoryError


def test_without_a_clock_nothing_is_measured(tmp_path: Path) -> None:
    model = build_model("fcn32s", num_classes=2, width=1 / 32, fc_channels=8)
    profile = Profile()
    profile.watch(model)
    assert "scores" not in vars(model)
    with profile.part(FORWARD):
        pass
    assert profile.write(tmp_path / "profile.csv") == []
    assert not any(profile.seconds().values())
    assert not (tmp_path / "profile.csv").exists()


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("heads", [1, 2])
def test_loss_begins_where_the_scores_are_made(heads: int, logits: Logits) -> None:
    sizes: dict[str, Any] = {"width": 1 / 32, "fc_channels": 8, "padding": "same"}
    target: Any = torch.zeros(1, 33, 40, dtype=torch.uint8)
    if heads == 1:
        model: Any = build_model("fcn32s", num_classes=2, **sizes)
    else:
        names = {name: {"num_classes": 2} for name in ("semantic", "geometric")}
        model, target = (
            build_multi_head_model("fcn32s", names, **sizes),
            dict.fromkeys(names, target),
        )
    images = torch.randn(1, 3, 33, 40)
    torch.manual_seed(0)
    expected = pixel_loss(model, images, target, logits=logits)
    profile = Profile(Steps())
    names_before = list(model.state_dict())
    profile.watch(model)
    torch.manual_seed(0)
    profile.step_is_over()
    with profile.part(FORWARD):
        assert torch.equal(pixel_loss(model, images, target, logits=logits), expected)
    seconds = profile.seconds()
    assert seconds[FORWARD] == seconds[LOSS] == 1
    assert list(model.state_dict()) == names_before
    model.scores(images)
    assert profile.seconds()[LOSS] == 1  # scores alone have none


@pytest.mark.usefixtures("no_pictures")
def test_run_leaves_a_table_and_the_same_bits(
    tiny_options: TrainOptions, finished_run: Path, tmp_path: Path, capsys: Any
) -> None:
    run = train(replace(tiny_options, profile=True, output=tmp_path / "run"))
    out = capsys.readouterr().out
    assert "ms per step" in out
    with (run / "profile.csv").open() as file:
        rows = {row["part"]: row for row in csv.DictReader(file)}
    assert {*STEP, "first step", "validation", "saving", "other"} == rows.keys()
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1, abs=1e-6)
    assert all(float(rows[name]["ms_per_step"]) > 0 for name in STEP)
    (run / "profile.csv").unlink()
    assert_same_run(run, finished_run)


@pytest.mark.cuda
def test_events_measure_the_device() -> None:
    device = torch.device("cuda")
    values = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    profile = Profile.on(device)
    profile.step_is_over()
    with profile.part(FORWARD):
        for _ in range(20):
            values = values @ values / 4096
    assert profile.seconds()[FORWARD] > 1e-3

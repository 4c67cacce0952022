"""What each study compares: the options of its variants."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fcn_train import named_losses
from fcn_train.errors import Interrupted, StateSaved, UsageError
from fcn_train.loss import pixel_loss
from fcn_train.option_rules import check
from fcn_train.options import TrainOptions
from fcn_train.study.families import FAMILIES, family, with_model, with_optim
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.registry import STUDIES
from fcn_train.study.variants import Variant, base_options

from ..conftest import TINY_FLAGS

Command = Callable[..., tuple[int, str, str]]


def variants(study: str, base: TrainOptions | None = None) -> list[Variant]:
    options = STUDIES[study].options
    assert isinstance(options, TrainStudyOptions)
    module: Any = importlib.import_module(f"fcn_train.study.{STUDIES[study].module}")
    found: list[Variant] = module.variants(base or base_options(options))
    return found


TRAINING = (
    *("loss-sampling", "class-balancing", "staging", "upsampling", "learning"),
    *("augmentation", "skips"),
)


@pytest.mark.parametrize("study", TRAINING)
def test_variants_differ_and_can_be_trained(study: str) -> None:
    found = variants(study)
    assert len(found) >= 3
    assert len({variant.name for variant in found}) == len(found)
    assert len({variant.stages for variant in found}) == len(found)
    for variant in found:
        for stage in variant.stages:
            check(stage)


def only(study: str) -> list[TrainOptions]:
    """The last stage of each variant."""
    return [variant.stages[-1] for variant in variants(study)]


def test_loss_sampling_keeps_the_number_of_cells() -> None:
    found = only("loss-sampling")
    assert [stage.optim.cells for stage in found] == [1, 0.5, 0.25]
    assert {stage.optim.batch * stage.optim.cells for stage in found} == {8}
    assert len({replace(s, optim=replace(s.optim, cells=1, batch=8)) for s in found}) == 1


def test_class_balancing() -> None:
    found = only("class-balancing")
    assert [(s.optim.class_weights, s.optim.class_sampling) for s in found] == [
        ("none", "none"),
        ("median-frequency", "none"),
        ("none", "median-frequency"),
    ]


def test_staging_takes_as_many_steps_either_way() -> None:
    found = variants("staging")
    assert [sum(stage.optim.steps for stage in v.stages) for v in found] == [300] * 3
    assert [stage.model.name for stage in found[0].stages] == ["fcn32s", "fcn16s", "fcn8s"]
    assert [v.stages[0].model.name for v in found[1:]] == ["fcn8s-atonce", "fcn8s"]
    assert [v.paper for v in found] == [65.5, 65.4, None]
    with pytest.raises(UsageError, match=r"--optim.steps must be a multiple of 3 here, got 4"):
        variants("staging", with_optim(TrainOptions(), steps=4))


def test_upsampling() -> None:
    kinds = [stage.model.upsampling for stage in only("upsampling")]
    assert kinds == ["fixed", "inner=dense", "depthwise", "dense"]
    with pytest.raises(UsageError, match=r"--model must be a net with skips, .* got fcn32s"):
        variants("upsampling", with_model(TrainOptions(), "fcn32s"))


def test_learning_sees_as_many_images() -> None:
    found = only("learning")
    images = {s.optim.steps * s.optim.batch * s.optim.accumulate for s in found}
    assert len(images) == 1
    assert [(s.optim.accumulate, s.optim.momentum) for s in found] == [
        (20, 0.9),
        (1, 0.9),
        (1, 0.99),
    ]
    with pytest.raises(UsageError, match=r"--optim.steps must be a multiple of 20 here, got 30"):
        variants("learning", with_optim(TrainOptions(), steps=30))


def test_augmentation() -> None:
    found = [(s.data.mirror, s.data.jitter, s.data.crop) for s in only("augmentation")]
    assert found == [(False, 0, 0), (True, 0, 0), (False, 32, 0), (True, 32, 0)]


def test_skips_start_from_the_coarser_net() -> None:
    found = variants("skips")
    assert [[stage.model.name for stage in v.stages] for v in found[:3]] == [
        ["fcn32s"],
        ["fcn32s", "fcn16s"],
        ["fcn32s", "fcn16s", "fcn8s"],
    ]
    assert [v.name for v in found[3:]] == ["pool5 alone", "pool4 alone", "pool3 alone"]
    light = with_model(TrainOptions(), "fcn-squeezenet-8s")
    assert [v.name for v in variants("skips", light)] == list(FAMILIES["fcn-squeezenet"])


def test_networks_without_fully_connected_layers_need_no_further_option() -> None:
    options = STUDIES["skips"].options
    assert isinstance(options, TrainStudyOptions)
    light = replace(options, model=replace(options.model, name="fcn-squeezenet-8s"))
    for variant in variants("skips", base_options(light)):
        for stage in variant.stages:
            check(stage)


def test_families() -> None:
    assert family("fcn16s-atonce") == ("fcn32s", "fcn16s", "fcn8s")
    assert family("fcn-alexnet") == ("fcn-alexnet", "fcn-alexnet-16s", "fcn-alexnet-8s")
    with pytest.raises(UsageError, match="--model must have a net at each stride, got fcn-"):
        family("fcn-pool4")


def test_a_study_takes_options_of_train(command: Command) -> None:
    code, out, _ = command("study", "staging", "--help")
    assert code == 0
    for option in ("--data.kind", "--model", "--optim.steps", "--seeds", "--init-classifier"):
        assert option in out


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (Interrupted(15, "x"), 143)]
)
@pytest.mark.parametrize("study", ["staging", "whole-image"])
def test_an_interrupted_study_says_where_it_goes_on(
    study: str,
    error: BaseException,
    code: int,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that train do; others begin anew, and promise nothing."""

    def run(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(type(STUDIES[study]), "run", run)
    ended, _, err = command("study", study, "--output", tmp_path / "study")
    trains = study == "staging"
    said = "interrupted; its runs are kept, and the same command goes on where it was"
    assert ended == code
    assert err == f"fcn: {said if trains else 'x' if code == 143 else 'interrupted'}\n"


@pytest.mark.parametrize(
    "cause", [MemoryError(), OSError(28, "No space left on device", "a"), UsageError("--x is y")]
)
def test_a_study_whose_training_fails_says_what_continues_it(
    cause: Exception, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object) -> None:
        raise StateSaved(
            "The state after step 7 is saved", "continue with: fcn train --resume r"
        ) from cause

    monkeypatch.setattr(type(STUDIES["staging"]), "run", run)
    code, _, err = command("study", "staging", "--output", tmp_path / "study")
    assert code == (2 if not isinstance(cause, MemoryError) else 1)
    assert err.endswith(". The state after step 7 is saved; the same command goes on from there\n")
    assert "--resume" not in err


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error", "a.png")])
def test_the_same_command_goes_on_with_a_study_that_failed(
    error: Exception,
    command: Command,
    sample_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the second step of its second training."""
    calls = 0

    def failing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise error
        return pixel_loss(*arguments, **options)

    study = tmp_path / "study"
    words = (
        *("study", "class-balancing", "--data.root", sample_root, "--output", study),
        *("--seeds", "1", "--points", "1", *TINY_FLAGS, "--optim.steps", "3"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(named_losses, "pixel_loss", failing)
        _, _, err = command(*words)
    assert "The state after step 1 is saved; the same command goes on from there" in err
    code, out, err = command(*words)
    assert code == 0, err
    assert f"{study}: written" in out

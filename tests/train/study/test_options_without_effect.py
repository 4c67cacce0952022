"""Every option of a study changes what it trains, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fcn_train.command_line import parse_study
from fcn_train.config import flat, to_dict
from fcn_train.errors import UsageError
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.registry import STUDIES
from fcn_train.study.variants import base_options

from ..conftest import TINY_FLAGS
from .test_train_studies import TRAINING, variants

Command = Callable[..., tuple[int, str, str]]
# Values of another kind than the option's own; of the rest, one is made of the default.
OTHERS: dict[str, str] = {
    "data.kind": "voc",
    "data.cache": "1GiB",
    "data.val_kind": "camvid",
    "data.mask": "foreground",
    "data.void_label": "7",
    "data.exif": "stored",
    "data.channels": "hha",
    "data.transfer": "uint8",
    "data.sampling": "replacement",
    "model.name": "fcn-alexnet-8s",
    "model.padding": "published",
    "model.input": "caffe",
    "model.fusion": "late",
    "model.skip_scales": "0.5",
    "model.upsampling": "dense",
    "optim.method": "adamw",
    "optim.layers": "scores",
    "optim.loss": "sum",
    "optim.schedule": "cosine",
    "optim.class_weights": "median-frequency",
    "optim.class_sampling": "median-frequency",
    "optim.cells": "0.5",
    "optim.momentum": "0.5",
    "model.dropout": "0.25",
    "model.mean": "1 2 3",
    "data.scale": "0.5 2",
}


def words(name: str, value: Any) -> list[str]:
    """The option ``name`` with another value than ``value``."""
    option = f"--{name.replace('_', '-')}"
    if name in OTHERS:
        return [option, *OTHERS[name].split()]
    if isinstance(value, bool):
        group, _, last = name.replace("_", "-").partition(".")
        return [f"--{group}.no-{last}" if value else option]
    if isinstance(value, int | float):
        return [option, str(value * 60 + 60)]
    return [option, "other"]


# What an option needs to have an effect.
NEEDED = {"model.mean": ("--model.input", "caffe")}


@pytest.mark.parametrize("study", TRAINING)
def test_options_change_what_is_trained_or_are_refused(study: str) -> None:
    defaults = parse_study([study])
    assert isinstance(defaults, TrainStudyOptions)
    trained = variants(study, base_options(defaults))
    refused = set()
    for name, value in flat(to_dict(defaults)).items():
        if not name.startswith(("data.", "model.", "optim.")):
            continue
        given = [*words(name, value), *NEEDED.get(name, ())]
        try:
            options = parse_study([study, *given])
            assert isinstance(options, TrainStudyOptions)
            found = variants(study, base_options(options))
        except UsageError as error:
            if "has no effect" in str(error):
                refused.add(given[0].replace(".no-", "."))
            continue
        except SystemExit as error:
            raise AssertionError(given) from error
        assert found != trained, given
    assert refused >= set(STUDIES[study].without_effect)


@pytest.mark.parametrize(
    ("study", "option"),
    [(study, option) for study, one in STUDIES.items() for option in one.without_effect],
)
def test_options_without_effect_are_named(
    study: str, option: str, command: Command, tmp_path: Any
) -> None:
    """By the help, and where they are given, in whichever form."""
    code, out, _ = command("study", study, "--help")
    assert code == 0
    assert option in " ".join(out.partition("options")[0].split())
    name = option[2:].replace("-", "_")
    defaults = parse_study([study])
    assert isinstance(defaults, TrainStudyOptions)
    first, *values = words(name, flat(to_dict(defaults))[name])
    forms = [[first, *values], [first[:2] + first[2:].replace("-", "_"), *values]]
    if len(values) == 1:
        forms.append([f"{first}={values[0]}"])
    for form in forms:
        code, _, err = command("study", study, *form, *TINY_FLAGS[:2], "--output", tmp_path / "s")
        assert code == 2
        assert err == f"fcn: {option} has no effect in fcn study {study}; leave it out\n"
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("study", ["augmentation", "skips", "loss-sampling"])
def test_epochs_that_steps_go_before_are_refused(study: str, command: Command) -> None:
    code, _, err = command("study", study, "--optim.epochs", "3")
    assert code == 2
    assert err == (
        "fcn: --optim.epochs 3 has no effect, as --optim.steps 300, the default here, goes before "
        "it; give --optim.steps 0 with it\n"
    )
    parsed = parse_study([study, "--optim.epochs", "3", "--optim.steps", "0"])
    assert isinstance(parsed, TrainStudyOptions)
    assert variants(study, base_options(parsed))[0].stages[0].optim.epochs == 3

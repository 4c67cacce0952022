"""The published experiments: their recipes, by the names that ``--recipe`` takes.

Each is a file in the folder ``experiments``. They follow the solvers and definitions of the
reference repository, shelhamer/fcn.berkeleyvision.org, and, where the name ends in -paper, section
4 of Long, Shelhamer and Darrell (CVPR 2015). Where a published file has a bug, the recipe has what
was meant: NYUDv2 is scored on ``test``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from fcn_train.config import from_dict, to_dict
from fcn_train.data_options import DataKind, ReadingOptions
from fcn_train.errors import UsageError
from fcn_train.experiment_file import FOLDER, NAMES, Experiment, read_experiment
from fcn_train.options import RecipeName, TrainOptions
from fcn_train.recipes import recipe_options

__all__ = [
    "EXPERIMENTS",
    "check_start",
    "experiment_options",
    "find_experiment",
    "run_name",
    "unknown_recipe",
]


def _in_order() -> dict[str, Experiment]:
    """The experiments of the package by name, each chain from coarse to fine."""
    read = {name: read_experiment(FOLDER / f"{name}.json") for name in sorted(NAMES)}
    ordered: dict[str, Experiment] = {}

    def add(name: str) -> None:
        ordered[name] = read[name]
        for finer, one in read.items():
            if name in one.before and ordered.keys() >= set(one.before):
                add(finer)

    for name, one in read.items():
        if not one.before:
            add(name)
    return ordered


EXPERIMENTS = _in_order()

# Settings that belong to one data set, and are left out with another.
_OF_THE_SET = {field.name for field in fields(ReadingOptions)} - {"channels"}
_OF_THE_SET |= {"train_split", "val_split", "val_kind", "val_root"}
# Options that choose the recipe, or how to run rather than what.
_NOT_SET = {"recipe"} | {
    field.name for field in fields(TrainOptions) if not field.metadata.get("saved", True)
}


def find_experiment(recipe: str) -> Experiment | None:
    """The experiment that ``--recipe`` names: a published one, or that of a user's file.

    Returns:
        None if it names neither: ``default``, ``paper`` and ``heavy`` are rules, not experiments.

    Raises:
        UsageError: ``recipe`` is a path, but not that of a recipe's file.
    """
    if recipe in EXPERIMENTS:
        return EXPERIMENTS[recipe]
    return read_experiment(Path(recipe)) if _is_path(recipe) else None


def _is_path(recipe: str) -> bool:
    return recipe.endswith(".json") or any(mark in recipe for mark in (os.sep, os.altsep) if mark)


def experiment_options(recipe: str, kind: DataKind | None = None) -> TrainOptions:
    """The options of an experiment.

    Args:
        recipe: one of ``EXPERIMENTS``, or the path of a file of that form.
        kind: other data to train on in the same way, with its own splits and mean color.

    Raises:
        UsageError: there is no such experiment, or its settings are not those of `fcn train`.

    Example:
        >>> experiment_options("voc-fcn16s-heavy").optim.lr
        1e-12
    """
    one = find_experiment(recipe)
    if one is None:
        raise UsageError(f"--recipe: there is no {recipe!r}{unknown_recipe(recipe)}")
    for key in one.settings.keys() & _NOT_SET:
        raise UsageError(f"{one.path}: settings.{key} is no setting of a recipe; leave it out")
    settings = dict(one.settings)
    own = from_dict(TrainOptions, settings, one.path, "settings.")
    try:
        rule = recipe_options(one.rule, own.model.name, own.data.kind)
        other = recipe_options(one.rule, own.model.name, kind or own.data.kind)
    except UsageError as error:
        raise UsageError(f"{one.path}: {error}") from None
    if other.data.kind != own.data.kind:
        model = replace(rule.model, mean=other.model.mean)
        rule = replace(rule, data=other.data, model=model)
        settings |= {
            "data": _without(settings.get("data", {}), _OF_THE_SET),
            "model": _without(settings.get("model", {}), {"mean"}),
        }
    values = _merged(to_dict(rule), settings)
    return replace(from_dict(TrainOptions, values, one.path, "settings."), recipe=recipe)


def _without(values: dict[str, Any], keys: Set[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """``values`` updated with ``others``, group by group."""
    return values | {
        key: _merged(values[key], value) if isinstance(value, dict) else value
        for key, value in others.items()
    }


def run_name(options: TrainOptions) -> str:
    """The name of a run's folder, without its number."""
    if options.recipe in EXPERIMENTS or _is_path(options.recipe):
        return Path(options.recipe).name.removesuffix(".json")
    return f"{options.data.kind}-{options.model.name}"


def check_start(options: TrainOptions) -> None:
    """Refuse to train an experiment from random weights if it starts from other weights.

    Raises:
        UsageError: the options name neither the weights that its recipe starts from, nor others.
    """
    given = (options.init_classifier, options.init_coarser, options.init_weights)
    if any(given) or options.init_streams:
        return
    one = find_experiment(options.recipe)
    if one is None or not one.start_option:
        return
    if one.before:
        runs = " and ".join(one.before)
        first = "train it first" if len(one.before) == 1 else "train these first"
        raise UsageError(
            f"--recipe {options.recipe} starts from {runs}; {first} (fcn train --recipe "
            f"{one.before[0]}), then give {one.start_option}"
        )
    raise UsageError(
        f"--recipe {options.recipe} starts from {one.start.classifier} trained on ImageNet; give "
        f"its weights, such as {one.start_option}"
    )


def unknown_recipe(name: str) -> str:
    """The end of the message that there is no recipe ``name``."""
    names = [*get_args(RecipeName), *EXPERIMENTS]
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f"; did you mean {closest[0]}?" if closest else ""
    return f"{meant} fcn recipes lists all" if meant else "; fcn recipes lists all"

"""`fcn recipes`: the published experiments, and what each is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from fcn_train.config import flat, to_dict
from fcn_train.console import Console
from fcn_train.data.sources import SOURCES
from fcn_train.errors import UsageError
from fcn_train.options import RecipesOptions, TrainOptions
from fcn_train.published import EXPERIMENTS, Experiment, experiment_options, unknown_recipe

HEADER = ("recipe", "data", "images", "rate", "momentum", "loss", "length", "starts from", "IU")
DATA = {"voc": "voc2011"}  # what `fcn data get` calls the data of a kind, where not by the kind


def show_recipes(options: RecipesOptions, console: Console) -> None:
    """Print a table of the experiments, or all that ``options.name`` sets.

    Raises:
        UsageError: there is no experiment of that name.
    """
    if not options.name:
        for line in table([HEADER, *map(_row, EXPERIMENTS)]):
            console.line(line)
        console.line(
            "images: per step. IU: the published mean IU in %. fcn recipes NAME says more; "
            "fcn train --recipe NAME trains"
        )
        return
    if options.name not in EXPERIMENTS:
        raise UsageError(f"there is no recipe {options.name!r}{unknown_recipe(options.name)}")
    for line in _description(options.name):
        console.line(line)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their longest entry."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(name: str) -> tuple[str, ...]:
    one = EXPERIMENTS[name]
    optim = experiment_options(name).optim
    return (
        name,
        one.kind,
        str(optim.batch * optim.accumulate),
        f"{optim.lr:g}",
        f"{optim.momentum:g}",
        optim.loss,
        f"{optim.steps} steps" if optim.steps else f"{optim.epochs:g} epochs",
        " + ".join(one.before) or str(one.start),
        "-" if one.mean_iu is None else f"{one.mean_iu:.1f}",
    )


def _description(name: str) -> list[str]:
    one = EXPERIMENTS[name]
    options = experiment_options(name)
    data = options.data
    scored_kind = data.val_kind or data.kind
    score = one.source if one.mean_iu is None else f"mean IU {one.mean_iu:.1f} % ({one.source})"
    kinds = dict.fromkeys((data.kind, scored_kind))
    lines = [
        f"{name}: {one.model}, trained on {data.train_split} of {data.kind}, scored on "
        f"{data.val_split} of {scored_kind}",
        f"published: {score}",
        f"starts from: {' and '.join(one.before) or f'{one.start} trained on ImageNet'}",
        f"data: {'; '.join(f'fcn data get {DATA.get(kind, kind)}' for kind in kinds)}",
        f"run: {command(name, one)}",
        "settings, where they are not the defaults of fcn train:",
    ]
    defaults = flat(to_dict(TrainOptions()))
    changed = {
        key: value for key, value in flat(to_dict(options)).items() if value != defaults[key]
    }
    del changed["recipe"]
    return lines + [f"  {_given(key, value)}" for key, value in changed.items()]


def command(name: str, one: Experiment) -> str:
    """What runs an experiment, once the ones before it are done."""
    folders = f"--data.root {_folder(one.kind)}"
    if "val_kind" in one.data:
        folders += f" --data.val-root {_folder(one.data['val_kind'])}"
    return f"fcn train --recipe {name} {folders} {one.source_option}"


def _folder(kind: str) -> str:
    """Where `fcn data get` puts data of this kind."""
    name = DATA.get(kind, kind)
    return (PurePosixPath("data") / name / SOURCES[name].root).as_posix()


def _given(key: str, value: Any) -> str:
    """An option as it is given on the command line."""
    *group, name = key.replace("_", "-").split(".")
    if isinstance(value, bool):
        return "--" + ".".join([*group, name if value else f"no-{name}"])
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "--" + ".".join([*group, name]) + f" {text}"

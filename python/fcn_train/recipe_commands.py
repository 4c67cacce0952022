"""`fcn recipes`: lists the published experiments, or shows one."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, get_args

from fcn_train.config import flat, to_dict
from fcn_train.console import Console
from fcn_train.data.sources import SOURCES
from fcn_train.errors import UsageError
from fcn_train.experiment_file import Experiment
from fcn_train.options import RecipeName, RecipesOptions, TrainOptions
from fcn_train.published import (
    EXPERIMENTS,
    experiment_options,
    find_experiment,
    unknown_recipe,
)
from fcn_train.report import to_json
from fcn_train.schedule import planned_length
from fcn_train.tables import text_table

HEADER = ("recipe", "data", "images", "rate", "momentum", "loss", "length", "starts from", "IU")
DATA = {"voc": "voc2011"}  # what `fcn data get` calls the data of a kind, where not by the kind


def show_recipes(options: RecipesOptions, console: Console) -> None:
    """Print a table of the experiments, or all that ``options.name`` sets; as JSON on request.

    Raises:
        UsageError: there is no experiment of that name.
    """
    if not options.name and options.json:
        console.line(to_json([_values(*each) for each in EXPERIMENTS.items()]).rstrip())
        return
    if not options.name:
        console.line(text_table(HEADER, [_row(name) for name in EXPERIMENTS]))
        console.line(
            "images: per step. IU: the published mean IU in %. fcn recipes NAME says more; "
            "fcn train --recipe NAME trains"
        )
        return
    one = find_experiment(options.name)
    if one is None and options.name in get_args(RecipeName):
        raise UsageError(
            f"{options.name} is a recipe of fcn train, but no published experiment; "
            "docs/recipes.md says what it sets, fcn recipes lists the experiments"
        )
    if one is None:
        raise UsageError(f"there is no recipe {options.name!r}{unknown_recipe(options.name)}")
    if options.json:
        console.line(to_json(_values(options.name, one)).rstrip())
        return
    for line in _description(options.name, one):
        console.line(line)


def _row(name: str) -> tuple[str, ...]:
    one = EXPERIMENTS[name]
    options = experiment_options(name)
    optim, mean_iu = options.optim, one.published.mean_iu
    return (
        name,
        options.data.kind,
        str(optim.batch * optim.accumulate),
        f"{optim.lr:g}",
        f"{optim.momentum:g}",
        optim.loss,
        planned_length(optim),
        " + ".join(one.before) or one.start.classifier,
        "-" if mean_iu is None else f"{mean_iu:.1f}",
    )


def _description(name: str, one: Experiment) -> list[str]:
    options = experiment_options(name)
    data = options.data
    scored_kind = data.val_kind or data.kind
    kinds = [kind for kind in dict.fromkeys((data.kind, scored_kind)) if _source(kind) in SOURCES]
    lines = [
        f"{name}: {options.model.name}, trained on {data.train_split} of {data.kind}, scored on "
        f"{data.val_split} of {scored_kind}",
        f"published: {_score(one)}",
        f"starts from: {_start(one)}",
    ]
    if one.note:
        lines.append(f"note: {one.note}")
    if kinds:
        lines.append(f"data: {'; '.join(f'fcn data get {_source(kind)}' for kind in kinds)}")
    lines += [
        f"run: {command(name, one, options)}",
        f"file: {one.path}",
        "settings, where they are not the defaults of fcn train:",
    ]
    return lines + [f"  {_given(key, value)}" for key, value in _changed(options).items()]


def _values(name: str, one: Experiment) -> dict[str, Any]:
    """An experiment for other programs; what it lacks is None."""
    options = experiment_options(name)
    data = options.data
    return {
        "name": name,
        "model": options.model.name,
        "rule": one.rule,
        "train": {"kind": data.kind, "split": data.train_split},
        "val": {"kind": data.val_kind or data.kind, "split": data.val_split},
        "published": {
            "mean_iu": one.published.mean_iu,
            "source": one.published.source or None,
        },
        "start": {
            "classifier": one.start.classifier or None,
            "coarser": one.start.coarser or None,
            "streams": dict(one.start.streams) or None,
        },
        "note": one.note or None,
        "command": command(name, one, options),
        "file": str(one.path),
        "settings": _changed(options),
    }


def _changed(options: TrainOptions) -> dict[str, Any]:
    """The options that are not the defaults of `fcn train`, such as ``optim.lr``."""
    defaults = flat(to_dict(TrainOptions()))
    values = {key: value for key, value in flat(to_dict(options)).items() if value != defaults[key]}
    del values["recipe"]
    return values


def _score(one: Experiment) -> str:
    mean_iu, source = one.published.mean_iu, one.published.source
    if mean_iu is None:
        return source or "no score"
    return f"mean IU {mean_iu:.1f} %" + (f" ({source})" if source else "")


def _start(one: Experiment) -> str:
    classifier = f"{one.start.classifier} trained on ImageNet" if one.start.classifier else ""
    return " and ".join(one.before) or classifier or "random weights"


def command(name: str, one: Experiment, options: TrainOptions) -> str:
    """What runs an experiment, once the ones before it are done."""
    data = options.data
    words = ["fcn train --recipe", name]
    if data.kind != "sample" and data.root is None:
        words += ["--data.root", _folder(data.kind)]
    if data.val_kind and data.val_root is None:
        words += ["--data.val-root", _folder(data.val_kind)]
    starts = (options.init_classifier, options.init_coarser, options.init_weights)
    if not (any(starts) or options.init_streams):
        words.append(one.start_option)
    return " ".join(filter(None, words))


def _source(kind: str) -> str:
    """What `fcn data get` calls the data of a kind, if it has them."""
    return DATA.get(kind, kind)


def _folder(kind: str) -> str:
    """Where `fcn data get` puts data of this kind, or a stand-in."""
    name = _source(kind)
    if name not in SOURCES:
        return kind
    return (PurePosixPath("data") / name / SOURCES[name].root).as_posix()


def _given(key: str, value: Any) -> str:
    """An option as it is given on the command line."""
    *group, name = key.replace("_", "-").split(".")
    if isinstance(value, bool):
        return "--" + ".".join([*group, name if value else f"no-{name}"])
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "--" + ".".join([*group, name]) + f" {text}"

"""Recipes as files: the published experiments beside this module, and a user's own.

A file is a JSON object with the ``rule`` that the experiment follows, its own ``settings`` (options
of `fcn train` as in config.json of a run), and optionally what it starts from, the published score,
and a note.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from fcn_train.config import from_dict, read_json
from fcn_train.errors import UsageError
from fcn_train.options import RecipeName

__all__ = ["FOLDER", "NAMES", "Experiment", "Published", "Start", "read_experiment"]

FOLDER = Path(__file__).parent / "experiments"
NAMES = frozenset(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Published:
    """A published score.

    Attributes:
        mean_iu: in percent.
        source: where it was published, and other details.
    """

    mean_iu: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Start:
    """The weights before the first step; at most one is given.

    Attributes:
        classifier: the network, trained on ImageNet, from which the trunk is taken.
        coarser: the recipe of the next coarser network.
        streams: the recipes of the networks of late fusion's streams, by stream.
    """

    classifier: str = ""
    coarser: str = ""
    streams: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One training, as described by a file.

    Attributes:
        rule: the recipe that it follows: ``heavy``, ``paper`` or ``default``, see
            ``recipe_options``.
        published: its published score, if any.
        start: what it starts from.
        note: what else a reader should know.
        settings: the options that differ from the rule, by name, in groups as in config.json.
        path: the file.
    """

    rule: RecipeName
    published: Published
    start: Start
    note: str
    settings: Mapping[str, Any]
    path: Path

    @property
    def before(self) -> list[str]:
        """The recipes to run first."""
        return list(self.start.streams.values()) or [self.start.coarser] * bool(self.start.coarser)

    @property
    def start_option(self) -> str:
        """The option that names what it starts from, with an example; "" if it starts from
        nothing."""
        if self.start.streams:
            runs = (f"{stream}={_first_run(name)}" for stream, name in self.start.streams.items())
            return f"--init-streams {','.join(runs)}"
        if self.start.coarser:
            return f"--init-coarser {_first_run(self.start.coarser)}"
        name = self.start.classifier.lower()
        return f"--init-classifier {name}.pth" if name else ""


def _first_run(recipe: str) -> str:
    """The folder of the first run of a recipe."""
    return f"runs/{Path(recipe).name.removesuffix('.json')}-001"


@dataclass(frozen=True)
class _Contents:
    """The keys of a file."""

    rule: RecipeName = "default"
    published: Published = Published()
    start: Start = Start()
    note: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_experiment(path: Path) -> Experiment:
    """Read the experiment in a file. Its settings are checked when they become options.

    It names the recipes that it starts from as those of the package, or as files beside it.

    Raises:
        UsageError: the file cannot be read, is not JSON or has another form.
    """
    values = read_json(path, "give the name of a recipe, which fcn recipes lists, or its file")
    contents = from_dict(_Contents, values, path)
    if "rule" not in values:
        raise UsageError(f"{path}: must have a rule, one of {', '.join(get_args(RecipeName))}")
    iu = contents.published.mean_iu
    if iu is not None and not (math.isfinite(iu) and 0 <= iu <= 100):
        raise UsageError(f"{path}: published.mean_iu must be in percent, 0 to 100, got {iu}")
    start = contents.start
    given = [name for name in ("classifier", "coarser", "streams") if getattr(start, name)]
    if len(given) > 1:
        raise UsageError(
            f"{path}: start must be a classifier, a coarser recipe or streams, got "
            f"{' and '.join(given)}"
        )
    start = Start(
        start.classifier,
        _named(start.coarser, path, "start.coarser"),
        {key: _named(name, path, f"start.streams.{key}") for key, name in start.streams.items()},
    )
    return Experiment(
        contents.rule, contents.published, start, contents.note, contents.settings, path
    )


def _named(recipe: str, path: Path, key: str) -> str:
    """The value of `--recipe` for a recipe that the file ``path`` names."""
    if not recipe or recipe in NAMES:
        return recipe
    beside = path.parent / recipe
    if not os.path.isfile(beside):
        raise UsageError(
            f"{path}: {key} must be a recipe that fcn recipes lists, or a file beside this one, "
            f"got {recipe!r}"
        )
    return beside.as_posix()

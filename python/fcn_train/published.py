"""The published experiments: a recipe for each, by the name that ``--recipe`` takes.

The rows follow the solvers and definitions of the reference repository,
shelhamer/fcn.berkeleyvision.org, and, where the name ends in -paper, section 4 of Long, Shelhamer
and Darrell (CVPR 2015). Where a published file has a bug, they say what was meant: NYUDv2 is
scored on ``test``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from fcn_train.data_options import DataKind
from fcn_train.errors import UsageError
from fcn_train.model_options import ModelName
from fcn_train.options import RecipeName, TrainOptions
from fcn_train.recipes import recipe_options

__all__ = ["EXPERIMENTS", "Experiment", "check_start", "experiment_options", "unknown_recipe"]


@dataclass(frozen=True)
class Experiment:
    """One published training.

    Attributes:
        rule: how it learns: ``heavy`` or ``paper``, of ``recipe_options``.
        model, kind: the network, and the data that it is trained on.
        mean_iu: published mean IU in percent; None where none was.
        source: where that was published, and what else was.
        start: the classifier that it starts from; or the experiment of the next coarser network;
            or those of late fusion's streams, by stream.
        data, network, optim: what differs from the rule, by the names of the options.
    """

    rule: RecipeName
    model: ModelName
    kind: DataKind
    mean_iu: float | None
    source: str
    start: str | Mapping[str, str] = "VGG16"
    data: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    optim: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source_option(self) -> str:
        """The option that takes what it starts from, with an example."""
        if isinstance(self.start, Mapping):
            runs = ",".join(f"{stream}={_first_run(name)}" for stream, name in self.start.items())
            return f"--init-streams {runs}"
        if self.start in EXPERIMENTS:
            return f"--init-coarser {_first_run(self.start)}"
        return f"--init-classifier {self.start.lower()}.pth"

    @property
    def before(self) -> list[str]:
        """The experiments to run first."""
        if isinstance(self.start, Mapping):
            return list(self.start.values())
        return [self.start] if self.start in EXPERIMENTS else []


def _first_run(name: str) -> str:
    """The folder of the first run of an experiment."""
    return f"runs/{name}-001"


_README = "README of the reference repository"
_VOC = "CVPR 2015, Table 1"
_SKIPS = "CVPR 2015, Table 2"
_NYUD = "CVPR 2015, Table 4"
_SIFT_FLOW = "CVPR 2015, Table 5"
_CONTEXT = "CVPR 2015 (arXiv v2), Table 6, 59 classes"
_NONE = "no score was published"

_SCORED_ON_VOC: dict[str, Any] = {"val_kind": "voc", "val_split": "seg11valid"}
_BOTH_LABELS = {"label_folder": "SemanticLabels,GeoLabels"}
# Of each skip that is added the paper says that the rate is divided by 100, and that the
# upsampling between scores is learned (sections 4.2 and 4.3).
_LEARNED = {"upsampling": "inner=dense"}
_LATE = {"fusion": "late"}

EXPERIMENTS: dict[str, Experiment] = {
    "voc-fcn32s-heavy": Experiment("heavy", "fcn32s", "sbd", 63.6, _README, data=_SCORED_ON_VOC),
    "voc-fcn16s-heavy": Experiment(
        "heavy", "fcn16s", "sbd", 65.0, _README, "voc-fcn32s-heavy", _SCORED_ON_VOC
    ),
    "voc-fcn8s-heavy": Experiment(
        "heavy", "fcn8s", "sbd", 65.5, _README, "voc-fcn16s-heavy", _SCORED_ON_VOC
    ),
    "voc-fcn8s-atonce-heavy": Experiment(
        "heavy", "fcn8s-atonce", "sbd", 65.4, _README, data=_SCORED_ON_VOC
    ),
    "voc-fcn-alexnet": Experiment(
        "heavy", "fcn-alexnet", "sbd", 48.0, _README, "AlexNet", _SCORED_ON_VOC
    ),
    "voc-fcn32s-paper": Experiment("paper", "fcn32s", "sbd", 59.4, _SKIPS, data=_SCORED_ON_VOC),
    "voc-fcn16s-paper": Experiment(
        "paper",
        "fcn16s",
        "sbd",
        62.4,
        _SKIPS,
        "voc-fcn32s-paper",
        _SCORED_ON_VOC,
        _LEARNED,
        {"lr": 1e-6},
    ),
    "voc-fcn8s-paper": Experiment(
        "paper",
        "fcn8s",
        "sbd",
        62.7,
        _SKIPS,
        "voc-fcn16s-paper",
        _SCORED_ON_VOC,
        _LEARNED,
        {"lr": 1e-8},
    ),
    "voc-fcn32s-fixed-paper": Experiment(
        "paper", "fcn32s", "sbd", 45.4, _SKIPS, data=_SCORED_ON_VOC, optim={"layers": "scores"}
    ),
    "voc11-fcn32s-paper": Experiment("paper", "fcn32s", "voc", 56.0, _VOC),
    "voc11-fcn-alexnet-paper": Experiment("paper", "fcn-alexnet", "voc", 39.8, _VOC, "AlexNet"),
    "voc11-fcn-googlenet-paper": Experiment(
        "paper", "fcn-googlenet", "voc", 42.5, _VOC, "GoogLeNet"
    ),
    "nyud-fcn32s-color": Experiment("heavy", "fcn32s", "nyud", 29.2, _NYUD),
    "nyud-fcn32s-hha": Experiment("heavy", "fcn32s", "nyud", 24.2, _NYUD, data={"channels": "hha"}),
    "nyud-fcn32s-color-d": Experiment(
        "heavy", "fcn32s", "nyud", 30.5, _NYUD, data={"channels": "color-depth"}
    ),
    "nyud-fcn32s-color-hha": Experiment(
        "heavy",
        "fcn32s",
        "nyud",
        32.8,
        _NYUD,
        {"color": "nyud-fcn32s-color", "hha": "nyud-fcn32s-hha"},
        {"channels": "color-hha"},
        _LATE,
        {"lr": 1e-12},
    ),
    "nyud-fcn16s-color-hha-paper": Experiment(
        "paper",
        "fcn16s",
        "nyud",
        34.0,
        _NYUD,
        "nyud-fcn32s-color-hha",
        {"channels": "color-hha"},
        {**_LATE, **_LEARNED},
        {"lr": 1e-6},
    ),
    "siftflow-fcn32s": Experiment("heavy", "fcn32s", "sift-flow", None, _NONE, data=_BOTH_LABELS),
    "siftflow-fcn16s": Experiment(
        "heavy",
        "fcn16s",
        "sift-flow",
        39.5,
        f"{_SIFT_FLOW}; geometric pixel accuracy 94.3",
        "siftflow-fcn32s",
        _BOTH_LABELS,
    ),
    "siftflow-fcn8s": Experiment(
        "heavy", "fcn8s", "sift-flow", None, _NONE, "siftflow-fcn16s", _BOTH_LABELS
    ),
    "pascal-context-fcn32s": Experiment("heavy", "fcn32s", "pascal-context", 31.8, _CONTEXT),
    "pascal-context-fcn16s": Experiment(
        "heavy", "fcn16s", "pascal-context", 34.8, _CONTEXT, "pascal-context-fcn32s"
    ),
    "pascal-context-fcn8s": Experiment(
        "heavy", "fcn8s", "pascal-context", 35.1, _CONTEXT, "pascal-context-fcn16s"
    ),
}


def experiment_options(name: str, kind: DataKind | None = None) -> TrainOptions:
    """The options of an experiment.

    Args:
        name: one of ``EXPERIMENTS``.
        kind: other data to train on in its way: with the splits and the mean color of that.

    Example:
        >>> experiment_options("voc-fcn16s-heavy").optim.lr
        1e-12
    """
    one = EXPERIMENTS[name]
    options = recipe_options(one.rule, one.model, one.kind)
    data = replace(options.data, **one.data)
    model = replace(options.model, **one.network)
    if kind not in (None, one.kind):
        other = recipe_options(one.rule, one.model, kind)
        data = replace(other.data, channels=data.channels)
        model = replace(model, mean=other.model.mean)
    optim = replace(options.optim, **one.optim)
    return replace(options, recipe=name, data=data, model=model, optim=optim)


def check_start(options: TrainOptions) -> None:
    """Refuse to train an experiment from nothing.

    Raises:
        UsageError: the options name none of what its recipe starts from, nor anything else.
    """
    one = EXPERIMENTS.get(options.recipe)
    given = (options.init_classifier, options.init_coarser, options.init_weights)
    if one is None or any(given) or options.init_streams:
        return
    if one.before:
        runs = " and ".join(one.before)
        first = "train it first" if len(one.before) == 1 else "train these first"
        raise UsageError(
            f"--recipe {options.recipe} starts from {runs}; {first} (fcn train --recipe "
            f"{one.before[0]}), then give {one.source_option}"
        )
    raise UsageError(
        f"--recipe {options.recipe} starts from {one.start} trained on ImageNet; give its weights, "
        f"such as {one.source_option}"
    )


def unknown_recipe(name: str) -> str:
    """How a message goes on that there is no recipe ``name``."""
    names = [*get_args(RecipeName), *EXPERIMENTS]
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f"; did you mean {closest[0]}?" if closest else ""
    return f"{meant} fcn recipes lists all" if meant else "; fcn recipes lists all"

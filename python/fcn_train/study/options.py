"""The options of `fcn study`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.data_options import Flag, ReadingOptions
from fcn_train.model_options import ModelOptions
from fcn_train.optim_options import OptimOptions
from fcn_train.options import DataOptions


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options that all studies have."""

    output: Path | None = None
    """Folder of the table and the picture; default runs/study-NAME."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True)
class StudyName:
    """Repeat an experiment of the paper; without a name, list them all."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
    """The study."""


@dataclass(frozen=True, kw_only=True)
class LabelStudyOptions(StudyOptions):
    """The best mean IU that scores of a stride allow: labels are downsampled and upsampled
    again."""

    data: ReadingOptions = field(default_factory=ReadingOptions)
    split: Annotated[tuple[str, ...], tyro.conf.arg(name="split")] = ()
    """Splits whose labels are scored together; default: those that `fcn train` trains on and
    scores."""
    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Factors by which labels are downsampled."""


@dataclass(frozen=True, kw_only=True)
class TrainStudyOptions(StudyOptions):
    """Options of studies that train several variants: those of `fcn train`, except what is
    compared."""

    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=lambda: OptimOptions(steps=300))
    init_classifier: Path | None = None
    """As --init-classifier of `fcn train`."""
    seeds: int = 2
    """Runs of each variant, with consecutive seeds."""
    seed: int = 0
    """The first of the seeds."""
    points: int = 5
    """Evaluations of each run, the last of them at its end."""
    log_every: int = 20
    """Steps between the points of the curves of losses."""
    device: str = "cpu"
    """As --device of `fcn train`."""


@dataclass(frozen=True, kw_only=True)
class CostStudyOptions(StudyOptions):
    """The cost of a whole image and of its windows one by one, for a classifier."""

    net: Literal["alexnet", "alexnet-torchvision", "vgg16"] = "alexnet"
    """The classifier, whose fully connected layers are convolutions."""
    size: tuple[int, int] = (500, 500)
    """Height and width of the image."""
    width: float = 1.0
    """Channels of each layer, relative to the published ones."""
    batch: int = 10
    """Windows in one pass."""
    repeats: int = 3
    """Passes of which the median is taken."""
    seed: int = 0
    """Seed of weights and images."""
    device: str = "cpu"
    """As --device of `fcn train`."""

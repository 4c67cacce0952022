"""Every study: its name, a line of help, the module that runs it, and its options."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_train.model_options import ModelOptions
from fcn_train.optim_options import OptimOptions
from fcn_train.study.options import (
    CostStudyOptions,
    LabelStudyOptions,
    StudyOptions,
    TrainStudyOptions,
)

if TYPE_CHECKING:
    from fcn_train.console import Console
    from fcn_train.study.findings import Findings


@dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
        line: what it asks, in one line.
        module: below `fcn_train.study`; it has `run(options, folder, console)`, which draws
            its picture in the folder and gives its `Findings`. It is imported when it runs.
        options: their defaults.
        without_effect: options of `fcn train` that it sets itself, or has no use for.
    """

    line: str
    module: str
    options: StudyOptions
    without_effect: tuple[str, ...] = ()

    @property
    def run(self) -> Callable[[Any, Path, Console], Findings]:
        """The function that runs it."""
        module: Any = importlib.import_module(f"fcn_train.study.{self.module}")
        function: Callable[[Any, Path, Console], Findings] = module.run
        return function


STUDIES = {
    "label-downsampling": Study(
        "how well scores of a stride can do at best, from labels alone",
        "label_downsampling",
        LabelStudyOptions(),
    ),
    "shift-and-stitch": Study(
        "dense scores by shifted images and by rarefied filters, against skips",
        "shift_and_stitch",
        TrainStudyOptions(model=ModelOptions(name="fcn32s")),
    ),
    "loss-sampling": Study(
        "patches as sampling of the loss: convergence by iteration and by time",
        "loss_sampling",
        TrainStudyOptions(),
        without_effect=("--optim.cells",),
    ),
    "whole-image": Study(
        "the cost of a whole image against that of its windows one by one",
        "whole_image",
        CostStudyOptions(),
    ),
    "class-balancing": Study(
        "classes weighted, or their pixels sampled, against none of it",
        "class_balancing",
        TrainStudyOptions(),
        without_effect=("--optim.class-weights", "--optim.class-sampling"),
    ),
    "staging": Study(
        "skips added in stages against all trained at once",
        "staging",
        TrainStudyOptions(),
        without_effect=("--optim.epochs",),
    ),
    "upsampling": Study(
        "bilinear and fixed against learned upsampling",
        "upsampling",
        TrainStudyOptions(),
        without_effect=("--model.upsampling",),
    ),
    "learning": Study(
        "one image and momentum 0.99 against 20 images and 0.9",
        "learning",
        TrainStudyOptions(
            model=ModelOptions(name="fcn32s"), optim=OptimOptions(steps=2000, lr=0.005)
        ),
        without_effect=(
            *("--optim.batch", "--optim.accumulate", "--optim.momentum", "--optim.epochs"),
        ),
    ),
    "augmentation": Study(
        "mirroring and jitter by up to 32 pixels",
        "augmentation",
        TrainStudyOptions(),
        without_effect=("--data.crop", "--data.scale", "--data.mirror", "--data.jitter"),
    ),
    "skips": Study(
        "skips one by one, and single maps",
        "skips",
        TrainStudyOptions(),
    ),
    "masked-inputs": Study(
        "what a network makes of foreground or background alone",
        "masked_inputs",
        TrainStudyOptions(model=ModelOptions(name="fcn32s")),
        without_effect=("--data.mask",),
    ),
}

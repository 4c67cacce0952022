"""Every study: its name, a line of help, the module that runs it, and its options."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_train.study.options import LabelStudyOptions, StudyOptions

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
    """

    line: str
    module: str
    options: StudyOptions

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
}

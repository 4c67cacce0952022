"""The options of `fcn study`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fcn_train.data_options import Flag, ReadingOptions


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What all studies have."""

    output: Path | None = None
    """Folder of the table and the picture; default runs/study-NAME."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True)
class StudyName:
    """Repeat an experiment of the paper; without a name, list them all."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """The study."""


@dataclass(frozen=True, kw_only=True)
class LabelStudyOptions(StudyOptions):
    """The best mean IU that scores of a stride allow: labels made coarse and fine again."""

    data: ReadingOptions = field(default_factory=ReadingOptions)
    split: Annotated[tuple[str, ...], tyro.conf.arg(name="split")] = ()
    """Splits whose labels are scored together; default: those that `fcn train` trains on and
    scores."""
    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Factors to make labels coarse by."""

"""The options of `fcn compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.data_options import Flag


@dataclass(frozen=True)
class CompareOptions:
    """Put runs side by side: scores, classes, options, curves, and the images they differ on."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Two or more run folders of `fcn train`."""
    output: Path = Path("compare.html")
    """HTML file to write."""
    images: int = 6
    """Number of images to show, those on which predictions differ most; 0 = none, without running
    networks."""
    weights: Literal["last", "best"] = "last"
    """Weights of the predictions that are shown, as --weights of `fcn evaluate`."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Flag = False
    """Show Python's traceback of an error."""

"""The options of `fcn serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.options import Amp


@dataclass(frozen=True)
class ServeOptions:
    """Show a run on a page of your browser: drop a picture there, or use the camera."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder of `fcn train`, of a network that sees color."""
    weights: Literal["last", "best"] = "last"
    """last: of the end; best: of the best evaluation."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is reached from this machine alone; 0.0.0.0 is reached from
    all others, without a password and without encryption."""
    port: int = 8000
    """Port to listen at; 0 = any that is free."""
    max_megabytes: float = 20.0
    """Largest file that is taken, in millions of bytes."""
    max_megapixels: float = 4.0
    """Largest picture that is taken, in millions of pixels. The page shrinks larger ones first."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Amp = "none"
    """As --amp of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""

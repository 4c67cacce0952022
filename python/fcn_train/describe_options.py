"""The options of `fcn describe`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class DescribeOptions:
    """List the layers of a network: sizes, parameters, strides, offsets and receptive fields."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A network's name, as --model of `fcn train`; the folder of a run; or MODULE:CALLABLE, a
    Python module and a function in it that returns a torch.nn.Module, such as
    torchvision.models:resnet18."""
    size: tuple[int, int] | None = None
    """Height and width of the image; default: large enough for the widest field."""
    layer: tuple[str, ...] = ()
    """Layers whose fields are measured; default: the first of those with the largest field."""
    measure: bool = True
    """Measure which pixels affect a cell in the middle, by the gradient for an image of noise."""
    picture: Path | None = None
    """PNG file for a picture of the fields: the computed ones of all layers, and the measured
    ones."""
    output: Path | None = None
    """JSON file to write the same numbers to."""
    width: float = 1.0
    """As --model.width of `fcn train`, for networks given by name."""
    padding: Literal["published", "same"] = "published"
    """As --model.padding of `fcn train`, for networks given by name."""
    classes: int = 21
    """Number of classes, for networks given by name."""
    seed: int = 0
    """Seed of initial weights and of the noise."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""

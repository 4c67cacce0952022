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
    Python module and what returns a torch.nn.Module there, such as torchvision.models:resnet18."""
    size: tuple[int, int] | None = None
    """Height and width of the image; default: what the widest field needs."""
    layer: tuple[str, ...] = ()
    """Layers whose fields are measured; default: the first of those that see most."""
    measure: bool = True
    """Measure: which pixels change a cell in the middle, by the gradient at an image of noise."""
    picture: Path | None = None
    """PNG file of the fields: what geometry says of all layers, and what was measured."""
    output: Path | None = None
    """JSON file of the same numbers."""
    width: float = 1.0
    """As --model.width of `fcn train`, of networks given by name."""
    padding: Literal["published", "same"] = "published"
    """As --model.padding of `fcn train`, of networks given by name."""
    classes: int = 21
    """Classes of networks given by name."""
    seed: int = 0
    """Seed of initial weights and of the noise."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""

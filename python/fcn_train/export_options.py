"""The options of `fcn export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Format = Literal["onnx", "torch-export"]
Output = Literal["labels", "logits", "probabilities"]
Pixels = Literal["normalized", "uint8", "float"]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}


@dataclass(frozen=True)
class ExportOptions:
    """Write a run's network as one file that other programs run, without this one."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder of `fcn train`."""
    format: Format = "onnx"
    """onnx: for ONNX Runtime and all else that reads ONNX. torch-export: for torch.export.load."""
    output: Output = "labels"
    """What the file gives of each pixel: labels, the class of the highest score; logits, the score
    of each class; probabilities, their softmax."""
    pixels: Pixels = "normalized"
    """What the file takes. normalized: what the network sees, float32. uint8: RGB from 0 to 255.
    float: RGB from 0 to 1, float32. The last two have the normalization inside."""
    weights: Literal["last", "best"] = "last"
    """last: of the end; best: of the best evaluation."""
    file: Path | None = None
    """The file; default RUN/model.onnx or RUN/model.pt2."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""

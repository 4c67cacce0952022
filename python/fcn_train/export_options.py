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
    """Write a run's network as one file that other programs can run without fcn_ext."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder of `fcn train`."""
    format: Format = "onnx"
    """onnx: for ONNX Runtime and other programs that read ONNX. torch-export: for
    torch.export.load."""
    output: Output = "labels"
    """What the file returns for each pixel: labels, the class with the highest score; logits, the
    score of each class; probabilities, their softmax."""
    pixels: Pixels = "normalized"
    """What the file takes. normalized: what the network sees, float32. uint8: RGB from 0 to 255.
    float: RGB from 0 to 1, float32. With the last two, the file normalizes images itself."""
    weights: Literal["last", "best"] = "last"
    """last: those at the end; best: those of the best evaluation."""
    file: Path | None = None
    """File to write; default RUN/model.onnx or RUN/model.pt2."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""

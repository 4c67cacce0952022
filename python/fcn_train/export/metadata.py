"""The metadata of an exported file: its inputs, what its outputs mean, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

import fcn_ext
from fcn_train.classes import Classes, classes_from_json, classes_to_json
from fcn_train.data import Normalization
from fcn_train.data.depth import NUM_CHANNELS, Channels
from fcn_train.export_options import Output, Pixels
from fcn_train.json_text import parse_json
from fcn_train.network import normalization_of
from fcn_train.real_paths import real_path
from fcn_train.run import TrainedRun
from fcn_train.weights import checksum, plain

KEY = "fcn_ext"
"""Under this name files keep it, as JSON."""


@dataclass(frozen=True, eq=False)
class Metadata:
    """What an exported file says of itself.

    Attributes:
        run: the name of the run's folder.
        weights: SHA-256 of the weights, as ``last.safetensors`` has it.
        output, pixels: as of `fcn export`.
        channels: of the images.
        normalization: of pixels that are to be normalized, or that the file normalizes.
        label_sets: the classes of each output, in their order.
        version: of the program that wrote the file.
    """

    run: str
    weights: str
    output: Output
    pixels: Pixels
    channels: Channels
    normalization: Normalization
    label_sets: tuple[Classes, ...]
    version: str = fcn_ext.__version__

    @property
    def output_names(self) -> list[str]:
        """What the outputs are called: ``labels``, or of several sets ``labels_semantic``, ..."""
        names = [classes.label_set for classes in self.label_sets]
        return [self.output if len(names) == 1 else f"{self.output}_{name}" for name in names]

    def to_json(self) -> str:
        values = {
            "version": self.version,
            "run": self.run,
            "weights_sha256": self.weights,
            "output": self.output,
            "pixels": self.pixels,
            "channels": self.channels,
            "normalization": asdict(self.normalization),
            "classes": classes_to_json(self.label_sets),
        }
        return json.dumps(values)


def metadata_of(run: TrainedRun, output: Output, pixels: Pixels) -> Metadata:
    return Metadata(
        run=real_path(run.path).name,
        weights=checksum(plain(run.model.state_dict())),
        output=output,
        pixels=pixels,
        channels=run.options.data.channels,
        normalization=normalization_of(run.options.model),
        label_sets=run.label_sets,
    )


def metadata_from_json(text: str) -> Metadata:
    """What ``Metadata.to_json`` wrote.

    Raises:
        ValueError: it is something else; the message says what is missing or wrong.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"they are not JSON, {error}") from None
    if not isinstance(values, dict):
        raise ValueError("they are no JSON object")
    wanted = ("version", "run", "weights_sha256", "output", "pixels", "channels")
    lacking = [key for key in (*wanted, "normalization", "classes") if key not in values]
    if lacking:
        raise ValueError(f"they lack {', '.join(lacking)}")
    for key, known in (("output", Output), ("pixels", Pixels), ("channels", NUM_CHANNELS)):
        choices = list(known) if isinstance(known, dict) else get_args(known)
        if values[key] not in choices:
            raise ValueError(f"{key} must be one of {', '.join(choices)}, got {values[key]!r}")
    try:
        label_sets = classes_from_json(values["classes"])
    except ValueError as error:
        raise ValueError(f"classes cannot be read ({error})") from None
    return Metadata(
        run=str(values["run"]),
        weights=str(values["weights_sha256"]),
        output=values["output"],
        pixels=values["pixels"],
        channels=values["channels"],
        normalization=_normalization(values["normalization"]),
        label_sets=label_sets,
        version=str(values["version"]),
    )


def _normalization(values: Any) -> Normalization:
    try:
        mean, std = (
            cast("tuple[float, float, float]", tuple(map(float, values[name])))
            for name in ("mean", "std")
        )
        return Normalization(mean, std, bool(values["bgr"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"normalization cannot be read ({error})") from None

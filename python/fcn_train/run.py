"""Reads a run: its network, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fcn_train.average import averaged_weights
from fcn_train.checkpoint import load_checkpoint, load_checkpoint_weights
from fcn_train.classes import Classes, load_classes
from fcn_train.config import load_run_config
from fcn_train.data import SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.heads import Net
from fcn_train.network import network_of
from fcn_train.options import TrainOptions
from fcn_train.run_folder import RAW, RunFolder
from fcn_train.state import first_line
from fcn_train.weights import load_weights
from fcn_train.words import counted


@dataclass(frozen=True)
class TrainedRun:
    """A run that was read: its options, classes and network (on the CPU, in eval mode).

    ``more_classes`` are those of further sets of labels, each with a head of its own.
    """

    path: Path
    options: TrainOptions
    classes: Classes
    model: Net
    more_classes: tuple[Classes, ...] = ()

    @property
    def label_sets(self) -> tuple[Classes, ...]:
        """The classes of every set of labels."""
        return (self.classes, *self.more_classes)


def load_run(path: Path | str, weights: str = "last") -> TrainedRun:
    """Read a run's network: ``last`` (of the newest checkpoint when unfinished) or ``best``.

    For a run with an average of its weights (``--optim.ema``), both are the average, and
    ``last-raw`` and ``best-raw`` are the trained weights themselves.

    Raises:
        UsageError: ``path`` is not a run folder, or its weights are missing or do not fit.
        ValueError: ``weights`` is none of these.
    """
    if str(weights).removesuffix(RAW) not in ("last", "best"):
        raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
    folder = RunFolder(Path(path))
    options, sets = load_run_config(folder.path), load_classes(folder.classes)
    model = network_of(options.model, sets, options.data.channels)
    if weights.endswith(RAW) and not options.optim.ema:
        raise UsageError(
            f"{path}: was trained without --optim.ema, so it has no weights beside an average; "
            f"use --weights {weights.removesuffix(RAW)}"
        )
    file, tensors = _weights(folder, weights, averaged=options.optim.ema > 0)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        # torch lists every layer; the first shows as well as all which option differs.
        raise UsageError(
            f"{file}: does not fit the network of {folder.config}: {first_line(str(error))}"
        ) from None
    return TrainedRun(folder.path, options, sets[0], model.eval(), sets[1:])


def _weights(folder: RunFolder, which: str, averaged: bool) -> tuple[Path, dict[str, Tensor]]:
    """The file or checkpoint of the weights ``which``, and its content."""
    file = folder.weights(which)
    place, raw = which.removesuffix(RAW), which.endswith(RAW)
    if file.exists():
        try:
            return file, load_weights(file)
        except UsageError as error:
            remedy = {
                "last": "remove it to use the newest checkpoint",
                "best": "use --weights last",
            }
            raise UsageError(f"{error}; {remedy[place]}") from None
    if place == "best":
        raise UsageError(
            f"{folder.path}: was not evaluated yet, no weights are the best; use the last"
        )
    newest = folder.newest_checkpoint()
    if newest is None:
        raise UsageError(f"{folder.path}: has no checkpoint yet; train it first")
    if raw or not averaged:
        return newest, load_checkpoint_weights(newest)
    try:
        return newest, averaged_weights(load_checkpoint(newest).state["average"])
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"{newest}: holds no average of the weights; use --weights last{RAW}"
        ) from None


def check_classes(run: TrainedRun, dataset: SegmentationDataset) -> None:
    """Raises UsageError unless ``run`` was trained on the sets of classes of ``dataset``."""
    if len(run.label_sets) != len(dataset.label_sets):
        raise UsageError(
            f"{run.path}: was trained on {_number_of_sets(run.label_sets)} of labels, "
            f"{dataset.name} has {_number_of_sets(dataset.label_sets)}; give a run of the same"
        )
    for known, labels in zip(run.label_sets, dataset.label_sets, strict=True):
        if known.names == labels.class_names:
            continue
        differing = [
            f"{a!r} there is {b!r} here"
            for a, b in zip(known.names, labels.class_names, strict=False)
            if a != b
        ]
        raise UsageError(
            f"{run.path}: was trained on {counted(len(known.names), 'class')}, {dataset.name} has "
            f"{labels.num_classes}{'; ' + differing[0] if differing else ''}; "
            "give a run of the same classes"
        )


def _number_of_sets(sets: Sequence[object]) -> str:
    return "one set" if len(sets) == 1 else f"{len(sets)} sets"

"""Ends a training: writes the card of its weights and its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcn_train.card import Subject, write_card
from fcn_train.classes import classes_of
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.options import TrainOptions
from fcn_train.report import Result, metrics_of, write_report
from fcn_train.run_folder import RunFolder
from fcn_train.splits import Splits
from fcn_train.state import TrainingState
from fcn_train.weights import checksum, plain
from fcn_train.words import counted


def finish(
    folder: RunFolder,
    options: TrainOptions,
    splits: Splits,
    state: TrainingState,
    results: Sequence[Result],
    *,
    environment: dict[str, Any],
    console: Console,
) -> None:
    """Write the card and the report of a run whose last weights are saved.

    Args:
        folder: that of the run.
        results: those on the val split, one for each set of labels.
        environment: from ``Runtime.environment``.
    """
    facts = {
        "split": options.data.val_split,
        "images": len(splits.val),
        "weights": "last",
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        **_skipped(state, console),
    }
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    digest = checksum(plain(state.kept("last")["last"]))
    subject = Subject(folder, options, classes_of(splits.train), parameters, digest)
    write_card(subject, metrics_of(facts, results))
    write_report(
        folder.path,
        title=f"{options.model.name} on {splits.train.name}",
        facts=facts,
        results=results,
        history=state.history,
        config=to_dict(options),
        environment=environment,
    )


def _skipped(state: TrainingState, console: Console) -> dict[str, int]:
    """How many steps were skipped because of float16, if it is in use."""
    if state.scaler is None:
        return {}
    was = "was" if state.scaler.skipped == 1 else "were"
    console.line(
        f"{state.scaler.skipped} of {counted(state.step, 'step')} {was} skipped, as "
        "float16 did not hold their "
        "gradients"
    )
    return {"skipped_steps": state.scaler.skipped}

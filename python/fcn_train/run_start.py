"""The files that a run folder has from the beginning of a training."""

from __future__ import annotations

from typing import Any

from fcn_train.classes import classes_of, save_classes
from fcn_train.config import to_dict
from fcn_train.event_files import remove_event_file
from fcn_train.files import remove_leftovers, write_text
from fcn_train.options import TrainOptions
from fcn_train.report import to_json
from fcn_train.run_folder import RAW, RunFolder, is_moved
from fcn_train.splits import Splits


def write_run_start(
    folder: RunFolder,
    options: TrainOptions,
    splits: Splits,
    environment: dict[str, Any],
    *,
    further: bool,
) -> None:
    """Write what is missing in ``folder``; the configuration, which marks it as a run, last.

    Args:
        environment: from ``Runtime.environment``.
        further: the run is made longer: the files written at its former end are removed, and its
            configuration is rewritten, as it is if its data was moved.
    """
    remove_leftovers(folder.path, locked=True)
    remove_leftovers(folder.checkpoints, locked=True)
    if further:
        folder.metrics.unlink(missing_ok=True)
        folder.card.unlink(missing_ok=True)
        for which in ("last", f"last{RAW}"):
            folder.weights(which).unlink(missing_ok=True)
    if folder.config.exists():  # a run begun with options that are no longer given
        if not options.tensorboard:
            remove_event_file(folder.path)
        if not options.profile:
            (folder.path / "profile.csv").unlink(missing_ok=True)
    if not folder.classes.exists():
        save_classes(folder.classes, classes_of(splits.train))
    if not folder.splits.exists():
        splits.record(folder.splits)
    if further or not folder.config.exists() or is_moved(folder.path, options):
        write_text(folder.config, to_json(to_dict(options)))
    write_text(folder.environment, to_json(environment))

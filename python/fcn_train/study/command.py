"""`fcn study`: list the studies, or run one and write what it found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fcn_train.console import Console
from fcn_train.errors import Interrupted, StateSaved
from fcn_train.files import check_folder
from fcn_train.run_folder import refuse_folder_of_run
from fcn_train.signals import signal_of
from fcn_train.study.findings import Findings
from fcn_train.study.options import StudyOptions, TrainStudyOptions
from fcn_train.study.registry import STUDIES
from fcn_train.tables import text_table


def list_studies(console: Console) -> None:
    """Print a line for each study."""
    for line in text_table(
        ("study", "asks"), [(name, study.line) for name, study in STUDIES.items()]
    ).splitlines():
        console.line(line)
    console.line("fcn study NAME --help explains the options of one.")


def study_folder(name: str, options: StudyOptions) -> Path:
    """Where the files of a study go."""
    return options.output or Path("runs") / f"study-{name}"


def run_study(name: str, options: StudyOptions, console: Console) -> Findings:
    """Run the study ``name``, print its table and write its files.

    Raises:
        UsageError, DataError: an option or a data set cannot be used.
        Interrupted, StateSaved: a study whose runs are kept was interrupted, or failed.
    """
    folder = study_folder(name, options)
    refuse_folder_of_run(folder, "--output")
    check_folder(folder)
    with _going_on(options):
        findings = STUDIES[name].run(options, folder, console)
    findings.write(folder)
    console.line(findings.text())
    console.line(f"{folder}: written")
    return findings


@contextlib.contextmanager
def _going_on(options: StudyOptions) -> Iterator[None]:
    """However a study that trains is broken off, its runs are kept, and its own command, not `fcn
    train`, goes on with them."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        if not isinstance(options, TrainStudyOptions):
            raise
        signum = error.signum if isinstance(error, Interrupted) else signal_of(error)
        raise Interrupted(
            signum, "interrupted; its runs are kept, and the same command goes on where it was"
        ) from None
    except StateSaved as error:
        raise StateSaved(error.saved, "the same command goes on from there") from error.__cause__

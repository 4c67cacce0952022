"""`fcn study`: list the studies, or run one and write what it found."""

from __future__ import annotations

from pathlib import Path

from fcn_train.console import Console
from fcn_train.run_folder import refuse_folder_of_run
from fcn_train.study.findings import Findings
from fcn_train.study.options import StudyOptions
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
    """
    folder = study_folder(name, options)
    refuse_folder_of_run(folder, "--output")
    findings = STUDIES[name].run(options, folder, console)
    findings.write(folder)
    console.line(findings.text())
    console.line(f"{folder}: written")
    return findings

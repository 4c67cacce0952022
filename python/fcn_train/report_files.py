"""The files of a report, and which files of an earlier report to remove when it is replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcn_train import calibration
from fcn_train.files import refused_as_write_error
from fcn_train.json_text import parse_json
from fcn_train.run_folder import METRICS
from fcn_train.run_scores import scores_by_set

TABLES = ("per_class", "per_image", "confusion_matrix")
PICTURES = ("per_class", "confusion_matrix", "overlays")


def remove_former(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Remove the files that an earlier report in ``folder`` had and one with these ``metrics`` does
    not: a calibration, or the files of another set of labels.

    The ``metrics.json`` there tells which files it had; nothing else is touched.
    """
    former: Any = None
    with contextlib.suppress(OSError, ValueError):
        former = parse_json((folder / METRICS).read_text(encoding="utf-8"))
    if not isinstance(former, dict):
        return
    gone = _files(former) - _files(metrics)
    for path in [path for path in folder.iterdir() if path.name in gone and path.is_file()]:
        with refused_as_write_error(path):
            path.unlink(missing_ok=True)


def _files(metrics: Mapping[str, Any]) -> set[str]:
    """The files of each set of labels in a report with these ``metrics``."""
    sets = scores_by_set(metrics)
    found: set[str] = set()
    for name, values in sets.items() if isinstance(sets, Mapping) else ():
        end = f"-{name}" if name else ""
        found |= {f"{table}{end}.csv" for table in TABLES}
        found |= {f"{picture}{end}.png" for picture in PICTURES}
        if isinstance(values, Mapping) and calibration.KEY in values:
            found |= {f"calibration{end}.csv", f"calibration{end}.png"}
    return found

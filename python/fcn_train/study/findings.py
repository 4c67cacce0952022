"""What a study found, beside the paper's results, written in three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcn_train.files import make_folder, write_text
from fcn_train.history import write_csv
from fcn_train.report import to_json
from fcn_train.tables import text_table

_PERCENT = ("range", "paper")  # columns beside one with (%) in its name


@dataclass(frozen=True, eq=False)
class Findings:
    """The result of a study.

    Attributes:
        title: what was asked, of what.
        paper: what the paper found, and where it says so.
        header: names of the columns.
        rows: a cell for each; None where there is nothing to say.
        facts: the size of the study and where it ran.
        more: further tables, each a header and rows, by the names of their files.
    """

    title: str
    paper: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, tuple[tuple[str, ...], Sequence[Sequence[Any]]]] = field(
        default_factory=dict
    )

    def text(self) -> str:
        """The title, the table, and what the paper found."""
        percent = ["(%)" in self.title + name or name in _PERCENT for name in self.header]
        cells = [list(map(cell_text, row, percent)) for row in self.rows]
        return f"{self.title}\n\n{text_table(self.header, cells)}\n\nThe paper: {self.paper}"

    def write(self, folder: Path) -> None:
        """``table.txt``, ``table.csv``, the further tables and, last, ``study.json``."""
        make_folder(folder)
        write_text(folder / "table.txt", self.text() + "\n")
        write_csv(folder / "table.csv", self.header, self.rows)
        for name, (header, rows) in self.more.items():
            write_csv(folder / f"{name}.csv", header, rows)
        table = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        values = {"title": self.title, "paper": self.paper, "rows": table, **self.facts}
        write_text(folder / "study.json", to_json(values))


def cell_text(value: Any, percent: bool = False) -> str:
    """A cell of a table as text, with as many digits in a column of percent."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 and not percent else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

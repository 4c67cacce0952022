"""Tables of a document of figures for a terminal, made by rich if it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from benchmarks.visits import BOUNDS

WIDTH = 170  # if no terminal says otherwise
DETAIL = (
    "case",
    "implementation",
    "median ms",
    "min ms",
    "GB/s",
    "of copy",
    "fcn_ext is",
    "peak MiB",
    "max error",
)
SUMMARY = (
    "operator/case/variant",
    "fcn_ext ms",
    "best peer",
    "its ms",
    "fcn_ext is",
    "by min",
    "of copy",
    "max error",
)
TEXT_COLUMNS = {
    "case",
    "implementation",
    "operator/case/variant",
    "best peer",
    "kernel",
    "row",
    "promise",
    "against",
    "",
}
PROMISES = ("row", "promise", "against", "measured", "by min", "range of visits", "")


def print_document(document: dict[str, Any], out: TextIO) -> None:
    """Every figure, one table per operator, and the comparison with the best peers."""
    for line in _heading(document):
        print(line, file=out)
    rows = document["rows"]
    for operator in dict.fromkeys(row["operator"] for row in rows):
        lines = [line for row in rows if row["operator"] == operator for line in detail_lines(row)]
        print_table(operator, DETAIL, lines, out)
    print_table("against the best peer", SUMMARY, [summary_line(row) for row in rows], out)
    if document["skipped"]:
        print("no time was left for: " + ", ".join(document["skipped"]), file=out)
    wanted = document["settings"].get("visits", 1)
    for row in rows:
        if row.get("visits", 1) < wanted:
            print(
                f"no time was left for {wanted} visits: {row['name']} has {row['visits']}", file=out
            )


def print_promises(checked: list[dict[str, Any]], out: TextIO) -> None:
    lines = [
        (
            entry["row"],
            entry["promise"],
            entry.get("against") or "",
            _times(entry.get("ratio")),
            _times(entry.get("ratio_minimum")),
            _range(entry.get("ratio_visits", [])),
            "kept" if entry["kept"] else "MISSED",
        )
        for entry in checked
    ]
    print_table("promises", PROMISES, lines, out)
    kept = sum(entry["kept"] for entry in checked)
    print(f"{kept} of {len(checked)} promises kept", file=out)


def _heading(document: dict[str, Any]) -> list[str]:
    environment, settings = document["environment"], document["settings"]
    lines = [
        f"{environment['device_name']}, {environment['threads']} of {environment['cores']} cores, "
        f"torch {environment['torch']}, fcn_ext {environment['fcn_ext']['version']} "
        f"({environment['fcn_ext']['cpu_capability']}; {environment['fcn_ext']['cuda']}), "
        f"{environment['date']}"
    ]
    if environment["device"] == "cpu":
        meaning = {
            "keep": "keeps freed memory (GLIBC_TUNABLES), which is the peers' best case",
            "default": "is the system's: large results pay page faults on every call",
        }[settings["malloc"]]
        lines.append(f"malloc {meaning}; peak memory comes from a process that returns it")
    if environment["load_before"] > 0.5:
        lines.append(
            f"NOISY: the load average was {environment['load_before']:.1f} before the first row; "
            "go by the minima, or measure again on a quiet machine"
        )
    lines.append(
        "times: interleaved rounds; of copy: time of a copy that reads and writes as many bytes as "
        "the operator must / time; peak: beyond the inputs, result included; error of a loss: its "
        "own / that of its gradient, relative"
    )
    return lines


def detail_lines(row: dict[str, Any]) -> list[tuple[str, ...]]:
    case = row["name"].split("/", 1)[1]
    lines: list[tuple[str, ...]] = []
    for entry in row["implementations"]:
        lines.append(
            (
                case,
                entry["name"],
                *(_number(entry.get(key)) for key in ("median_ms", "minimum_ms", "gb_per_s")),
                _percent(entry.get("share_of_copy")),
                "" if entry["name"] == "fcn_ext" else _times(entry.get("times_fcn_ext")),
                _number(entry.get("peak_mib")),
                _error(entry),
            )
        )
        case = ""
    for bound in (row[name] for name in BOUNDS if name in row):
        figures = (_number(bound[key]) for key in ("median_ms", "minimum_ms", "gb_per_s"))
        share = _percent(row["copy"]["median_ms"] / bound["median_ms"])
        lines.append(("", bound["name"], *figures, share, "", "", ""))
    return lines


def summary_line(row: dict[str, Any]) -> tuple[str, ...]:
    entries = {entry["name"]: entry for entry in row["implementations"]}
    project, best = entries["fcn_ext"], entries.get(row["best_peer"] or "", {})
    return (
        row["name"],
        _number(project.get("median_ms")),
        row["best_peer"] or "none",
        _number(best.get("median_ms")),
        _times(best.get("times_fcn_ext")),
        _times(best.get("times_fcn_ext_minimum")),
        _percent(project.get("share_of_copy")),
        _error(project),
    )


def print_table(
    title: str, header: Sequence[str], lines: Sequence[Sequence[str]], out: TextIO
) -> None:
    """Prints a table if there are lines; a line whose first cell is not empty begins a group."""
    if not lines:
        return
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        print(plain_table(title, header, lines), file=out)
        return
    console = Console(file=out, width=None if out.isatty() else WIDTH, highlight=False)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    text = [name in TEXT_COLUMNS for name in header]
    for name, is_text in zip(header, text, strict=True):
        justify: Any = "left" if is_text else "right"
        table.add_column(name, justify=justify, no_wrap=not is_text, overflow="fold")
    grouped = any(not line[0] for line in lines)
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        end = grouped and following is not None and bool(following[0])
        table.add_row(*(Text(cell) for cell in line), end_section=end)
    console.print(table)


def plain_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def join(line: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if name in TEXT_COLUMNS else cell.rjust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, join(header), rule, *(join(line) for line in lines), ""])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)}x"


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))}-{_times(max(values))}" if values else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _error(entry: dict[str, Any]) -> str:
    if "failed" in entry:
        return "failed"
    wrong = entry.get("wrong_counts", entry.get("wrong_labels"))
    if wrong is not None:
        return "exact" if entry["correct"] else f"{wrong} WRONG"
    error = f"{entry['max_error']:.1e}"
    if "loss_error" in entry:
        error = f"{entry['loss_error']:.1e} / {error}"
    return error + ("" if entry["correct"] else " WRONG")

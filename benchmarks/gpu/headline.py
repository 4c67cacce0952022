"""Summarizes a stage of gpu.sh in a few lines, from its log and its file of figures.

``python headline.py STAGE FOLDER`` reads FOLDER/logs/STAGE.log. The first line begins with
"nothing" if the stage did nothing at all.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SANITIZERS = ("memcheck", "synccheck", "racecheck", "initcheck")
FIGURES = {
    "heads": "heads.json",
    "operators": "operators.json",
    "compile": "compiled.json",
    "profile": "kernels.json",
}
# The rows of a file of figures that are shown.
SHOWN = (
    "interpolate_cross_entropy/voc-s8/float32",
    "interpolate_cross_entropy/cityscapes-s4/float32",
    "interpolate_cross_entropy/ade20k-s4/float32",
    "upsample/cityscapes-s8/float32",
    "upsample_backward/cityscapes-s8/float32",
    "confusion_matrix/cityscapes/int64-regions",
)
MOST_FAILURES = 5
KERNELS_SHOWN = 3
NAME_SHOWN = 60


def of_install(log: str) -> list[str]:
    said = re.findall(r"^install: (.*)$", log, re.MULTILINE)
    return ["; ".join(said)] if said else ["nothing was installed"]


def of_tests(log: str) -> list[str]:
    """pytest's last line, or what is known of a run that was stopped before it."""
    closing = re.findall(r"^=+ (.*\d+ \w+.* in [\d.]+s.*?) =+$", log, re.MULTILINE)
    outcomes = Counter(re.findall(r"\b(PASSED|FAILED|ERROR|SKIPPED) ", log))
    if closing:
        first = closing[-1]
    else:
        told = [f"{count} {outcome.lower()}" for outcome, count in sorted(outcomes.items())]
        first = "stopped after " + ", ".join(told) if told else "nothing ran"
    if "no tests ran" in first or re.match(r"\d+ deselected", first):
        first = f"nothing ran: {first}"
    failures = re.findall(r"^(?:FAILED|ERROR) (\S+(?: - .*)?)$", log, re.MULTILINE)
    return [first, *(failure[:150] for failure in failures[:MOST_FAILURES])]


def of_sanitizer(log: str) -> list[str]:
    """The tests' result and the tool's own summaries; or how many tests it would have watched."""
    first, *failures = of_tests(log)
    summaries = re.findall(r"^=+ ((?:\w+ )?SUMMARY: .*)$", log, re.MULTILINE)
    collected = re.search(r"^(?:=+ )?(\d+)(?:/\d+)? tests collected", log, re.MULTILINE)
    if collected is not None:
        return [f"{collected[1]} tests collected, none run: no GPU"]
    kinds = Counter(
        re.findall(r"^=+ ((?:Error|Warning): .*|(?:Invalid|Barrier|Uninitialized) .*)$", log, re.M)
    )
    found = [f"{count} x {kind[:140]}" for kind, count in kinds.most_common(MOST_FAILURES)]
    return ["; ".join([*summaries, first]), *found, *failures]


def of_figures(document: dict[str, Any], log: str) -> list[str]:
    rows = {row["name"]: row for row in document["rows"]}
    missed, wrong = len(re.findall(r"MISSED *$", log, re.M)), log.count("WRONG RESULT")
    kept = re.findall(r"^\d+ of \d+ promises kept$", log, re.MULTILINE)
    parts = [f"{len(rows)} rows" if rows else "nothing was measured"]
    parts += [f"{wrong} WRONG"] if wrong else []
    parts += kept or ([f"{missed} promises missed"] if missed else [])
    parts += [f"no time for {len(document['skipped'])}"] if document["skipped"] else []
    return [", ".join(parts), *map(timed, shown(rows))]


def shown(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of SHOWN that were measured, or the first row."""
    return [rows[name] for name in SHOWN if name in rows] or list(rows.values())[:1]


def timed(row: dict[str, Any]) -> str:
    entries = {entry["name"]: entry for entry in row["implementations"]}
    project, peer = entries["fcn_ext"], entries.get(row["best_peer"] or "", {})
    if "median_ms" not in project:
        return f"{row['name']}: {project.get('failed', 'not timed')}"
    line = f"{row['name']}: {project['median_ms']:.4g} ms"
    line += f", {100 * project['share_of_copy']:.0f} % of a copy"
    if "times_fcn_ext" in peer:
        line += f", {peer['times_fcn_ext']:.3g}x {peer['name']}"
    return line


def of_kernels(document: dict[str, Any]) -> list[str]:
    rows = {row["name"]: row for row in document["rows"]}
    failed = sum("failed" in row for row in rows.values())
    first = f"{len(rows)} rows" if rows else "nothing was profiled"
    first += f", {failed} failed" if failed else ""
    first += f", no time for {len(document['skipped'])}" if document["skipped"] else ""
    lines = [first]
    for row in shown(rows):
        if "failed" in row:
            lines.append(f"{row['name']}: {row['failed']}")
            continue
        lines.append(f"{row['name']}: {row['span_us']:.1f} us, {row['gb_per_s']:.0f} GB/s")
        for kernel in row["kernels"][:KERNELS_SHOWN]:
            name = kernel["name"][:NAME_SHOWN]
            lines.append(f"  {kernel['launches_per_call']:g} x {kernel['median_us']:.1f} us {name}")
    return lines


def of_counters(table: Iterable[str], log: str) -> list[str]:
    """The kernels whose counters ncu read, or why it could not."""
    lines = list(table)
    rows = list(csv.DictReader(line for line in lines if line.startswith('"')))
    rows = [row for row in rows if row["ID"].isdigit()]  # the line after the header has units
    if not rows:
        refused = [line.strip() for line in [*log.splitlines(), *lines] if "==ERROR==" in line]
        if any("ERR_NVGPUCTRPERM" in line for line in refused):
            return ["nothing: no permission to read the GPU's counters (ERR_NVGPUCTRPERM)"]
        return [f"nothing was counted{': ' + refused[0][:150] if refused else ''}"]
    shown = []
    for row in rows:
        numbers = {name: value for name, value in row.items() if "__" in name}
        name = re.sub(r"\(.*", "", row["Kernel Name"])[-NAME_SHOWN:]
        shown.append(f"{name}: " + ", ".join(f"{key} {numbers[key]}" for key in numbers))
    return [f"{len(rows)} kernels", *shown]


def of_training(log: str, scores: Path) -> list[str]:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = lines[-1][:150] if lines else "nothing was trained"
    if not scores.is_file():
        return [last]
    found = json.loads(scores.read_text(encoding="utf-8"))
    numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
    return [", ".join(f"{key} {value:.4g}" for key, value in numbers.items())]


def headline(stage: str, folder: Path) -> list[str]:
    path = folder / "logs" / f"{stage}.log"
    # The first line is the command.
    log = path.read_text(encoding="utf-8", errors="replace").partition("\n")[2]
    if stage == "install":
        return of_install(log)
    if stage == "tests":
        return of_tests(log)
    if stage in SANITIZERS:
        return of_sanitizer(log)
    if stage == "ncu":
        table = folder / "logs" / "ncu.csv"
        if table.is_file() or "==ERROR==" in log:
            text = table.read_text(encoding="utf-8") if table.is_file() else ""
            return of_counters(text.splitlines(), log)
        return [f"{len(log.splitlines())} rows called once, nothing counted: no GPU"]
    if stage == "train":
        return of_training(log, folder / "logs" / "train.json")
    figures = folder / FIGURES[stage]
    if not figures.is_file():
        return ["nothing was measured"]
    document = json.loads(figures.read_text(encoding="utf-8"))
    return of_kernels(document) if stage == "profile" else of_figures(document, log)


if __name__ == "__main__":
    print("\n".join(headline(sys.argv[1], Path(sys.argv[2]))))

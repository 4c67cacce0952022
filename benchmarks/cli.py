"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import kernels, memory
from benchmarks.bench import Settings, make_clock, new_document, run_row
from benchmarks.cases import GRIDS, QUICK, Row, rows
from benchmarks.environment import clocks, cores, describe, ensure_malloc
from benchmarks.implementations import implementations
from benchmarks.promises import check
from benchmarks.report import print_document, print_promises, summary_line
from benchmarks.visits import merge


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Every operator of fcn_ext beside its peers, on the sizes of published data.",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="PATTERN",
        help="rows operator/case/variant: a part of the name, or shell wildcards; may repeat",
    )
    parser.add_argument(
        "--rows",
        choices=list(GRIDS),
        default="all",
        help="all (default): operators (maps and counts), heads and predictions; sweep: the loss "
        "against the number of classes and the size of images, for --plot",
    )
    parser.add_argument("--list", action="store_true", help="name the rows and who is measured")
    parser.add_argument("--quick", action="store_true", help="a few rows, a shorter look at each")
    parser.add_argument("--seconds", type=float, help="time for the rounds of one row (2; quick 1)")
    parser.add_argument(
        "--visits",
        type=int,
        default=1,
        metavar="N",
        help="measure all rows N times over; times and ratios are medians of the visits (1)",
    )
    parser.add_argument("--time-limit", type=float, help="seconds after which no row is begun")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads (all cores)")
    parser.add_argument(
        "--malloc",
        choices=["keep", "default"],
        default="keep",
        help="keep: freed memory stays in the process, the peers' best case; default: the system's",
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--compile",
        action="append",
        default=[],
        metavar="PATTERN",
        help="rows on which torch.compile is measured besides its usual ones; may repeat",
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory on the CPU")
    parser.add_argument(
        "--memory",
        action="append",
        default=[],
        metavar="PATTERN",
        help="rows whose peak memory on the CPU is measured (all); may repeat",
    )
    parser.add_argument("--check", action="store_true", help="say which promises are kept")
    parser.add_argument(
        "--kernels",
        action="store_true",
        help="instead of a comparison: the kernels of one call of fcn_ext, by torch's profiler",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="instead of a comparison: one call of fcn_ext on each row, for a profiler that "
        "watches this process",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/benchmarks"),
        help="JSON file, or a folder in which it is named after device and date; of --plot the "
        "picture",
    )
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the tables of a JSON file")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the sweep of a JSON file into --output"
    )
    parser.add_argument("--memory-worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 1: a result is wrong. 2: wrong arguments. 3: a promise is missed."""
    options = parser().parse_args(arguments)
    if options.memory_worker:
        return memory.work(sys.stdin, sys.stdout)
    if options.show is not None:
        return _report(json.loads(options.show.read_text(encoding="utf-8")), options.check)
    if options.plot is not None:
        return _plot(options.plot, options.output)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser().error("--device cuda: this torch finds no CUDA device")
    if options.threads < 1:
        parser().error(f"--threads must be >= 1, got {options.threads}")
    if options.visits < 1:
        parser().error(f"--visits must be >= 1, got {options.visits}")
    patterns = QUICK if options.quick and not options.filter else tuple(options.filter)
    chosen = list(rows(patterns, options.rows))
    for option in ("filter", "compile", "memory"):
        given = getattr(options, option)
        if unmatched := [p for p in given if not any(row.matches((p,)) for row in chosen)]:
            parser().error(f"--{option} matches no row, got {unmatched}; --list names them")
    if not chosen:
        parser().error(f"--quick measures none of --rows {options.rows}")
    if options.list:
        return _list(chosen, options)
    if options.kernels or options.once:
        return _profile(chosen, options)
    if options.device == "cpu":
        ensure_malloc(options.malloc)
    settings = Settings(
        device=options.device,
        threads=options.threads,
        malloc=options.malloc,
        seconds=options.seconds or (1.0 if options.quick else 2.0),
        at_least=3 if options.quick else 5,
        visits=options.visits,
        compiled=not (options.no_compile or options.quick),
        compile=tuple(options.compile),
        quick=options.quick,
    )
    document = run(chosen, settings, options)
    return _report(document, options.check)


def run(chosen: list[Row], settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Measures the rows. Rewrites the file after each, so that a stop loses only one row."""
    torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    document = new_document(settings, describe(device, settings.threads))
    path = _path(options.output, document)
    begin = time.monotonic()
    peaks = {}
    if device.type == "cpu" and not options.no_memory:
        patterns = tuple(options.memory)
        weighed = [row for row in chosen if not patterns or row.matches(patterns)]
        _progress(f"peak memory of {len(weighed)} rows, in a process of its own")
        compiled = {row.name for row in weighed if settings.compiles(row)}
        peaks = memory.measure_host(weighed, settings.threads, compiled)
    clock = make_clock(device)
    visited: dict[str, list[dict[str, Any]]] = {row.name: [] for row in chosen}
    for row in chosen * settings.visits:
        if options.time_limit is None or time.monotonic() - begin <= options.time_limit:
            visited[row.name].append(run_row(row, settings, clock, peaks))
            name, ours, peer, _, ratio, *_ = summary_line(visited[row.name][-1])
            _progress(f"{name}: {ours} ms, {ratio} as fast as {peer}")
            document["rows"] = [merge(visits) for visits in visited.values() if visits]
            _write(path, document)
    document["skipped"] = [name for name, visits in visited.items() if not visits]
    if device.type == "cuda":
        document["environment"]["cuda"]["after"] = clocks()
    document["environment"]["load_after"] = os.getloadavg()[0]
    document["environment"]["wall_seconds"] = round(time.monotonic() - begin, 1)
    _write(path, document)
    _progress(f"figures: {path}")
    return document


def _profile(chosen: list[Row], options: argparse.Namespace) -> int:
    """Handles ``--kernels``, rewriting the file after each row, and ``--once``."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if options.once:
        for row in chosen:
            kernels.call_once(row, device)
            _progress(row.name)
        return 0
    found: list[dict[str, Any]] = []
    document: dict[str, Any] = {
        "schema": kernels.SCHEMA,
        "environment": describe(device, options.threads),
        "rows": found,
        "skipped": [],
    }
    path = _path(options.output, document, "kernels")
    begin = time.monotonic()
    profiler = kernels.Profiler(device)
    for row in sorted(chosen, key=lambda row: not row.head):  # if time is short, heads matter most
        if options.time_limit is not None and time.monotonic() - begin > options.time_limit:
            document["skipped"].append(row.name)
            continue
        found.append(kernels.profile_row(row, profiler, device))
        _progress(row.name)
        _write(path, document)
    _write(path, document)
    kernels.print_kernels(found, sys.stdout)
    if document["skipped"]:
        print("no time was left for: " + ", ".join(document["skipped"]))
    _progress(f"figures: {path}")
    return 1 if any("failed" in row for row in found) else 0


def _report(document: dict[str, Any], checked: bool) -> int:
    print_document(document, sys.stdout)
    wrong = [
        f"{row['name']}: {entry['name']}"
        for row in document["rows"]
        for entry in row["implementations"]
        if entry["kind"] == "project" and not entry.get("correct")
    ]
    for line in wrong:
        print(f"WRONG RESULT: {line}")
    kept = True
    if checked:
        results = check(document)
        print_promises(results, sys.stdout)
        kept = all(result["kept"] for result in results)
    return 1 if wrong else 0 if kept else 3


def _list(chosen: list[Row], options: argparse.Namespace) -> int:
    for row in chosen:
        compiled = row.compiled or row.matches(tuple(options.compile))
        names = [i.name for i in implementations(row.operator, options.device, compiled=compiled)]
        print(f"{row.name}: {', '.join(names)}")
    return 0


def _plot(source: Path, output: Path) -> int:
    # Only this needs matplotlib.
    from benchmarks.plot import draw

    path = output if output.suffix else output / "fused_heads.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        draw(json.loads(source.read_text(encoding="utf-8")), path)
    except ValueError as error:
        parser().error(f"--plot {source}: {error}")
    _progress(f"picture: {path}")
    return 0


def _path(output: Path, document: dict[str, Any], *more: str) -> Path:
    if output.suffix == ".json":
        return output
    environment = document["environment"]
    words = [environment["device_name"], environment["date"][:10], *more]
    if environment["device"] == "cpu":
        words.insert(1, f"{environment['threads']}-threads")
    return output / (re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-") + ".json")


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

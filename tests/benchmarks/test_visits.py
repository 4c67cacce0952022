"""Figures of several visits: what is taken of each, and in which order rows are visited."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli, report, targets
from benchmarks.visits import merge

ROWS = ("upsample/voc-s8/float32", "upsample/voc-s32/float32")


def _visit(name: str, ours: float, peers: dict[str, float], copy: float = 1.0) -> dict[str, Any]:
    """What bench.run_row tells of a row, by milliseconds."""

    def figures(ms: float) -> dict[str, Any]:
        times = {"median_ms": ms, "minimum_ms": ms / 2, "samples": 5, "calls_per_sample": 1}
        return {**times, "gb_per_s": 8 / ms}

    def entry(who: str, kind: str, ms: float) -> dict[str, Any]:
        ratios = {
            f"{ratio}{by}": value
            for ratio, value in (("times_fcn_ext", ms / ours), ("share_of_copy", copy / ms))
            for by in ("", "_minimum")
        }
        error = {"max_error": ms * 1e-6, "correct": ms < 100}
        return {"name": who, "kind": kind, "peak_mib": None, **figures(ms), **ratios, **error}

    implementations = [entry(who, "peer", ms) for who, ms in peers.items()]
    return {
        "name": name,
        "operator": "upsample",
        "dtype": "float32",
        "layout": "nchw",
        "case": name.split("/")[1],
        "copy": {"name": "copy", **figures(copy)},
        "implementations": [entry("fcn_ext", "project", ours), *implementations],
        "best_peer": min(peers, key=lambda who: peers[who]),
    }


def test_one_visit_is_the_row() -> None:
    row = _visit(ROWS[0], 1.0, {"a": 5.0})
    assert merge([row]) is row


def test_medians_of_visits() -> None:
    """Ratios are medians of ratios: b is slow when we are, and 3x in every visit."""
    visits = [
        _visit(ROWS[0], 1.0, {"a": 9.0, "b": 3.0}),
        _visit(ROWS[0], 4.0, {"a": 9.0, "b": 12.0}),
        _visit(ROWS[0], 2.0, {"a": 10.0, "b": 6.0}, copy=0.5),
    ]
    row = merge(visits)
    ours, a, b = row["implementations"]
    assert row["visits"] == 3
    assert (ours["median_ms"], ours["minimum_ms"], ours["samples"]) == (2.0, 0.5, 15)
    assert (a["median_ms"], a["times_fcn_ext"]) == (9.0, 5.0)
    assert a["times_fcn_ext_visits"] == [9.0, 2.25, 5.0]
    assert (b["times_fcn_ext"], b["times_fcn_ext_visits"]) == (3.0, [3.0, 3.0, 3.0])
    assert ours["share_of_copy_visits"] == [1.0, 0.25, 0.25]
    assert row["copy"]["median_ms"] == 1.0
    assert row["best_peer"] == "b"
    assert b["max_error"] == pytest.approx(12e-6)
    assert b["calls_per_sample"] == 1
    assert b["peak_mib"] is None


def test_one_wrong_visit_is_wrong_and_a_failed_one_is_told() -> None:
    visits = [_visit(ROWS[0], 1.0, {"a": ms}) for ms in (5.0, 200.0)]
    visits[0]["implementations"].append({"name": "c", "kind": "peer", "failed": "no memory"})
    visits[1]["implementations"].append({"name": "c", "kind": "peer", "median_ms": 7.0})
    _, a, c = merge(visits)["implementations"]
    assert not a["correct"]
    assert c == {"name": "c", "kind": "peer", "failed": "no memory", "median_ms": 7.0}


def test_rows_are_visited_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    visited: list[str] = []

    def run_row(row: Any, *_: Any) -> dict[str, Any]:
        visited.append(row.name)
        return _visit(row.name, 1.0, {"F.interpolate": 3.0 + len(visited)})

    monkeypatch.setattr(cli, "run_row", run_row)
    monkeypatch.setattr(cli, "ensure_malloc", lambda _: None)
    path = tmp_path / "figures.json"
    arguments = ["--no-memory", "--no-compile", "--check", "--output", str(path)]
    exactly = [name.replace("32", "3[2]") for name in ROWS]  # a wildcard matches whole names
    filters = [word for name in exactly for word in ("--filter", name)]
    assert cli.main([*arguments, *filters, "--visits", "3"]) == 0
    assert visited == [*ROWS] * 3
    document = json.loads(path.read_text())
    assert document["settings"]["visits"] == 3
    assert [row["visits"] for row in document["rows"]] == [3, 3]
    assert document["skipped"] == []
    out = io.StringIO()
    report.print_targets(targets.check(document), out)
    assert "4-8x" in out.getvalue()  # of the first row: 4, 6 and 8
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["--visits", "0"])
    assert "--visits must be >= 1, got 0" in capsys.readouterr().err

"""Figures of several visits: what is taken of each, and in which order rows are visited."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli, promises, report
from benchmarks.visits import merge

DOCUMENT = {"environment": {"device": "cpu"}, "settings": {"malloc": "keep"}}
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


@pytest.mark.parametrize("bound", ["reading", "writing"])
def test_bounds_of_visits(bound: str) -> None:
    """The time to read or write is kept beside that to copy, and the share of it."""
    visits = [_visit(ROWS[0], ms, {"a": 9.0}) for ms in (1.0, 4.0, 2.0)]
    for visit, share in zip(visits, (0.5, 0.75, 1.0), strict=True):
        visit[bound] = {**visit["copy"], "name": "torch's", "median_ms": share}
        visit["implementations"][0][f"share_of_{bound}"] = share
    row = merge(visits)
    assert (row[bound]["name"], row[bound]["median_ms"]) == ("torch's", 0.75)
    assert row["implementations"][0][f"share_of_{bound}"] == 0.75


def test_one_visit_is_the_row() -> None:
    row = _visit(ROWS[0], 1.0, {"a": 5.0})
    assert merge([row]) == {**row, "visits": 1}


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
    assert not {"reading", "writing"} & row.keys()
    assert b["max_error"] == pytest.approx(12e-6)
    assert b["calls_per_sample"] == 1
    assert b["peak_mib"] is None


def test_the_best_peer_is_the_one_that_promises_are_judged_by() -> None:
    """p has the lowest median of times, q the lowest ratio: it was quick when we were slow."""
    times = ((1.0, 5.0, 6.0), (4.0, 5.0, 6.0), (4.0, 20.0, 6.0))
    row = merge([_visit(ROWS[0], ours, {"p": p, "q": q}) for ours, p, q in times])
    assert row["best_peer"] == "q"
    (best, *_) = promises.check({**DOCUMENT, "rows": [row]})
    assert (best["against"], best["ratio"], best["kept"]) == ("q", 1.5, False)


def test_a_wrong_or_a_failed_visit_is_not_made_good_by_others() -> None:
    visits = [_visit(ROWS[0], 1.0, {"a": ms}) for ms in (5.0, 200.0)]
    for position in (0, 1):
        failed = {"name": "c", "kind": "peer", "failed": "no memory"}
        fine = {"name": "c", "kind": "peer", "median_ms": 2.0, "correct": True}
        pair = [failed, fine] if position == 0 else [fine, failed]
        both = [
            {**visit, "implementations": [*visit["implementations"], entry]}
            for visit, entry in zip(visits, pair, strict=True)
        ]
        row = merge(both)
        _, a, c = row["implementations"]
        assert not a["correct"]
        assert (c["failed"], c["correct"]) == ("no memory", False)
        assert row["best_peer"] == "a"


def test_figures_that_a_visit_lacks() -> None:
    """An implementation that failed before its memory was known; an error that is no number."""
    for peaks in ([None, 3.0], [3.0, None]):
        visits = [_visit(ROWS[0], 1.0, {"a": 5.0}) for _ in peaks]
        for visit, peak, error in zip(visits, peaks, (1e-6, math.nan), strict=True):
            visit["implementations"][1] |= {"peak_mib": peak, "max_error": error}
        _, a = merge(visits)["implementations"]
        assert a["peak_mib"] == 3.0
        assert math.isnan(a["max_error"])


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
    report.print_promises(promises.check(document), out)
    assert "4-8x" in out.getvalue()  # of the first row: 4, 6 and 8
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["--visits", "0"])
    assert "--visits must be >= 1, got 0" in capsys.readouterr().err

"""One row's figures from several visits to it, with all other rows in between.

A race compares calls that took turns within seconds. Over minutes a shared machine changes, its
memory above all, and not all calls change with it: one visit sees one state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Combine = Callable[[Sequence[Any]], Any]

# Ratios are combined, not computed from combined times: both sides of a ratio saw the same state.
COMBINE: dict[str, Combine] = {
    "median_ms": median,
    "minimum_ms": min,
    "gb_per_s": median,
    "share_of_copy": median,
    "share_of_copy_minimum": median,
    "share_of_reading": median,
    "share_of_writing": median,
    "times_fcn_ext": median,
    "times_fcn_ext_minimum": median,
    "samples": sum,
    "correct": all,
}
# What a row may have besides its implementations: how fast the machine copies, reads and writes.
BOUNDS = ("copy", "reading", "writing")
# The figures that promises are about; those of each visit are kept.
KEPT = ("times_fcn_ext", "share_of_copy")


def fastest(entries: Sequence[dict[str, Any]]) -> str | None:
    """The name of the fastest of ``entries``: by the ratio that promises are about, or by time if
    this project has none. A failed entry does not count."""
    timed = [entry for entry in entries if "failed" not in entry and "median_ms" in entry]
    best = min(timed, key=lambda e: float(e.get("times_fcn_ext", e["median_ms"])), default=None)
    return None if best is None else str(best["name"])


def best_peer(implementations: Sequence[dict[str, Any]]) -> str | None:
    return fastest([entry for entry in implementations if entry["kind"] == "peer"])


def merge(visits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a row (``bench.run_row``) from those of its visits."""
    if len(visits) == 1:
        return {**visits[0], "visits": 1}
    implementations = [
        _merge_figures(entries)
        for entries in zip(*(visit["implementations"] for visit in visits), strict=True)
    ]
    bounds = {
        name: _merge_figures([visit[name] for visit in visits])
        for name in BOUNDS
        if name in visits[0]
    }
    return {
        **visits[0],
        "visits": len(visits),
        **bounds,
        "implementations": implementations,
        "best_peer": best_peer(implementations),
    }


def _merge_figures(visits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for visit in visits for key in visit):
        values = [visit[key] for visit in visits if visit.get(key) is not None]
        if not values:
            merged[key] = None
        elif key in COMBINE:
            merged[key] = COMBINE[key](values)
        elif isinstance(values[0], int | float):
            # Errors, of which NaN is the largest, and figures that do not change.
            merged[key] = max(values, key=lambda value: (value != value, value))
        else:
            merged[key] = values[0]
        if key in KEPT:
            merged[f"{key}_visits"] = values
    if "failed" in merged:
        merged["correct"] = False
    return merged

"""The speeds that the project promises, and whether a document of figures keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.bench import COPY

BEST_PEER = "best peer"
ALL_BUT_847 = ("voc", "cityscapes", "ade20k")


@dataclass(frozen=True)
class Target:
    """``fcn_ext`` is at least ``at_least`` times as fast as ``against`` on rows that match."""

    operator: str
    against: str
    at_least: float
    dtype: str = "float32"
    layout: str = "nchw"
    cases: tuple[str, ...] = ()
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.at_least:g}x {self.against}"

    def concerns(self, row: dict[str, Any], device: str) -> bool:
        return (
            row["operator"] == self.operator
            and row["dtype"] == self.dtype
            and row["layout"] == self.layout
            and (not self.cases or row["case"] in self.cases)
            and device == self.device
        )


TARGETS = (
    Target("upsample", BEST_PEER, 4),
    Target("upsample", COPY, 0.5),
    Target("upsample_backward", BEST_PEER, 5),
    Target("upsample_backward", "F.interpolate", 10),
    Target("upsample", "F.interpolate", 15, dtype="bfloat16"),
    Target("fuse_skip", "conv_transpose2d + crop + add", 3),
    Target("confusion_matrix", "mask + bincount", 8, dtype="int64", cases=ALL_BUT_847),
    Target("confusion_matrix", "mask + bincount", 3, dtype="int64", cases=("ade-full",)),
    Target("upsample", COPY, 0.8, device="cuda"),
    Target("upsample_backward", COPY, 0.8, device="cuda"),
    Target("fuse_skip", COPY, 0.8, device="cuda"),
    Target("confusion_matrix", "mask + bincount", 10, dtype="int64", device="cuda"),
)


def check(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for every row that a target concerns; ``passed`` goes by the medians."""
    found = []
    for row in document["rows"]:
        project = next(e for e in row["implementations"] if e["name"] == "fcn_ext")
        for target in TARGETS:
            if not target.concerns(row, document["environment"]["device"]):
                continue
            name = row["best_peer"] if target.against == BEST_PEER else target.against
            ratio, minimum = _ratios(row, project, name)
            found.append(
                {
                    "row": row["name"],
                    "target": str(target),
                    "against": name,
                    "at_least": target.at_least,
                    "ratio": ratio,
                    "ratio_minimum": minimum,
                    "passed": ratio is not None and ratio >= target.at_least,
                }
            )
    return found


def _ratios(
    row: dict[str, Any], project: dict[str, Any], against: str | None
) -> tuple[float | None, float | None]:
    if against == COPY:
        return project.get("share_of_copy"), project.get("share_of_copy_minimum")
    for entry in row["implementations"]:
        if entry["name"] == against:
            return entry.get("times_fcn_ext"), entry.get("times_fcn_ext_minimum")
    return None, None

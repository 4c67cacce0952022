"""What the project promises, and whether a document of figures keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.bench import COPY
from benchmarks.cases import HEADS, MAPS
from benchmarks.visits import fastest

BEST_PEER = "best peer"
BEST_COMPILED = "best compile(...)"
ALL_BUT_847 = ("voc", "cityscapes", "ade20k")
MAPS_BUT_847 = tuple(case.name for case in MAPS if case.channels != 847)
MAPS_OF_847 = tuple(case.name for case in MAPS if case.channels == 847)

# A smaller peak cannot be told from none.
MEMORY_RESOLUTION_MIB = 0.25


@dataclass(frozen=True)
class Promise:
    """On every row that matches, ``fcn_ext`` is at least ``at_least`` times as fast as ``against``;
    or, with ``figure="memory"``, its peak memory is at most 1 / ``at_least`` of the other's.

    Empty ``cases``, ``scores`` and ``malloc`` match any. If compiled functions or memory were not
    measured, nothing is promised about them. With ``or_of``, the promise is also kept if
    ``fcn_ext`` moves its bytes at that share of the speed at which torch copies them, or writes a
    new tensor of them: memory allows no more.
    """

    operator: str
    against: str
    at_least: float
    dtype: str = "float32"
    layout: str = "nchw"
    cases: tuple[str, ...] = ()
    scores: str = ""
    device: str = "cpu"
    malloc: str = ""
    figure: Literal["time", "memory"] = "time"
    or_of: tuple[Literal["copy", "writing"], float] | None = None

    def __str__(self) -> str:
        if self.figure == "memory":
            return f"1/{self.at_least:.3g} of the memory of {self.against}"
        limit = "" if self.or_of is None else f" or {self.or_of[1]:g}x {self.or_of[0]}"
        return f"{self.at_least:g}x {self.against}{limit}"

    def concerns(self, row: dict[str, Any], device: str, malloc: str = "") -> bool:
        return (
            row["operator"] == self.operator
            and row["dtype"] == self.dtype
            and row["layout"] == self.layout
            and (not self.cases or row["case"] in self.cases)
            and self.scores in ("", row.get("scores"))
            and device == self.device
            and self.malloc in ("", malloc)
        )


LOSS = "interpolate_cross_entropy"
# The accuracy from the pass of the loss; a separate pass must not beat it.
ACCURACY = "interpolate_accuracy_cross_entropy"
# Promised against the fastest eager code.
DICE = ("interpolate_dice", "interpolate_dice_cross_entropy")
MASKS = "interpolate_sigmoid_cross_entropy"
HEAD_PEERS = {
    LOSS: "F.interpolate + F.cross_entropy",
    "upsample_cross_entropy": "grouped conv_transpose2d + F.cross_entropy",
    "interpolate_argmax": "F.interpolate + argmax",
    "interpolate_confusion_matrix": "F.interpolate + argmax + mask bincount",
}
# The gain is larger in some cases than in others: at stride 4 each node serves fewer pixels, and
# voc-s32 has little work at all. With the system's malloc the peers also pay for page faults.
MORE = ("voc-s8", "cityscapes-s8", "ade20k-s8", "ade-full-s4")
LESS = ("voc-s32", "cityscapes-s4", "ade20k-s4")
LOSS_FACTORS: dict[str, tuple[tuple[tuple[str, ...], str, int], ...]] = {
    LOSS: (
        (MORE, "keep", 20),
        (MORE, "default", 25),
        (LESS, "keep", 14),
        (LESS, "default", 22),
    ),
    "upsample_cross_entropy": (((), "keep", 14),),
}
SCORE_FACTORS = (("float32", "trained", 20), ("float32", "random", 4), ("bfloat16", "trained", 20))
CUDA_CASES = (*MORE[:3], *LESS)


# An average takes as many exponentials as a canvas, so views promise memory only.
PREDICTION_FACTORS = (
    ("predict_masks", 2, 4),
    ("predict_sizes", 20, 16),
    ("predict_windows", 1, 16),
)


def _predictions() -> Iterator[Promise]:
    for operator, times, memory in PREDICTION_FACTORS:
        yield Promise(operator, BEST_PEER, times)
        yield Promise(operator, BEST_PEER, memory, figure="memory")
    yield Promise("predict_views", BEST_PEER, 16, figure="memory")


def _heads() -> Iterator[Promise]:
    for operator, peer in HEAD_PEERS.items():
        loss = operator.endswith("_cross_entropy")
        if not loss:
            for dtype, scores, factor in SCORE_FACTORS:
                yield Promise(operator, peer, factor, dtype, scores=scores)
        kinds = ((variant.dtype, variant.layout) for variant in HEADS[operator][1])
        for dtype, layout in dict.fromkeys(kinds):
            for cases, malloc, factor in LOSS_FACTORS.get(operator, ()):
                yield Promise(operator, peer, factor, dtype, layout, cases, malloc=malloc)
            yield Promise(operator, BEST_COMPILED, 1, dtype, layout)
            yield Promise(operator, peer, 16, dtype, layout, figure="memory")
            yield Promise(operator, peer, 1 / 0.03, dtype, layout, figure="memory", device="cuda")
    yield Promise(ACCURACY, BEST_PEER, 20)
    yield Promise(ACCURACY, BEST_PEER, 16, figure="memory")
    yield Promise(ACCURACY, "fcn_ext, two passes", 1)
    for operator in (*DICE, MASKS):
        for name, factor in (("s4", 12), ("s8", 15), ("s32", 15)):
            cases = tuple(case.name for case in MAPS if case.name.endswith(f"-{name}"))
            yield Promise(operator, BEST_PEER, factor, cases=cases)
        yield Promise(operator, BEST_PEER, 16, figure="memory")
    for against, factor in ((HEAD_PEERS[LOSS], 10), (BEST_COMPILED, 6)):
        yield Promise(LOSS, against, factor, cases=CUDA_CASES, device="cuda")


PROMISES = (
    Promise("upsample", BEST_PEER, 4),
    # A copy writes half the bytes, which may stay in a cache that is too small for the result.
    Promise("upsample", COPY, 0.5, or_of=("writing", 0.9)),
    Promise("upsample_backward", BEST_PEER, 5, cases=MAPS_BUT_847),
    # 888 MB are read. On a processor with faster convolutions than memory the peer takes 4.4 times
    # the time that torch.sum takes to read them.
    Promise("upsample_backward", BEST_PEER, 5, cases=MAPS_OF_847, or_of=("copy", 0.9)),
    Promise("upsample_backward", "F.interpolate", 10),
    Promise("upsample", "F.interpolate", 15, dtype="bfloat16"),
    Promise("fuse_skip", "conv_transpose2d + crop + add", 3),
    Promise("confusion_matrix", "mask + bincount", 8, dtype="int64", cases=ALL_BUT_847),
    Promise("confusion_matrix", "mask + bincount", 3, dtype="int64", cases=("ade-full",)),
    Promise("upsample", COPY, 0.8, device="cuda"),
    Promise("upsample_backward", COPY, 0.8, device="cuda"),
    Promise("fuse_skip", COPY, 0.8, device="cuda"),
    Promise("confusion_matrix", "mask + bincount", 10, dtype="int64", device="cuda"),
    *_heads(),
    *_predictions(),
)


def check(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per promise and matching row; ``kept`` is decided by the medians."""
    device, malloc = document["environment"]["device"], document["settings"]["malloc"]
    found = []
    for row in document["rows"]:
        project = next(e for e in row["implementations"] if e["name"] == "fcn_ext")
        for promise in PROMISES:
            if not promise.concerns(row, device, malloc) or _not_measured(promise, row, project):
                continue
            name = _against(promise, row)
            ratio, minimum, visits = _ratios(promise, row, project, name)
            found.append(
                {
                    "row": row["name"],
                    "promise": str(promise),
                    "against": name,
                    "at_least": promise.at_least,
                    "ratio": ratio,
                    "ratio_minimum": minimum,
                    "ratio_visits": visits,
                    "kept": ratio is not None
                    and (ratio >= promise.at_least or _at_the_limit(promise, project)),
                }
            )
    return found


def _at_the_limit(promise: Promise, project: dict[str, Any]) -> bool:
    if promise.or_of is None:
        return False
    bound, share = promise.or_of
    return bool(project.get(f"share_of_{bound}", 0) >= share)


def _compiled(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in row["implementations"] if entry["name"].startswith("compile(")]


def _not_measured(promise: Promise, row: dict[str, Any], project: dict[str, Any]) -> bool:
    if promise.figure == "memory":
        return project.get("peak_mib") is None
    return promise.against == BEST_COMPILED and not _compiled(row)


def _against(promise: Promise, row: dict[str, Any]) -> str | None:
    if promise.against == BEST_PEER:
        best: str | None = row["best_peer"]
        return best
    if promise.against == BEST_COMPILED:
        return fastest(_compiled(row))
    return promise.against


def _ratios(
    promise: Promise, row: dict[str, Any], project: dict[str, Any], against: str | None
) -> tuple[float | None, float | None, list[float]]:
    """The ratio of medians, that of minima, and each visit's if there were several."""
    if against == COPY:
        return _of(project, "share_of_copy")
    for entry in row["implementations"]:
        if entry["name"] == against:
            if promise.figure == "memory":
                peak = entry.get("peak_mib")
                least = max(project["peak_mib"], MEMORY_RESOLUTION_MIB)
                return (None if peak is None else peak / least), None, []
            return _of(entry, "times_fcn_ext")
    return None, None, []


def _of(entry: dict[str, Any], figure: str) -> tuple[float | None, float | None, list[float]]:
    return entry.get(figure), entry.get(f"{figure}_minimum"), entry.get(f"{figure}_visits", [])

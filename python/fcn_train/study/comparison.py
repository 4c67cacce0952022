"""Studies that only compare trained variants: their table and curves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.json_text import parse_json
from fcn_train.options import TrainOptions
from fcn_train.run_folder import RunFolder
from fcn_train.study.findings import Findings
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.pictures import Line, draw_lines
from fcn_train.study.variants import Trained, Variant, base_options, train_all

CURVES = ("variant", "seed", "step", "seconds", "loss", "mean IU", "pixel accuracy")


def comparison(
    title: str, paper: str, variants: Callable[[TrainOptions], list[Variant]]
) -> Callable[[TrainStudyOptions, Path, Console], Findings]:
    """A study of the ``variants`` of options: what trains all, draws their curves, and tells how
    they score. ``paper`` is what the paper found.

    It raises UsageError, DataError and TrainingError as :func:`fcn_train.train.train` does, and
    where the folder holds runs of other options.
    """

    def run(options: TrainStudyOptions, folder: Path, console: Console) -> Findings:
        base = base_options(options)
        compared = variants(base)
        trained = train_all(compared, options, folder, console)
        name = f"{title}: {base.model.name} on {base.data.kind}, seeds: {options.seeds}"
        draw_curves(folder / "picture.png", name, trained)
        return Findings(
            title=name,
            paper=paper,
            header=(
                *("variant", "mean IU (%)", "range", "pixel accuracy (%)"),
                *("steps", "images", "s per step", "seconds", "paper"),
            ),
            rows=[summary(variant, trained) for variant in compared],
            facts={**study_facts(options), "environment": environment(trained)},
            more={"curves": (CURVES, [row for one in trained for row in curve_rows(one)])},
        )

    return run


def draw_curves(path: Path, title: str, trained: Sequence[Trained]) -> None:
    """Losses and scores, by step and by time, means over the seeds."""
    draw_lines(
        path,
        title,
        {
            ("step", "training loss"): _mean_lines(trained, "losses", by_time=False),
            ("seconds", "training loss"): _mean_lines(trained, "losses", by_time=True),
            ("step", "mean IU (%)"): _mean_lines(trained, "scores", by_time=False),
            ("seconds", "mean IU (%)"): _mean_lines(trained, "scores", by_time=True),
        },
    )


def study_facts(options: TrainStudyOptions) -> dict[str, Any]:
    """The size of a study."""
    return {
        "seeds": [options.seed + number for number in range(options.seeds)],
        "options": to_dict(base_options(options)),
    }


def environment(trained: Sequence[Trained]) -> Any:
    """Where the first of the runs ran."""
    return parse_json(RunFolder(trained[0].run).environment.read_text("utf-8"))


def summary(variant: Variant, trained: Sequence[Trained]) -> list[Any]:
    """The row of a variant: means over the seeds, and how far their mean IUs are apart."""
    own = [one for one in trained if one.variant is variant]
    ious = [100 * one.scores[-1][1] for one in own]
    return [
        variant.name,
        statistics.fmean(ious),
        max(ious) - min(ious),
        statistics.fmean(100 * one.scores[-1][2] for one in own),
        sum(own[0].steps),
        own[0].images,
        statistics.fmean(one.seconds_at(sum(one.steps)) / sum(one.steps) for one in own),
        statistics.fmean(one.seconds_at(sum(one.steps)) for one in own),
        variant.paper,
    ]


def curve_rows(one: Trained) -> list[list[Any]]:
    """Rows of ``curves.csv``: losses and scores, by their steps."""
    points: dict[int, list[float | None]] = {}
    for step, loss in one.losses:
        points[step] = [loss, None, None]
    for step, iou, accuracy in one.scores:
        points.setdefault(step, [None, None, None])[1:] = [iou, accuracy]
    return [
        [one.variant.name, one.seed, step, one.seconds_at(step), *values]
        for step, values in sorted(points.items())
    ]


def _mean_lines(trained: Sequence[Trained], which: str, *, by_time: bool) -> Mapping[str, Line]:
    """A line for each variant: means over the seeds at each step, which all seeds have."""
    lines: dict[str, Line] = {}
    for name in dict.fromkeys(one.variant.name for one in trained):
        own = [one for one in trained if one.variant.name == name]
        line = []
        for points in zip(*(getattr(one, which) for one in own), strict=True):
            step = points[0][0]
            x = statistics.fmean(one.seconds_at(step) for one in own) if by_time else step
            y = statistics.fmean(point[1] for point in points)
            line.append((x, 100 * y if which == "scores" else y))
        lines[name] = line
    return lines

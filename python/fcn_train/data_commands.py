"""`fcn data sample`, `fcn data check` and `fcn data stats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fcn_train.console import Advance, Console
from fcn_train.data import (
    DatasetStatistics,
    SegmentationDataset,
    check_dataset,
    dataset_statistics,
    open_dataset,
    write_sample_dataset,
)
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.options import CheckOptions, SampleOptions, StatsOptions
from fcn_train.report import to_json
from fcn_train.run import reader_options


def write_sample(options: SampleOptions, console: Console) -> None:
    try:
        root = write_sample_dataset(
            options.root,
            seed=options.seed,
            train=options.train,
            val=options.val,
            size=options.size,
        )
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    console.line(f"{root}: {options.train} train and {options.val} val images")


def check_data(options: CheckOptions, console: Console) -> int:
    """Print every problem of every split; returns their number."""
    found: dict[str, None] = {}
    for split in options.split:
        dataset = open_dataset(options.kind, options.root, split, strict=False, **_extra(options))
        with console.progress(f"checking {split}", len(dataset)) as advance:
            problems = check_dataset(dataset, _stepwise(advance))
        for problem in problems:
            if str(problem) not in found:
                console.line(str(problem))
                found[str(problem)] = None
        name = f"{dataset.name}, {split or 'all'}"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        console.line(f"{name}: {len(dataset)} pairs, {count}")
    return len(found)


def show_statistics(options: StatsOptions, console: Console) -> DatasetStatistics:
    """Print the counts of a split, and write them as JSON where asked to."""
    dataset: SegmentationDataset = open_dataset(
        options.kind, options.root, options.split, **_extra(options)
    )
    with console.progress("counting", len(dataset)) as advance:
        statistics = dataset_statistics(dataset, _stepwise(advance))
    values = statistics.as_dict()
    sizes = ", ".join(f"{s['images']} of {s['width']} x {s['height']}" for s in values["sizes"][:5])
    more = len(values["sizes"]) - 5
    console.line(
        f"{dataset.name}, {options.split or 'all'}: {statistics.num_images} images: {sizes}"
        + (f" and {more} more sizes" if more > 0 else "")
    )
    console.line(f"void: {100 * statistics.void_share:.2f} % of the pixels")
    console.line(
        "RGB mean "
        + ", ".join(f"{v:.2f}" for v in values["mean"])
        + "; deviation "
        + ", ".join(f"{v:.2f}" for v in values["std"])
    )
    width = max(len(name) for name in dataset.class_names)
    console.line(f"{'class':<{width}}  {'images':>7}  {'pixels':>12}  {'weight':>8}")
    for row in values["classes"]:
        console.line(
            f"{row['name']:<{width}}  {row['images']:>7,}  {row['pixels']:>12,}  "
            f"{row['weight']:>8.3f}"
        )
    if options.output is not None:
        write_text(options.output, to_json(values))
    return statistics


def _extra(options: CheckOptions | StatsOptions) -> dict[str, Any]:
    return reader_options(options.kind, options.label_folder, "--")


def _stepwise(advance: Advance) -> Callable[[int, int], None]:
    return lambda done, total: advance()

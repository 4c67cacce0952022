"""`fcn data sample`, `fcn data check` and `fcn data stats`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fcn_train.console import Advance, Console
from fcn_train.data import (
    IGNORE_INDEX,
    DataError,
    DatasetStatistics,
    Problem,
    SegmentationDataset,
    absent_classes,
    check_dataset,
    dataset_statistics,
    too_few_classes,
    write_sample_dataset,
)
from fcn_train.data.opening import compare_palettes, open_split
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.options import CheckOptions, SampleOptions, StatsOptions
from fcn_train.report import to_json


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
    """Print the problems of every split, the first few of each sort; returns their number."""
    if options.limit < 0:
        raise UsageError(f"--limit must be >= 0, got {options.limit}")
    found: dict[str, None] = {}
    first: SegmentationDataset | None = None
    for split in options.split:
        with _told_by_own_options():
            dataset = open_split(options, split, strict=False, prefix="--")
        first = dataset if first is None else first
        compare_palettes(first, dataset)
        counts = np.zeros(256, dtype=np.int64)
        with console.progress(f"checking {split}", len(dataset)) as advance:
            problems = check_dataset(dataset, _stepwise(advance), counts)
        new = [problem for problem in problems if str(problem) not in found]
        found |= dict.fromkeys(map(str, new))
        for line in _listing(new, options.limit):
            console.line(line)
        name = f"{dataset.name}, {split or 'all'}"
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        console.line(f"{name}: {len(dataset)} pairs, {number}{_summary(problems)}")
        lack = absent_classes(dataset, counts[: dataset.num_classes])
        if lack and counts.any() and not too_few_classes(dataset, counts):
            console.warn(f"{name}: {lack}")
    return len(found)


def show_statistics(options: StatsOptions, console: Console) -> DatasetStatistics:
    """Print the counts of a split, and write them as JSON where asked to."""
    with _told_by_own_options():
        dataset = open_split(options, options.split, prefix="--")
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
    counts = np.zeros(256, dtype=np.int64)
    counts[: dataset.num_classes] = statistics.pixels
    counts[IGNORE_INDEX] = statistics.void_pixels
    if problem := too_few_classes(dataset, counts):
        console.warn(_own_options(str(problem)))
    elif lack := absent_classes(dataset, statistics.pixels):
        console.warn(f"{dataset.source}: {lack}")
    if options.output is not None:
        write_text(options.output, to_json(values))
    return statistics


def _listing(problems: Sequence[Problem], limit: int) -> Iterator[str]:
    """A line per problem, and one for all that are left out of a sort of problems."""
    sorts = Counter(problem.kind for problem in problems)
    shown: Counter[str] = Counter()
    for problem in problems:
        shown[problem.kind] += 1
        if not problem.kind or not limit or shown[problem.kind] <= limit:
            yield _own_options(str(problem))
        elif shown[problem.kind] == sorts[problem.kind]:
            more = sorts[problem.kind] - limit
            yield f"... and {more} more of this sort ({problem.kind}); --limit 0 shows them all"


def _summary(problems: Sequence[Problem]) -> str:
    """How many there are of each sort, where there are more than a few."""
    sorts = Counter(problem.kind or "other" for problem in problems)
    if len(problems) < 4:
        return ""
    return ": " + ", ".join(f"{count} x {kind}" for kind, count in sorts.most_common())


@contextlib.contextmanager
def _told_by_own_options() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise UsageError(_own_options(str(error))) from error


def _own_options(text: str) -> str:
    """The options of `fcn data` in place of those of `fcn train` that messages name."""
    return text.replace("--data.", "--")


def _stepwise(advance: Advance) -> Callable[[int, int], None]:
    return lambda done, total: advance()

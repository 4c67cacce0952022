"""`fcn compare`: read the runs, show what differs."""

from __future__ import annotations

from collections.abc import Sequence

from fcn_train.classes import Classes
from fcn_train.compare.images import Difference, largest_differences, validation_sets
from fcn_train.compare.options import CompareOptions
from fcn_train.compare.page import comparison_page
from fcn_train.compare.records import Record, differing_options, read_records
from fcn_train.compare.tables import class_rows, score_rows
from fcn_train.console import Console
from fcn_train.data import DataError, fingerprint
from fcn_train.errors import UsageError
from fcn_train.files import check_file, make_folder, write_text
from fcn_train.path_options import refuse_other_ending
from fcn_train.run import load_run
from fcn_train.run_folder import refuse_file_of_run
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.shown import shown
from fcn_train.tables import text_table

MOST_IMAGES = 100

Groups = list[tuple[Classes, list[Difference]]]


def compare(options: CompareOptions, console: Console | None = None) -> None:
    """Print tables of the runs, and write a page with their curves and predictions.

    Raises:
        UsageError: there are fewer than two runs, one is none, or an option is out of range.
    """
    console = console or Console()
    if not 0 <= options.images <= MOST_IMAGES:
        raise UsageError(f"--images must be in [0, {MOST_IMAGES}], got {options.images}")
    refuse_file_of_run(options.output, "--output")
    refuse_other_ending(options.output, ".html", "--output")
    check_file(options.output)
    # Also what takes no part without images: a mistake is one all the same.
    runtime = open_runtime(options.device, options.threads, "none", console.warn)
    records = read_records(options.runs)
    said = differences_in_kind(records)
    group = comparable(records) if options.images else []
    groups: Groups = []
    if len(group) > 1:
        try:
            groups = _differences(options, group, runtime, console)
        except (UsageError, DataError) as error:
            said.append(f"no images are compared: {error}")
    elif options.images:
        said.append("no images are compared: that takes two runs of the same classes and images")
    if len(groups) and len(group) < len(records):
        said.append(f"the images are of {' and '.join(record.name for record in group)} alone")
    for line in said:
        console.warn(shown(line))
    _print(records, console)
    make_folder(options.output.parent)
    names = [record.name for record in group]
    page = comparison_page(records, said, groups, names, options.weights)
    write_text(options.output, page)
    console.line(f"{options.output}: written")


def differences_in_kind(records: Sequence[Record]) -> list[str]:
    """A line for each run whose scores cannot be compared with those of the first."""
    first, *others = records
    said = []
    for record in others:
        if record.class_names != first.class_names:
            counts = [
                " and ".join(str(len(names)) for names in one.class_names)
                for one in (record, first)
            ]
            said.append(
                f"{record.name} has other classes ({counts[0]}) than {first.name} ({counts[1]}): "
                "its classes are set beside those of the same names, and its means are not over "
                "the same classes"
            )
        elif not first.images or record.images != first.images:
            said.append(
                f"{record.name} is scored on other images, or labels of another meaning, than "
                f"{first.name}: their scores say little of each other"
            )
    return said


def comparable(records: Sequence[Record]) -> list[Record]:
    """The largest group of runs of the same classes that are scored on the same images."""
    groups: list[list[Record]] = []
    for record in records:
        for group in groups:
            alike = record.class_names == group[0].class_names
            if alike and record.images and record.images == group[0].images:
                group.append(record)
                break
        else:
            groups.append([record])
    return max(groups, key=len)


def _differences(
    options: CompareOptions, group: Sequence[Record], runtime: Runtime, console: Console
) -> Groups:
    runs = [load_run(record.path, options.weights) for record in group]
    datasets = validation_sets(runs)
    for record, dataset in zip(group, datasets, strict=True):
        if fingerprint(dataset) != record.images:
            raise UsageError(f"{dataset.source}: has changed since {record.path} was scored on it")
    with console.progress("comparing", len(datasets[0]), images=1) as advance:
        found = largest_differences(runs, datasets, runtime, options.images, advance)
    return list(zip(runs[0].label_sets, found, strict=True))


def _print(records: Sequence[Record], console: Console) -> None:
    names = [shown(record.name) for record in records]
    for label_set, (header, rows) in score_rows(records).items():
        cells = [tuple(map(shown, row)) for row in rows]
        console.line(_titled("scores", label_set, text_table(header, cells)))
    for label_set, rows in class_rows(records).items():
        cells = [tuple(map(shown, row)) for row in rows]
        console.line(_titled("IU of each class", label_set, text_table(("class", *names), cells)))
    differing = differing_options(records)
    if differing:
        cells = [(name, *(shown(str(value)) for value in values)) for name, values in differing]
        table = text_table(("option", *names), cells)
        console.line(_titled("options that differ", "", table))


def _titled(title: str, label_set: str, table: str) -> str:
    of_set = f", {shown(label_set)}" if label_set else ""
    return f"\n{title}{of_set}\n{table}"

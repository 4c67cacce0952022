"""`fcn data sample`, `fcn data check`, `fcn data stats` and `fcn data hha`."""

from __future__ import annotations

import contextlib
import itertools
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_train.console import Advance, Console
from fcn_train.data import (
    IGNORE_INDEX,
    DataError,
    DatasetStatistics,
    SegmentationDataset,
    absent_classes,
    dataset_statistics,
    too_few_classes,
    write_sample_dataset,
)
from fcn_train.data.check import problems_of_files
from fcn_train.data.depth import HHA_MEAN, LOG_DEPTH_MEAN, read_depth
from fcn_train.data.hha import NYUD_CAMERA, Camera, check_camera, hha_from_depth
from fcn_train.data.images import image_files
from fcn_train.data.opening import SAMPLE_ROOT, compare_palettes, open_split
from fcn_train.data.overlap import overlap_warning
from fcn_train.data.sample_layouts import LAYOUTS
from fcn_train.data_options import (
    CheckOptions,
    HhaOptions,
    SampleOptions,
    StatsOptions,
    default_splits,
)
from fcn_train.errors import UsageError
from fcn_train.files import atomic_path, check_file, check_folder, make_folder, write_text
from fcn_train.path_options import refuse_other_ending
from fcn_train.problem_listing import ProblemListing
from fcn_train.real_paths import real_path
from fcn_train.report import to_json
from fcn_train.run_folder import refuse_file_of_run, refuse_folder_of_run
from fcn_train.tables import text_table
from fcn_train.words import counted

_NYUD_SIZE = (480, 640)


def write_sample(options: SampleOptions, console: Console) -> None:
    try:
        name = "data" if options.layout == "voc" else options.layout
        with console.progress("writing", options.train + options.val, images=1) as advance:
            root = write_sample_dataset(
                options.root or SAMPLE_ROOT.with_name(f"sample-{name}"),
                layout=options.layout,
                seed=options.seed,
                train=options.train,
                val=options.val,
                size=options.size,
                advance=advance,
            )
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    told = (
        f"{root}: {counted(options.train, 'train image')} and {counted(options.val, 'val image')}"
    )
    if options.layout != "voc":
        kind = LAYOUTS[options.layout].kind
        told += f"; fcn train --data.kind {kind} --data.root {shlex.quote(str(root))}"
    console.line(told)


def check_data(options: CheckOptions, console: Console) -> int:
    """Print the problems of every split, the first few of each kind; returns their number, counting
    those that several splits share once."""
    if options.limit < 0:
        raise UsageError(f"--limit must be >= 0, got {options.limit}")
    total = 0
    listing = ProblemListing(lambda text: console.line(_own_options(text)), options.limit)
    first: SegmentationDataset | None = None
    opened: list[SegmentationDataset] = []
    for split in dict.fromkeys(options.split or default_splits(options.kind)):
        with _told_by_own_options():
            dataset = open_split(options, split, strict=False, prefix="--")
        first = dataset if first is None else first
        opened.append(dataset)
        compare_palettes(first, dataset)
        counts = np.zeros((len(dataset.label_sets), 256), dtype=np.int64)
        with console.progress(f"checking {split}", len(dataset), images=1) as advance:
            listing.add_all(dataset.problems)
            for problem in problems_of_files(dataset, _stepwise(advance), counts):
                listing.add(problem)
        name = f"{dataset.name}, {split or 'all'}"
        new, words = listing.end_split()
        total += new
        console.line(f"{name}: {counted(len(dataset), 'pair')}, {words}")
        for which, labels in enumerate(dataset.label_sets):
            alone, pixels = dataset.only(which), counts[which]
            lack = absent_classes(alone, pixels[: labels.num_classes])
            if lack and pixels.any() and not too_few_classes(alone, pixels):
                console.warn(f"{name}{', ' * bool(labels.name)}{labels.name}: {lack}")
    for one, other in itertools.combinations(opened, 2):
        # Two splits are for training and scoring; of more, some may consist of others.
        if shared := overlap_warning(one, other, nested=len(opened) == 2):
            console.warn(shared)
    return total


def show_statistics(options: StatsOptions, console: Console) -> DatasetStatistics:
    """Print the counts of a split for each set of classes, and write them as JSON if asked to;
    returns those of the first set."""
    split = default_splits(options.kind)[0] if options.split is None else options.split
    if options.output is not None:
        refuse_file_of_run(options.output, "--output")
        refuse_other_ending(options.output, ".json", "--output")
        check_file(options.output)
    with _told_by_own_options():
        dataset = open_split(options, split, prefix="--")
        counted = []
        for which in range(len(dataset.label_sets)):
            with console.progress("counting", len(dataset), images=1) as advance:
                counted.append(dataset_statistics(dataset.only(which), _stepwise(advance)))
    for which, statistics in enumerate(counted):
        _show(dataset.only(which), split, statistics, console)
    values = counted[0].as_dict()
    if len(counted) > 1:
        names = [labels.name for labels in dataset.label_sets]
        values = {n: s.as_dict() for n, s in zip(names, counted, strict=True)}
    if options.output is not None:
        make_folder(options.output.parent)
        write_text(options.output, to_json(values))
    return counted[0]


def _show(
    dataset: SegmentationDataset, split: str, statistics: DatasetStatistics, console: Console
) -> None:
    values = statistics.as_dict()
    name = ", ".join(filter(None, (dataset.name, split or "all", dataset.label_sets[0].name)))
    sizes = ", ".join(f"{s['images']} of {s['width']} x {s['height']}" for s in values["sizes"][:5])
    more = len(values["sizes"]) - 5
    console.line(
        f"{name}: {counted(statistics.num_images, 'image')}: {sizes}"
        + (f" and {counted(more, 'more size')}" if more > 0 else "")
    )
    console.line(f"void: {100 * statistics.void_share:.2f} % of the pixels")
    console.line(
        "RGB mean "
        + ", ".join(f"{v:.2f}" for v in values["mean"])
        + "; deviation "
        + ", ".join(f"{v:.2f}" for v in values["std"])
    )
    if "missing" in statistics.depth:
        missing, mean = statistics.depth["missing"], statistics.depth["log_mean"]
        console.line(
            f"depth: missing in {100 * missing:.2f} % of the pixels, mean logarithm of its "
            f"millimeters {mean:.3f} (networks see it minus {LOG_DEPTH_MEAN})"
        )
    if "hha_mean" in statistics.depth:
        means = ", ".join(f"{value:.2f}" for value in statistics.depth["hha_mean"])
        taken = ", ".join(f"{value:.2f}" for value in HHA_MEAN)
        console.line(f"HHA mean {means} (networks see it minus {taken})")
    rows = [
        (row["name"], f"{row['images']:,}", f"{row['pixels']:,}", f"{row['weight']:.3f}")
        for row in values["classes"]
    ]
    console.line(text_table(("class", "images", "pixels", "weight"), rows))
    counts = np.zeros(256, dtype=np.int64)
    counts[: dataset.num_classes] = statistics.pixels
    counts[IGNORE_INDEX] = statistics.void_pixels
    if problem := too_few_classes(dataset, counts):
        console.warn(_own_options(str(problem)))
    elif lack := absent_classes(dataset, statistics.pixels):
        console.warn(f"{dataset.source}: {lack}")


def write_hha(options: HhaOptions, console: Console) -> None:
    """`fcn data hha`: an HHA image for every depth image below a folder."""
    refuse_folder_of_run(options.output, "--output")
    check_folder(options.output)
    if not options.depth.is_dir():
        raise UsageError(f"{options.depth}: folder is missing; give that of the depth images")
    files = list(image_files(options.depth, outside=options.output))
    if not files:
        raise UsageError(f"{options.depth}: holds no image file; give the folder of depth images")
    if options.camera is not None:
        try:
            check_camera(Camera(*options.camera))
        except ValueError as error:
            raise UsageError(f"--camera: {error}") from None
    targets = _hha_targets(files, options)
    with console.progress("computing", len(files), images=1) as advance:
        for file, target in targets.items():
            depth = read_depth(file)
            if options.camera is None and depth.shape != _NYUD_SIZE:
                height, width = depth.shape
                raise UsageError(
                    f"{file}: is {width} x {height} pixels, not 640 x 480 as NYUDv2's; say what "
                    "took it: --camera FX FY CX CY"
                )
            camera = NYUD_CAMERA if options.camera is None else Camera(*options.camera)
            make_folder(target.parent)
            with atomic_path(target) as temporary:
                picture = Image.fromarray(hha_from_depth(depth, camera))
                picture.save(temporary, format="PNG")
            advance(1, file.name)
    console.line(f"{options.output}: {counted(len(files), 'HHA image')}")


def _hha_targets(files: Sequence[Path], options: HhaOptions) -> dict[Path, Path]:
    """The path of the HHA image of each file.

    Raises:
        UsageError: it would replace that of another file, or a depth image.
    """
    sources = {real_path(file) for file in files}
    taken: dict[Path, Path] = {}
    for file in files:
        target = options.output / file.relative_to(options.depth).with_suffix(".png")
        if real_path(target) in sources:
            raise UsageError(f"{target}: is a depth image; give another folder as --output")
        other = taken.setdefault(target, file)
        if other != file:
            raise UsageError(
                f"{file}: its HHA image would replace that of {other} ({target}); rename one"
            )
    return {file: target for target, file in taken.items()}


@contextlib.contextmanager
def _told_by_own_options() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise UsageError(_own_options(str(error))) from error


def _own_options(text: str) -> str:
    """Replace the options of `fcn train` that messages name by those of `fcn data`."""
    return text.replace("--data.", "--")


def _stepwise(advance: Advance) -> Callable[[int, int], None]:
    return lambda done, total: advance()

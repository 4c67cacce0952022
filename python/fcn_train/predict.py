"""`fcn predict`: an index PNG and an overlay for image files of any size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_train.classes import Classes
from fcn_train.config import of_types
from fcn_train.console import Console
from fcn_train.data import DataError, Example, overlay, read_depth, read_hha, read_image
from fcn_train.data.images import IMAGE_SUFFIXES, image_files
from fcn_train.data.problems import Problem, other_size
from fcn_train.errors import UsageError
from fcn_train.export.onnx_reading import open_onnx
from fcn_train.failures import explain, is_out_of_memory
from fcn_train.files import (
    MOST_NAME_BYTES,
    atomic_path,
    check_folder,
    make_folder,
    remove_leftovers,
)
from fcn_train.finite import NotFiniteError
from fcn_train.options import PredictOptions
from fcn_train.real_paths import real_path
from fcn_train.run import load_run
from fcn_train.run_argument import is_run, run_and_rest
from fcn_train.run_folder import refuse_folder_of_run
from fcn_train.runtime import open_runtime
from fcn_train.segmenter import OnnxSegmenter, RunSegmenter, Segmenter
from fcn_train.views import Views
from fcn_train.words import counted


def predict(options: PredictOptions, console: Console | None = None) -> int:
    """Write ``<stem>.png`` (palette PNG of class indices) and ``<stem>-overlay.png`` for each file.

    Photographs are first rotated as their EXIF tag says. Images below a folder keep their relative
    path under ``--output``. With several sets of labels, each is written into a folder of its name
    there; with ``--label-set``, that one goes right there. Returns how many files could not be
    read, need more memory than is available or have no finite scores; they are named on the
    console. With ``--strict``, the first raises DataError instead.
    """
    console = console or Console()
    options = of_types(options, PredictOptions)
    refuse_folder_of_run(options.output, "--output")
    if not 0 <= options.opacity <= 1:
        raise UsageError(f"--opacity must be in [0, 1], got {options.opacity}")
    views = Views(options.tile, options.overlap, options.tta, options.tile_weights)
    views.check()
    check_folder(options.output)
    segmenter, images = open_segmenter(options, views, console)
    channels = segmenter.channels
    for role, folder in (("depth", options.depth), ("hha", options.hha)):
        if (role in channels) != (folder is not None):
            need = "needs" if role in channels else "has no use for"
            raise UsageError(f"{segmenter.path}: sees {channels}, which {need} --{role}")
    sets = chosen_sets(segmenter, options.label_set)
    below = [name for name, _ in sets.values()]
    jobs = find_images(images, options.output, below)
    for folder in {options.output / name / place.parent for _, place in jobs for name in below}:
        remove_leftovers(folder)
    failed = 0
    with console.progress("predicting", len(jobs), images=1) as advance:
        for source, place in jobs:
            try:
                check_names(source, place)
                seen = _read(source, place, options)
                maps = _segmented(segmenter, seen, source)
            except DataError as error:
                if options.strict:
                    raise
                failed += 1
                console.warn(str(error))
            else:
                for which, (name, classes) in sets.items():
                    target = options.output / name / place
                    make_folder(target.parent)
                    mixed = overlay(seen.image, maps[which], classes.palette, options.opacity)
                    _save(indexed(maps[which], classes.palette), target)
                    _save(Image.fromarray(mixed), overlay_path(target))
            advance(1, source.name)
    console.line(
        f"{options.output}: {len(jobs) - failed} of {counted(len(jobs), 'image')} segmented"
    )
    return failed


def open_segmenter(
    options: PredictOptions, views: Views, console: Console
) -> tuple[Segmenter, tuple[Path, ...]]:
    """The run or the exported file, and the images, that ``options`` name.

    Raises:
        UsageError: they name neither or both, or an option that does not apply to it.
    """
    if options.model is None:
        run, images = run_and_rest("predict", options.images, options.run)
        if run.exists() and not is_run(run):
            raise UsageError(
                f"{run}: is no run of fcn train; give a run folder, or an exported file with "
                "--model"
            )
        runtime = open_runtime(options.device, options.threads, options.amp, console.warn)
        return RunSegmenter(load_run(run, options.weights), runtime, views), images
    if options.run is not None or any(map(is_run, options.images)):
        raise UsageError("give a run folder or an exported file with --model, not both")
    if is_run(options.model):
        raise UsageError(
            f"--model must be an exported file, got {options.model}, a run folder; leave --model "
            "out and give the folder before the images"
        )
    for name, value, default, why in (
        ("--weights", options.weights, "last", "whose weights are in the file"),
        ("--amp", options.amp, "none", "whose file says what is computed"),
    ):
        if value != default:
            raise UsageError(f"{name} has no meaning for --model, {why}; leave it out")
    file = open_onnx(options.model, options.device, options.threads, console.warn)
    return OnnxSegmenter(file, views), options.images


def _read(source: Path, place: Path, options: PredictOptions) -> Example:
    """An image with its depth and HHA from their folders, and an empty label.

    Raises:
        DataError: a file is missing, cannot be decoded or has another size.
    """
    image = read_image(source, upright=True)
    depth = None if options.depth is None else read_depth(options.depth / place)
    hha = None if options.hha is None else read_hha(options.hha / place)
    for role, folder, values in (
        ("depth image", options.depth, depth),
        ("HHA image", options.hha, hha),
    ):
        if folder is not None and values is not None and values.shape[:2] != image.shape[:2]:
            raise DataError(other_size(role, folder / place, values.shape, source, image.shape))
    return Example(image, np.zeros(image.shape[:2], dtype=np.uint8), (), depth, hha)


def _segmented(segmenter: Segmenter, seen: Example, source: Path) -> list[np.ndarray]:
    """The labels of each set. Raises DataError if the image needs more memory than is available, or
    its scores are not finite."""
    try:
        return segmenter(seen)
    except NotFiniteError as error:
        message = f"{segmenter.path} gives scores of it that are not finite, so it has no labels"
        raise DataError(Problem(source, message, "scores that are not finite")) from error
    except Exception as error:
        failure = explain(error, "predict") if is_out_of_memory(error) else None
        if failure is None:
            raise
        kind = "image too large for memory"
        raise DataError(Problem(source, failure.text, kind)) from error


def chosen_sets(run: Segmenter, name: str) -> dict[int, tuple[str, Classes]]:
    """The sets of labels to write, by their number: the folder below the output, and the classes.

    Raises:
        UsageError: the run has no set called ``name``.
    """
    sets = run.label_sets
    names = [classes.label_set for classes in sets] if len(sets) > 1 else []
    if not name:
        return dict(enumerate(zip(names or [""], sets, strict=True)))
    if not names:
        raise UsageError(f"--label-set has no meaning for {run.path}, which learned one set")
    if name not in names:
        raise UsageError(
            f"--label-set must be one that {run.path} learned, {' or '.join(names)}, got {name!r}"
        )
    which = names.index(name)
    return {which: ("", sets[which])}


def overlay_path(target: Path) -> Path:
    """The path of the overlay for the index PNG ``target``."""
    return target.with_name(f"{target.stem}-overlay.png")


def check_names(source: Path, place: Path) -> None:
    """Raises DataError if the longest name of an image's results is too long for a file."""
    length = len(os.fsencode(overlay_path(place).name))
    if length > MOST_NAME_BYTES:
        message = (
            f"the name of its overlay would have {length} bytes, more than {MOST_NAME_BYTES}; "
            "rename it"
        )
        raise DataError(Problem(source, message, "name too long"))


def find_images(
    sources: Sequence[Path], output: Path, folders: Sequence[str] = ("",)
) -> list[tuple[Path, Path]]:
    """The files of ``sources``, those in folders at any depth included, each with the path of its
    index PNG in each of ``folders`` below ``output``.

    Hidden files below a folder are left out, and so are the results themselves.

    Raises UsageError for a source that is missing, a folder without images, or a result that would
    replace an image or another result.
    """
    jobs: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}  # every result, and its image
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source}: is missing; give image files or folders")
        if source.is_dir():
            if real_path(source) == real_path(output):
                raise UsageError(f"{source}: holds the images; give another folder as --output")
            found = list(image_files(source, outside=output))
            if not found:
                raise UsageError(f"{source}: holds no image file ({', '.join(IMAGE_SUFFIXES)})")
            places = [path.relative_to(source) for path in found]
        else:
            found, places = [source], [Path(source.name)]
        for path, place in zip(found, places, strict=True):
            place = place.with_suffix(".png")
            if place in jobs and real_path(path) == real_path(jobs[place]):
                continue  # given twice, by two paths
            targets = [output / folder / place for folder in folders]
            for result in (*targets, *map(overlay_path, targets)):
                if taken.setdefault(result, path) != path:
                    raise UsageError(
                        f"{path}: its result would replace that of {taken[result]} ({result}); "
                        "predict them into two --output folders"
                    )
            jobs[place] = path
    if not jobs:
        raise UsageError("give at least one image file or folder")
    written = {real_path(result) for result in taken}
    for path in jobs.values():
        if real_path(path) in written:
            raise UsageError(f"{path}: would be overwritten; give another --output")
    return [(path, place) for place, path in jobs.items()]


def indexed(labels: np.ndarray, palette: np.ndarray) -> Image.Image:
    """Labels (H, W) uint8 as a picture whose pixels are the classes, with their colors."""
    picture = Image.fromarray(labels)
    picture.putpalette(palette.tobytes())
    return picture


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")

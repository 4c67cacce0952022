"""Index PNG and overlay for image files of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcn_ext.models import FCN, MultiHeadFCN
from fcn_train.classes import Classes
from fcn_train.console import Console
from fcn_train.data import (
    DataError,
    Example,
    input_to_tensor,
    overlay,
    read_depth,
    read_image,
)
from fcn_train.data.images import IMAGE_SUFFIXES, image_files
from fcn_train.data.problems import other_size
from fcn_train.errors import UsageError
from fcn_train.files import atomic_path, make_folder, remove_leftovers
from fcn_train.heads import Net, by_head, in_order
from fcn_train.network import normalization_of
from fcn_train.options import PredictOptions
from fcn_train.run import TrainedRun, load_run
from fcn_train.run_argument import run_and_rest
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.views import Views

AT_ONCE = Views()


def predict(options: PredictOptions, console: Console | None = None) -> int:
    """Write ``<stem>.png`` (palette PNG of class indices) and ``<stem>-overlay.png`` for each file.

    Photographs that say by EXIF how they are to be turned are turned first. Images below a folder
    keep their place under ``--output``. A run of several sets of labels writes those of each into
    a folder of its name there; with ``--label-set``, those of one right there. Returns how many
    files could not be read; they are named on the console. With ``--strict`` the first raises
    DataError instead.
    """
    console = console or Console()
    if not 0 <= options.opacity <= 1:
        raise UsageError(f"--opacity must be in [0, 1], got {options.opacity}")
    views = Views(options.tile, options.overlap, options.tta)
    views.check()
    runtime = open_runtime(options.device, options.threads, options.amp, console.warn)
    place, images = run_and_rest("predict", options.images, options.run)
    run = load_run(place, options.weights)
    channels = run.options.data.channels
    for role, folder in (("depth", options.depth), ("hha", options.hha)):
        if (role in channels) != (folder is not None):
            need = "needs" if role in channels else "has no use for"
            raise UsageError(f"{place}: sees {channels}, which {need} --{role}")
    sets = chosen_sets(run, options.label_set)
    below = [name for name, _ in sets.values()]
    jobs = find_images(images, options.output, below)
    model = runtime.place(run.model)
    normalization = normalization_of(run.options.model)
    for folder in {options.output / name / place.parent for _, place in jobs for name in below}:
        remove_leftovers(folder)
    failed = 0
    with console.progress("predicting", len(jobs)) as advance:
        for source, place in jobs:
            try:
                seen = _read(source, place, options)
            except DataError as error:
                if options.strict:
                    raise
                failed += 1
                console.warn(str(error))
            else:
                tensor = input_to_tensor(seen, normalization, channels)
                maps = in_order(segment(model, tensor, runtime, views))
                for which, (name, classes) in sets.items():
                    target = options.output / name / place
                    make_folder(target.parent)
                    mixed = overlay(seen.image, maps[which], classes.palette, options.opacity)
                    _save(_indexed(maps[which], classes.palette), target)
                    _save(Image.fromarray(mixed), overlay_path(target))
            advance(1, source.name)
    console.line(f"{options.output}: {len(jobs) - failed} of {len(jobs)} images segmented")
    return failed


def _read(source: Path, place: Path, options: PredictOptions) -> Example:
    """An image with its depth and HHA from their folders, and a label that says nothing.

    Raises:
        DataError: a file is missing, cannot be decoded or is of another size.
    """
    image = read_image(source, upright=True)
    depth = None if options.depth is None else read_depth(options.depth / place)
    hha = None if options.hha is None else read_image(options.hha / place, role="HHA image")
    for role, folder, values in (
        ("depth image", options.depth, depth),
        ("HHA image", options.hha, hha),
    ):
        if folder is not None and values is not None and values.shape[:2] != image.shape[:2]:
            raise DataError(other_size(role, folder / place, values.shape, source, image.shape))
    return Example(image, np.zeros(image.shape[:2], dtype=np.uint8), (), depth, hha)


def chosen_sets(run: TrainedRun, name: str) -> dict[int, tuple[str, Classes]]:
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


@overload
def segment(model: FCN, image: Tensor, runtime: Runtime, views: Views = ...) -> np.ndarray: ...
@overload
def segment(
    model: MultiHeadFCN, image: Tensor, runtime: Runtime, views: Views = ...
) -> dict[str, np.ndarray]: ...
@torch.inference_mode()
def segment(
    model: Net, image: Tensor, runtime: Runtime, views: Views = AT_ONCE
) -> np.ndarray | Mapping[str, np.ndarray]:
    """Class indices (H, W) uint8 of an image (C, H, W), normalized; of several heads by head.
    ``model`` is in eval mode."""
    images = runtime.images(image[None])
    with runtime.autocast():
        if views.several:
            predicted = by_head(model, [each.argmax() for each in views.average(model, images)])
        else:
            predicted = model.predict(images)
    if isinstance(predicted, Mapping):
        return {name: labels[0].cpu().numpy() for name, labels in predicted.items()}
    labels: np.ndarray = predicted[0].cpu().numpy()
    return labels


def overlay_path(target: Path) -> Path:
    """Where the overlay lies whose index PNG is ``target``."""
    return target.with_name(f"{target.stem}-overlay.png")


def find_images(
    sources: Sequence[Path], output: Path, folders: Sequence[str] = ("",)
) -> list[tuple[Path, Path]]:
    """The files of ``sources``, folders searched to the bottom, each with the place of its index
    PNG in each of ``folders`` below ``output``.

    Hidden files below a folder are left out, and so are the results themselves.

    Raises UsageError for a source that is missing, a folder without images, or a result that would
    replace an image or another result.
    """
    jobs: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}  # every result, and the image it is of
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source}: is missing; give image files or folders")
        if source.is_dir():
            if source.resolve() == output.resolve():
                raise UsageError(f"{source}: holds the images; give another folder as --output")
            found = list(image_files(source, outside=output))
            if not found:
                raise UsageError(f"{source}: holds no image file ({', '.join(IMAGE_SUFFIXES)})")
            places = [path.relative_to(source) for path in found]
        else:
            found, places = [source], [Path(source.name)]
        for path, place in zip(found, places, strict=True):
            place = place.with_suffix(".png")
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
    written = {result.resolve() for result in taken}
    for path in jobs.values():
        if path.resolve() in written:
            raise UsageError(f"{path}: would be overwritten; give another --output")
    return [(path, place) for place, path in jobs.items()]


def _indexed(labels: np.ndarray, palette: np.ndarray) -> Image.Image:
    picture = Image.fromarray(labels)
    picture.putpalette(palette.tobytes())
    return picture


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")

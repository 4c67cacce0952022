"""`fcn classify`: name image files with the classifiers that networks start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from fcn_ext.models import Classifier, recognize_classifier
from fcn_train.classify_options import ClassifyOptions
from fcn_train.console import Console
from fcn_train.data import CAFFE, IMAGENET, DataError, Normalization, image_to_tensor, read_image
from fcn_train.data.images import image_files
from fcn_train.errors import UsageError
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.text_files import NOT_UTF8, read_text
from fcn_train.weight_files import read_state_dict, source_of
from fcn_train.words import counted

NORMALIZATIONS = {"imagenet": IMAGENET, "caffe": CAFFE}
NAMES = "synset_words.txt"
LARGEST_SIDE = 4096


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    probability: float


def classify(options: ClassifyOptions, console: Console | None = None) -> int:
    """Print the most probable classes of each image; returns how many could not be read.

    Raises:
        UsageError: an option, the weights or the names cannot be used, or a source is missing.
    """
    console = console or Console()
    check(options)
    runtime = open_runtime(options.device, options.threads, "none", console.warn)
    state = read_state_dict(options.weights)
    try:
        model = recognize_classifier(state)
    except ValueError as error:
        raise UsageError(f"{options.weights}: {error}") from None
    names = class_names(options, model.num_classes)
    images = [path for source in options.images for path in _files(source)]
    model = runtime.place(model.eval())
    kind = options.input
    if kind == "auto":
        _, kind = source_of(state)
    failed = 0
    console.line(f"{options.weights}: {model.name}, {counted(model.num_classes, 'class')}")
    for path in images:
        try:
            image = prepared(read_image(path, upright=True), options, model.image_size)
        except DataError as error:
            failed += 1
            console.warn(str(error))
            continue
        if min(image.shape[:2]) < model.trunk.smallest_image:
            raise UsageError(
                f"{path}: is {image.shape[1]} x {image.shape[0]} pixels when cut, and {model.name} "
                f"needs {model.trunk.smallest_image}; give a larger --resize or --crop"
            )
        console.line(f"{path}")
        for guess in guesses(model, image, names, options.top, runtime, NORMALIZATIONS[kind]):
            console.line(f"  {guess.probability:.3f}  {guess.name}")
    return failed


def check(options: ClassifyOptions) -> None:
    """Refuse impossible values, naming the option."""
    rules = [
        ("--top", options.top >= 1, ">= 1", options.top),
        ("--resize", 0 <= options.resize <= LARGEST_SIDE, "in [0, 4096]", options.resize),
        (
            "--crop",
            options.crop is None or 0 <= options.crop <= LARGEST_SIDE,
            "in [0, 4096]",
            options.crop,
        ),
    ]
    for name, holds, rule, value in rules:
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {value}")


@torch.inference_mode()
def guesses(
    model: Classifier,
    image: np.ndarray,
    names: list[str],
    count: int,
    runtime: Runtime,
    normalization: Normalization,
) -> list[Guess]:
    """The ``count`` most probable classes of an image (H, W, 3) uint8; ``model`` in eval mode."""
    images = runtime.images(image_to_tensor(image, normalization)[None])
    probability = model(images).softmax(1)[0].cpu()
    best = probability.topk(min(count, len(names)))
    return [Guess(names[i], float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def prepared(image: np.ndarray, options: ClassifyOptions, image_size: int) -> np.ndarray:
    """The image resized by its shorter side and cut to its middle."""
    height, width = image.shape[:2]
    if options.resize:
        scale = options.resize / min(height, width)
        height, width = max(1, round(scale * height)), max(1, round(scale * width))
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(picture)
    crop = image_size if options.crop is None else options.crop
    if crop:
        top, left = max(0, height - crop) // 2, max(0, width - crop) // 2
        image = image[top : top + crop, left : left + crop]
    return image


def class_names(options: ClassifyOptions, count: int) -> list[str]:
    """The names of the classes, or their numbers if there is no file of names.

    Raises:
        UsageError: the file cannot be read, or holds a different number of names.
    """
    path = options.names
    if path is None:
        path = options.weights.with_name(NAMES)
        if not path.is_file():
            return [f"class {number}" for number in range(count)]
    try:
        lines = read_text(path).split("\n")
    except UnicodeError:
        raise UsageError(
            f"{path}: class names cannot be read ({NOT_UTF8}); save them as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: class names cannot be read ({why})") from None
    names = [re.sub(r"^n\d{8}\s+", "", line.strip()) for line in lines if line.strip()]
    if len(names) != count:
        raise UsageError(
            f"{path}: must have a name for each class of the classifier, {count}, "
            f"got {len(names)}; give another --names"
        )
    return names


def _files(source: Path) -> list[Path]:
    """The image files that ``source`` is or holds. Raises UsageError if there are none."""
    if not source.exists():
        raise UsageError(f"{source}: is missing; give image files or folders")
    found = list(image_files(source, outside=source)) if source.is_dir() else [source]
    if not found:
        raise UsageError(f"{source}: holds no image file")
    return found

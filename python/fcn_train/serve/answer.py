"""A network's prediction for one picture, in the form that the page reads.

An answer is 4 bytes, little-endian, with the length of a JSON header; the header; and the parts
that it gives the lengths of. For each set of labels these are the labels (H, W) uint8, the
probability of each in steps of 1/255, and the labels as a PNG with the palette, to be downloaded.
They are plain bytes because some browsers change, for their users' privacy, the pixels that a page
reads from a picture.
"""

from __future__ import annotations

import io
import json
import struct
import time
from typing import Any

import numpy as np

from fcn_train.classes import Classes
from fcn_train.data import image_to_tensor
from fcn_train.finite import NotFiniteError
from fcn_train.network import normalization_of
from fcn_train.predict import indexed
from fcn_train.probabilities import segment_surely
from fcn_train.real_paths import real_path
from fcn_train.run import TrainedRun
from fcn_train.runtime import Runtime
from fcn_train.views import AT_ONCE


def answer(run: TrainedRun, runtime: Runtime, image: np.ndarray) -> bytes:
    """What the network of ``run``, placed on ``runtime``, sees in an image (H, W, 3) uint8.

    Raises:
        NotFiniteError: it gives no numbers.
    """
    began = time.monotonic()
    tensor = image_to_tensor(image, normalization_of(run.options.model))
    seen = segment_surely(run.model, tensor, runtime, AT_ONCE)
    if not all(np.isfinite(probability).all() for _, probability in seen):
        raise NotFiniteError
    header: dict[str, Any] = {
        "height": image.shape[0],
        "width": image.shape[1],
        "seconds": round(time.monotonic() - began, 3),
        "sets": [],
    }
    parts = []
    for classes, (labels, probability) in zip(run.label_sets, seen, strict=True):
        own = [labels.tobytes(), _steps(probability).tobytes(), _png(labels, classes)]
        header["sets"].append(
            {
                "name": classes.label_set,
                "lengths": [len(part) for part in own],
                "classes": class_rows(labels, probability, len(classes.names)),
            }
        )
        parts += own
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def class_rows(
    labels: np.ndarray, probability: np.ndarray, num_classes: int
) -> list[dict[str, Any]]:
    """The classes that occur, the largest first: share of the pixels, and mean probability."""
    labels, probability = labels.ravel(), probability.ravel()
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=probability, minlength=num_classes)
    order = sorted(np.flatnonzero(counts), key=lambda index: (-counts[index], index))
    return [
        {
            "index": int(index),
            "share": counts[index] / labels.size,
            "probability": sums[index] / counts[index],
        }
        for index in order
    ]


def description(run: TrainedRun) -> dict[str, Any]:
    """What the page says of the network."""
    return {
        "title": f"{run.options.model.name} of {real_path(run.path).name}",
        "sets": [
            {
                "name": classes.label_set,
                "classes": [
                    {"name": name, "color": classes.palette[index].tolist()}
                    for index, name in enumerate(classes.names)
                ],
            }
            for classes in run.label_sets
        ],
    }


def _steps(probability: np.ndarray) -> np.ndarray:
    steps: np.ndarray = np.rint(255 * probability).astype(np.uint8)
    return steps


def _png(labels: np.ndarray, classes: Classes) -> bytes:
    file = io.BytesIO()
    indexed(labels, classes.palette).save(file, format="PNG")
    return file.getvalue()

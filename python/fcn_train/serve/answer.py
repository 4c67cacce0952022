"""What a network makes of one picture, as the page reads it.

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
from typing import Any, NamedTuple

import numpy as np
import torch

from fcn_ext import ops
from fcn_train.classes import Classes
from fcn_train.data import image_to_tensor
from fcn_train.heads import in_order
from fcn_train.network import normalization_of
from fcn_train.predict import indexed
from fcn_train.run import TrainedRun
from fcn_train.runtime import Runtime


class Seen(NamedTuple):
    """Of one set of labels: labels (H, W) uint8 and their probabilities (H, W) float32."""

    labels: np.ndarray
    probability: np.ndarray


@torch.inference_mode()
def look(run: TrainedRun, runtime: Runtime, image: np.ndarray) -> list[Seen]:
    """What the network of ``run``, placed on ``runtime``, sees in an image (H, W, 3) uint8."""
    tensor = image_to_tensor(image, normalization_of(run.options.model))
    with runtime.autocast():
        found = in_order(run.model.scores(runtime.images(tensor[None])))
    seen = []
    for scores, head in zip(found, run.model.heads.values(), strict=True):
        geometry: Any = head.geometry
        size = image.shape[:2]
        labels, probability = ops.argmax(scores, size, geometry, return_probability=True)
        seen.append(Seen(labels[0].cpu().numpy(), probability[0].float().cpu().numpy()))
    return seen


def answer(run: TrainedRun, runtime: Runtime, image: np.ndarray) -> bytes:
    """``look`` at an image, packed."""
    began = time.monotonic()
    seen = look(run, runtime, image)
    header: dict[str, Any] = {
        "height": image.shape[0],
        "width": image.shape[1],
        "seconds": round(time.monotonic() - began, 3),
        "sets": [],
    }
    parts = []
    for classes, one in zip(run.label_sets, seen, strict=True):
        own = [one.labels.tobytes(), _steps(one.probability).tobytes(), _png(one.labels, classes)]
        header["sets"].append(
            {
                "name": classes.label_set,
                "lengths": [len(part) for part in own],
                "classes": class_rows(one, len(classes.names)),
            }
        )
        parts += own
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, *parts])


def class_rows(seen: Seen, num_classes: int) -> list[dict[str, Any]]:
    """The classes that occur, the largest first: share of the pixels, and mean probability."""
    labels, probability = seen.labels.ravel(), seen.probability.ravel()
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
        "title": f"{run.options.model.name} of {run.path.resolve().name}",
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

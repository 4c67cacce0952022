"""The images on which the predictions of several runs differ most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fcn_ext.numpy import confusion_matrix
from fcn_train import per_image
from fcn_train.data import IGNORE_INDEX, Example, SegmentationDataset, input_to_tensor
from fcn_train.data.opening import open_split, validation_options
from fcn_train.errors import UsageError
from fcn_train.heads import in_order
from fcn_train.network import normalization_of
from fcn_train.run import TrainedRun
from fcn_train.runtime import Runtime
from fcn_train.segmenter import segment


@dataclass(frozen=True, eq=False)
class Difference:
    """The predictions of several runs for one image, all (H, W) uint8.

    Attributes:
        name: of the image.
        image: (H, W, 3).
        target: its label.
        predictions, ious: of each run, NaN where the label is void everywhere.
        differing: share of the pixels that not all runs give the same class.
    """

    name: str
    image: np.ndarray
    target: np.ndarray
    predictions: tuple[np.ndarray, ...]
    ious: tuple[float, ...]
    differing: float

    @property
    def rank(self) -> tuple[float, float]:
        """Greater for larger differences: of mean IU first, of pixels where that is the same."""
        gap = max(self.ious) - min(self.ious)
        return (0.0 if math.isnan(gap) else gap, self.differing)


def mean_iu(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> float:
    """The mean IU of one image: over the classes in its label or its prediction, NaN if the label
    is void everywhere."""
    counts = confusion_matrix(prediction, target, num_classes, IGNORE_INDEX)
    hits = counts.diagonal()
    return per_image.mean_iu(hits, counts.sum(0) + counts.sum(1) - hits)


def validation_sets(runs: Sequence[TrainedRun]) -> list[SegmentationDataset]:
    """What each run is scored on, with the channels that it sees.

    Raises:
        UsageError, DataError: the data is not there any more.
    """
    return [
        open_split(validation_options(run.options.data), run.options.data.val_split) for run in runs
    ]


def largest_differences(
    runs: Sequence[TrainedRun],
    datasets: Sequence[SegmentationDataset],
    runtime: Runtime,
    count: int,
    advance: Callable[[int], None],
) -> list[list[Difference]]:
    """For each set of labels the ``count`` images with the largest differences, the largest first.

    Args:
        runs: of the same classes, two or more; they are moved to the runtime's device.
        datasets: for each run the images it is scored on, the same ones in the same order.
        runtime: where the networks run.
        count: of images, at least 1.
        advance: called with 1 after each image.
    """
    models = [runtime.place(run.model) for run in runs]
    normalizations = [normalization_of(run.options.model) for run in runs]
    found: list[list[Difference]] = [[] for _ in runs[0].label_sets]
    for index in range(len(datasets[0])):
        examples = [dataset[index] for dataset in datasets]
        maps = [
            in_order(segment(model, input_to_tensor(example, norm, dataset.channels), runtime))
            for model, example, norm, dataset in zip(
                models, examples, normalizations, datasets, strict=True
            )
        ]
        name = datasets[0].ids[index]
        for which, (kept, classes) in enumerate(zip(found, runs[0].label_sets, strict=True)):
            predictions = tuple(of_run[which] for of_run in maps)
            kept.append(_difference(name, examples[0], which, predictions, len(classes.names)))
            kept.sort(key=lambda one: one.rank, reverse=True)
            del kept[count:]
        advance(1)
    return found


def _difference(
    name: str, example: Example, which: int, predictions: tuple[np.ndarray, ...], num_classes: int
) -> Difference:
    target = example.labels[which]
    for prediction in predictions:
        if prediction.shape != target.shape:
            raise UsageError(f"image {name}: is of another size in the data of another run")
    differing = np.any([one != predictions[0] for one in predictions[1:]], axis=0)
    ious = tuple(mean_iu(one, target, num_classes) for one in predictions)
    return Difference(name, example.image, target, predictions, ious, float(differing.mean()))

"""Scores of a network on a split, streamed through one confusion matrix."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch

from fcn_ext.calibration import Calibration
from fcn_ext.metrics import ConfusionMatrix, Scores
from fcn_ext.models import CoarseScores, MultiHeadFCN
from fcn_train import calibration
from fcn_train.classes import classes_of
from fcn_train.data import (
    EvaluationLoader,
    Normalization,
    SegmentationDataset,
    absent_classes,
    input_to_tensor,
)
from fcn_train.data.contents import source_of
from fcn_train.data.device_input import DeviceNormalization
from fcn_train.finite import FiniteWatch
from fcn_train.heads import Net, by_head, in_order
from fcn_train.options import Logits
from fcn_train.per_image import ImageCounts, batch_counters, extremes
from fcn_train.pictures import Picture
from fcn_train.probabilities import segment_surely
from fcn_train.report import Result
from fcn_train.runtime import Runtime
from fcn_train.signals import StopRequested
from fcn_train.views import AT_ONCE, Views

PICTURES = 6  # spread over the split
EXTREMES = 4  # of the lowest and the highest mean IU
Counts = ConfusionMatrix | dict[str, ConfusionMatrix]
"""The counts of a network with one head, or by head of one with several."""


@dataclass(frozen=True)
class Evaluator:
    """Scores a network on every image of a split at its native size, void left out.

    Attributes:
        dataset: the split.
        runtime: where the network runs.
        normalization: that of the images, as in training.
        batch: the most images in one forward pass; they are neighbors in the split of equal size.
        logits: "coarse" counts straight from the coarse scores, "full" from every pixel's logits.
        workers: loader processes.
        views: what the network sees of each image.
        as_bytes: images are loaded as bytes and normalized on the network's device.
    """

    dataset: SegmentationDataset
    runtime: Runtime
    normalization: Normalization
    batch: int = 1
    logits: Logits = "coarse"
    workers: int = 0
    views: Views = AT_ONCE
    as_bytes: bool = False

    @functools.cached_property
    def _loader(self) -> EvaluationLoader:
        """Loads this process's share; with several processes, each first reads all sizes of
        images."""
        here = self.runtime.processes
        return EvaluationLoader(
            self.dataset,
            None if self.as_bytes else self.normalization,
            batch_size=self.batch,
            workers=self.workers,
            pin_memory=self.runtime.on_gpu,
            share=(here.rank, here.size),
        )

    @overload
    def count(
        self,
        model: CoarseScores,
        advance: Callable[[int], None] | None = ...,
        per_image: ImageCounts | None = ...,
        calibrations: Sequence[Calibration] = ...,
    ) -> ConfusionMatrix: ...
    @overload
    def count(
        self,
        model: MultiHeadFCN,
        advance: Callable[[int], None] | None = ...,
        per_image: ImageCounts | None = ...,
        calibrations: Sequence[Calibration] = ...,
    ) -> dict[str, ConfusionMatrix]: ...
    @torch.inference_mode()
    def count(
        self,
        model: CoarseScores | MultiHeadFCN,
        advance: Callable[[int], None] | None = None,
        per_image: ImageCounts | None = None,
        calibrations: Sequence[Calibration] = (),
    ) -> Counts:
        """Count target against prediction; predictions are dropped.

        ``advance`` is called with the number of images after each batch. ``per_image`` collects the
        counts of each image. ``calibrations``, one for each set of labels or none, are updated in
        the same pass. The model keeps its mode. Several processes divide the images among them, and
        each returns the counts of all.
        """
        dataset, runtime, here = self.dataset, self.runtime, self.runtime.processes
        matrices = [
            ConfusionMatrix(
                labels.num_classes, device=runtime.device, class_names=labels.class_names
            )
            for labels in dataset.label_sets
        ]
        counts: Counts = by_head(model, matrices)
        normalized = None
        if self.as_bytes:
            normalized = DeviceNormalization(self.normalization, dataset.channels, runtime.device)
        done = 0
        with here.together(StopRequested), evaluating(model), FiniteWatch(model) as watch:
            for examples in self._loader:
                images = runtime.images(examples.images)
                if normalized is not None:
                    images = runtime.images(normalized(images, examples.sizes))
                targets = [runtime.targets(labels) for labels in examples.all_targets]
                with runtime.autocast():
                    if calibrations:
                        adds = calibration.batch_counters(
                            model, images, self.logits, self.views, calibrations
                        )
                    else:
                        adds = batch_counters(model, images, self.logits, self.views)
                    if per_image is not None:
                        per_image.add(examples.ids, adds, matrices, targets)
                    else:
                        for add, matrix, target in zip(adds, matrices, targets, strict=True):
                            add(matrix, target, slice(None))
                if advance is not None:  # the other processes are about as far
                    before, done = done, min(done + len(examples.ids) * here.size, len(dataset))
                    advance(done - before)
        if here.several:
            with here.noticing():
                for matrix in matrices:
                    matrix.all_reduce()
                for each in calibrations:
                    each.all_reduce()
        if per_image is not None:
            per_image.finite = here.most(not watch.held()) == 0
            per_image.gather(here)
        return counts

    def results(
        self,
        model: Net,
        counts: Counts,
        per_image: ImageCounts,
        calibrations: Sequence[Calibration] = (),
    ) -> list[Result]:
        """What a report shows, for each set of labels; ``counts`` and ``per_image`` are those of
        ``model``."""
        places = {name: index for index, name in enumerate(self.dataset.ids)}
        order = [places[name] for name in per_image.ids]
        tables = dict(enumerate(each.compute() for each in calibrations))
        results = []
        for which, (classes, matrix) in enumerate(
            zip(classes_of(self.dataset), in_order(counts), strict=True)
        ):
            ius = np.full(len(places), np.nan)
            ius[order] = per_image.mean_iu(which)
            some, worst, best = (
                self.pictures(model, indices, which=which, ius=ius)
                for indices in (spread(len(places), PICTURES), *extremes(ius, EXTREMES))
            )
            scored = list(zip(self.dataset.ids, ius.tolist(), strict=True))
            results.append(
                Result(
                    classes,
                    counts=matrix.matrix.cpu().numpy(),
                    rows=some,
                    worst=worst,
                    best=best,
                    per_image=scored,
                    reliability=tables.get(which),
                )
            )
        return results

    def remarks(self, counts: Counts, per_image: ImageCounts) -> list[str]:
        """A sentence on scores that are not finite, and for each set of labels one on its classes
        without a pixel, if there are any."""
        found = []
        if not per_image.finite:
            found.append(
                f"{self.dataset.source}: the network gives scores that are not finite, so its "
                "labels and these results mean nothing; train it with a lower --optim.lr"
            )
        for which, matrix in enumerate(in_order(counts)):
            alone = self.dataset.only(which)
            if lack := absent_classes(alone, matrix.matrix.sum(1).tolist()):
                found.append(f"{source_of(alone)}: {lack}")
        return found

    def pictures(
        self,
        model: Net,
        indices: Sequence[int],
        *,
        which: int = 0,
        ius: np.ndarray | None = None,
    ) -> list[Picture]:
        """Image, target, prediction and its probability for some examples, in the set of labels
        number ``which``; with ``ius``, the mean IUs of all examples, their IUs, too."""
        rows = []
        with evaluating(model):
            for index in indices:
                example = self.dataset[index]
                seen = input_to_tensor(example, self.normalization, self.dataset.channels)
                found = segment_surely(model, seen, self.runtime, self.views)[which]
                name, iu = self.dataset.ids[index], None if ius is None else float(ius[index])
                rows.append(Picture(name, example.image, example.labels[which], *found, iu))
        return rows


@contextlib.contextmanager
def evaluating(model: CoarseScores | MultiHeadFCN) -> Iterator[None]:
    """Put the model into eval mode inside the block, and back into its former mode after it."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def spread(size: int, count: int) -> list[int]:
    """``count`` indices (or ``size``, if fewer) evenly over ``range(size)``."""
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def scores_of(counts: Counts) -> Scores | dict[str, Scores]:
    """The scores of a network with one head, or by head of one with several."""
    if isinstance(counts, ConfusionMatrix):
        return counts.compute()
    return {name: matrix.compute() for name, matrix in counts.items()}

"""Scores of a network on a split, streamed through one confusion matrix."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import torch

from fcn_ext.metrics import ConfusionMatrix, Scores
from fcn_ext.models import CoarseScores, MultiHeadFCN
from fcn_train.classes import classes_of
from fcn_train.config import to_dict
from fcn_train.console import Console, Silent
from fcn_train.data import (
    EvaluationLoader,
    Normalization,
    SegmentationDataset,
    absent_classes,
    check_split,
    input_to_tensor,
)
from fcn_train.data.contents import source_of
from fcn_train.data.opening import of_kind, open_split, validation_options
from fcn_train.errors import UsageError
from fcn_train.heads import Net, by_head, in_order
from fcn_train.network import normalization_of
from fcn_train.options import EvaluateOptions, Logits
from fcn_train.pictures import Picture
from fcn_train.predict import AT_ONCE, segment
from fcn_train.processes import joined
from fcn_train.report import Result, summary, write_report
from fcn_train.run import check_classes, load_run
from fcn_train.run_argument import chosen_run
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.signals import StopRequested
from fcn_train.views import Views

PICTURES = 6
Counts = ConfusionMatrix | dict[str, ConfusionMatrix]
"""Those of a network of one head, or of several by head."""


@dataclass(frozen=True)
class Evaluator:
    """Scores a network on every image of a split at its native size, void left out.

    Attributes:
        dataset: the split.
        runtime: where the network is.
        normalization: of the images, as in training.
        batch: images in one forward pass, where neighbors in the split have one size.
        logits: "coarse" counts straight from the coarse scores, "full" from every pixel's logits.
        workers: loader processes.
        views: what the network sees of each image.
    """

    dataset: SegmentationDataset
    runtime: Runtime
    normalization: Normalization
    batch: int = 1
    logits: Logits = "coarse"
    workers: int = 0
    views: Views = AT_ONCE

    @overload
    def count(
        self, model: CoarseScores, advance: Callable[[int], None] | None = ...
    ) -> ConfusionMatrix: ...
    @overload
    def count(
        self, model: MultiHeadFCN, advance: Callable[[int], None] | None = ...
    ) -> dict[str, ConfusionMatrix]: ...
    @torch.inference_mode()
    def count(
        self, model: CoarseScores | MultiHeadFCN, advance: Callable[[int], None] | None = None
    ) -> Counts:
        """Count target against prediction; predictions are dropped.

        ``advance`` is called with the number of images after each batch. The model is left in the
        mode it came in. Several processes share the images out, and each gets the counts of all.
        """
        dataset, runtime, here = self.dataset, self.runtime, self.runtime.processes
        matrices = [
            ConfusionMatrix(
                labels.num_classes, device=runtime.device, class_names=labels.class_names
            )
            for labels in dataset.label_sets
        ]
        counts: Counts = by_head(model, matrices)
        loader = EvaluationLoader(
            dataset,
            self.normalization,
            batch_size=self.batch,
            workers=self.workers,
            pin_memory=runtime.on_gpu,
            share=(here.rank, here.size),
        )
        done = 0
        with here.together(StopRequested), evaluating(model):
            for examples in loader:
                images = runtime.images(examples.images)
                targets = [runtime.targets(labels) for labels in examples.all_targets]
                with runtime.autocast():
                    if self.views.several:
                        averages = self.views.average(model, images)
                        for matrix, average, target in zip(
                            matrices, averages, targets, strict=True
                        ):
                            matrix.update(average.argmax(), target)
                    elif self.logits == "coarse":
                        model.evaluate(images, by_head(model, targets), by_head(model, matrices))
                    else:
                        made = in_order(model(images))
                        for matrix, logits, target in zip(matrices, made, targets, strict=True):
                            matrix.update(logits, target)
                if advance is not None:  # the others are about as far
                    before, done = done, min(done + len(examples.ids) * here.size, len(dataset))
                    advance(done - before)
        for matrix in matrices if here.several else ():
            with here.noticing():
                matrix.all_reduce()
        return counts

    def results(self, model: Net, counts: Counts) -> list[Result]:
        """For each set of labels what a report shows, ``counts`` being those of ``model``."""
        sets = zip(classes_of(self.dataset), in_order(counts), strict=True)
        return [
            Result(classes, matrix.matrix.cpu().numpy(), self.pictures(model, which=which))
            for which, (classes, matrix) in enumerate(sets)
        ]

    def absent(self, counts: Counts) -> list[str]:
        """For each set of labels a sentence on its classes without a pixel, if there are any."""
        found = []
        for which, matrix in enumerate(in_order(counts)):
            alone = self.dataset.only(which)
            if lack := absent_classes(alone, matrix.matrix.sum(1).tolist()):
                found.append(f"{source_of(alone)}: {lack}")
        return found

    def pictures(self, model: Net, count: int = PICTURES, *, which: int = 0) -> list[Picture]:
        """Image, target and prediction of ``count`` examples spread over the split, in the set of
        labels number ``which``."""
        rows = []
        with evaluating(model):
            for index in spread(len(self.dataset), count):
                example = self.dataset[index]
                seen = input_to_tensor(example, self.normalization, self.dataset.channels)
                prediction = in_order(segment(model, seen, self.runtime, self.views))[which]
                name = self.dataset.ids[index]
                rows.append(Picture(name, example.image, example.labels[which], prediction))
        return rows


@contextlib.contextmanager
def evaluating(model: CoarseScores | MultiHeadFCN) -> Iterator[None]:
    """The model is in eval mode inside, and in the mode it came in after."""
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
    """The scores of a network of one head, or of several by head."""
    if isinstance(counts, ConfusionMatrix):
        return counts.compute()
    return {name: matrix.compute() for name, matrix in counts.items()}


def evaluate_run(
    options: EvaluateOptions, console: Console | None = None
) -> Scores | dict[str, Scores]:
    """`fcn evaluate`: score a run on a split and write the report folder; returns ``scores_of``."""
    here = joined()
    console = (console or Console()) if here.first else Silent()
    if options.batch < 1:
        raise UsageError(f"--batch must be >= 1, got {options.batch}")
    if options.tta and options.logits != "coarse":
        raise UsageError(f"--tta averages coarse scores, got --logits {options.logits}")
    runtime = open_runtime(options.device, options.threads, options.amp, console.warn)
    place = chosen_run("evaluate", options.folder, options.run)
    run = here.from_first(lambda: load_run(place, options.weights))
    data = validation_options(run.options.data)
    if options.data_kind is not None:
        data = of_kind(data, options.data_kind)
    if options.data_root is not None:
        data = replace(data, root=options.data_root)
    split = data.val_split if options.split is None else options.split
    with here.first_ahead():
        dataset = open_split(data, split)
    check_classes(run, dataset)
    check_split(dataset, training=False, warn=console.warn)
    model = runtime.place(run.model)
    evaluator = Evaluator(
        dataset,
        runtime,
        normalization_of(run.options.model),
        batch=options.batch,
        logits=options.logits,
        workers=runtime.workers(data.workers),
        views=Views(tta=options.tta),
    )
    began = time.monotonic()
    here.gather()
    with console.progress("evaluating", len(dataset)) as advance:
        counts = evaluator.count(model, advance)
    if not here.first:
        return scores_of(counts)
    for lack in evaluator.absent(counts):
        console.warn(lack)
    scores = scores_of(counts)
    name = Path(split).stem or "all"
    folder = options.output or place / f"evaluate-{name}"
    write_report(
        folder,
        title=f"{run.options.model.name} on {dataset.name}, {name}",
        facts={
            "split": split,
            "images": len(dataset),
            "weights": options.weights,
            "logits": options.logits,
            "mirror images": "averaged" if options.tta else "no",
            "seconds": round(time.monotonic() - began, 1),
        },
        results=evaluator.results(model, counts),
        config=to_dict(run.options),
        environment=runtime.environment(),
    )
    console.line(f"{len(dataset)} images of {dataset.name}, {name}: {summary(scores)}")
    console.line(f"{folder / 'report.html'}: written")
    return scores

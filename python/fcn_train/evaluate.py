"""Scores of a network on a split, streamed through one confusion matrix."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from fcn_ext.metrics import ConfusionMatrix, Scores
from fcn_ext.models import FCN
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.data import (
    EvaluationLoader,
    Normalisation,
    SegmentationDataset,
    absent_classes,
    check_split,
)
from fcn_train.data.opening import of_kind, open_split
from fcn_train.errors import UsageError
from fcn_train.head import add_counts
from fcn_train.network import NORMALISATIONS, Runtime, resolve_device
from fcn_train.options import EvaluateOptions, Head
from fcn_train.pictures import Picture
from fcn_train.predict import segment
from fcn_train.report import summary, write_report
from fcn_train.run import check_classes, environment, load_run

PICTURES = 6


@torch.inference_mode()
def evaluate(
    model: FCN,
    dataset: SegmentationDataset,
    runtime: Runtime,
    normalisation: Normalisation,
    *,
    batch: int = 1,
    head: Head = "fused",
    workers: int = 0,
    matrix: ConfusionMatrix | None = None,
    advance: Callable[[int], None] | None = None,
) -> Scores:
    """Score ``model`` on every image of ``dataset`` at its native size, void left out.

    Predictions are counted and dropped. ``matrix`` is the accumulator to fill, for callers that
    want the counts as well; ``advance`` is called with the number of images after each batch.
    The model is left in the mode it came in.
    """
    if matrix is None:
        matrix = new_matrix(dataset, runtime)
    loader = EvaluationLoader(
        dataset, normalisation, batch_size=batch, workers=workers, pin_memory=runtime.on_gpu
    )
    training = model.training
    model.eval()
    try:
        for examples in loader:
            images, targets = runtime.images(examples.images), runtime.targets(examples.targets)
            with runtime.autocast():
                add_counts(head, model, images, targets, matrix)
            if advance is not None:
                advance(len(examples.ids))
    finally:
        model.train(training)
    return matrix.compute()


def new_matrix(dataset: SegmentationDataset, runtime: Runtime) -> ConfusionMatrix:
    return ConfusionMatrix(
        dataset.num_classes, device=runtime.device, class_names=dataset.class_names
    )


def picture_rows(
    model: FCN,
    dataset: SegmentationDataset,
    runtime: Runtime,
    normalisation: Normalisation,
    count: int,
) -> list[Picture]:
    """Image, target and prediction of ``count`` examples spread over the split."""
    training = model.training
    model.eval()
    rows = []
    for index in spread(len(dataset), count):
        image, target = dataset[index]
        prediction = segment(model, image, runtime, normalisation)
        rows.append(Picture(dataset.ids[index], image, target, prediction))
    model.train(training)
    return rows


def spread(size: int, count: int) -> list[int]:
    """``count`` indices (or ``size``, if fewer) evenly over ``range(size)``."""
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def evaluate_run(options: EvaluateOptions, console: Console | None = None) -> Scores:
    """`fcn evaluate`: score a run on a split and write the report folder."""
    console = console or Console()
    if options.batch < 1:
        raise UsageError(f"--batch must be >= 1, got {options.batch}")
    runtime = Runtime(resolve_device(options.device, options.threads), options.amp)
    run = load_run(options.run, options.weights)
    data = run.options.data
    if options.data_kind is not None:
        data = of_kind(data, options.data_kind)
    if options.data_root is not None:
        data = replace(data, root=options.data_root)
    split = data.val_split if options.split is None else options.split
    dataset = open_split(data, split)
    check_classes(run, dataset)
    check_split(dataset, training=False, warn=console.warn)
    model = runtime.place(run.model)
    normalisation = NORMALISATIONS[run.options.model.input]
    matrix = new_matrix(dataset, runtime)
    began = time.monotonic()
    with console.progress("evaluating", len(dataset)) as advance:
        scores = evaluate(
            model,
            dataset,
            runtime,
            normalisation,
            batch=options.batch,
            head=options.head,
            workers=runtime.workers(data.workers),
            matrix=matrix,
            advance=advance,
        )
    if lack := absent_classes(dataset, matrix.matrix.sum(1).tolist()):
        console.warn(f"{dataset.source}: {lack}")
    name = Path(split).stem or "all"
    folder = options.output or options.run / f"evaluate-{name}"
    write_report(
        folder,
        title=f"{run.options.model.name} on {dataset.name}, {name}",
        facts={
            "split": split,
            "images": len(dataset),
            "weights": options.weights,
            "head": options.head,
            "seconds": round(time.monotonic() - began, 1),
        },
        scores=scores,
        matrix=matrix.matrix.cpu().numpy(),
        classes=run.classes,
        rows=picture_rows(model, dataset, runtime, normalisation, PICTURES),
        config=to_dict(run.options),
        environment=environment(runtime.device),
    )
    console.line(f"{len(dataset)} images of {dataset.name}, {name}: {summary(scores)}")
    console.line(f"{folder / 'report.html'}: written")
    return scores

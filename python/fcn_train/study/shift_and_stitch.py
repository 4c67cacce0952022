"""Dense scores from a coarse network, by shifts and by rarefied filters, against skips."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fcn_ext.geometry import Deconvolution, Grid
from fcn_ext.models import FCN, CoarseScores, rarefied, shift_and_stitch
from fcn_train.console import Console
from fcn_train.data import Normalization, SegmentationDataset, input_to_tensor
from fcn_train.data.opening import open_split, validation_options
from fcn_train.errors import UsageError
from fcn_train.evaluator import Evaluator, spread
from fcn_train.network import normalization_of
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.study.comparison import environment, study_facts
from fcn_train.study.families import family, with_model
from fcn_train.study.findings import Findings
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.pictures import draw_points
from fcn_train.study.variants import (
    Trained,
    Variant,
    base_options,
    network,
    train_all,
)

STRIDE = 8  # of the dense scores, as of those with two skips
TIMED = 8  # images
PAPER = (
    "section 3.2: shift-and-stitch gives what the net with rarefied filters does. Neither was "
    "used: skips do better for their cost (section 4.2). There are no figures."
)


class CoarsePart(nn.Module):
    """A network's scores as the result of a module."""

    def __init__(self, net: FCN) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.scores(images)


class DenseScores(CoarseScores):
    """A network of stride 32 with scores every 8 pixels.

    Args:
        net: without skips.
        way: from images to its dense scores, :func:`stitched` or :func:`rare`.
    """

    def __init__(self, net: FCN, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.num_classes = net.num_classes
        self._way = way
        # Cell 0 is that of the largest shift.
        first = net.score_grid.center(0) - margin(net)
        grid = Grid(Fraction(1, STRIDE), -first / STRIDE)
        sides = (2 * STRIDE, 2 * STRIDE - 1)
        shifts = {side: grid.upsample(STRIDE, kernel_size=side).shift for side in sides}
        side = next(side for side, shift in shifts.items() if shift.denominator == 1)
        self.geometry = Deconvolution(STRIDE, side, int(shifts[side]))

    def scores(self, images: Tensor) -> Tensor:
        return self._way(images)


def margin(net: FCN) -> int:
    """How far images are shifted at most, in pixels."""
    return int(net.score_grid.stride) - STRIDE


def stitched(net: FCN) -> DenseScores:
    """The scores of shifted images, interlaced."""
    factor = int(net.score_grid.stride) // STRIDE
    return DenseScores(net, lambda x: shift_and_stitch(net.scores, x, factor, step=STRIDE))


def rare(net: FCN) -> DenseScores:
    """The scores of the network with its last strides taken away."""
    dense = rarefied(CoarsePart(net), (1, net.in_channels, 64, 64), STRIDE)
    return DenseScores(net, lambda x: dense(F.pad(x, (margin(net),) * 4)))


def run(options: TrainStudyOptions, folder: Path, console: Console) -> Findings:
    """Train the nets at strides 32, 16 and 8, and score all ways to finer scores."""
    base = base_options(options)
    name = base.model.name
    nets = family(name)
    if base.model.upsampling != "fixed":
        raise UsageError(f"--model.upsampling must be fixed here, got {base.model.upsampling}")
    variants = [Variant(net, (with_model(base, net),)) for net in nets]
    trained = train_all(variants, options, folder, console)
    runtime = open_runtime(options.device, options.threads, "none", console.warn)
    dataset = open_split(validation_options(options.data), options.data.val_split)
    normalization = normalization_of(options.model)
    found: dict[str, list[list[float]]] = {}
    for one in trained:
        for way, net in ways(one).items():
            console.line(f"scoring {way}, seed {one.seed}")
            row = measured(net, dataset, normalization, runtime)
            found.setdefault(way, []).append(row)
    rows: list[list[Any]] = [
        [way, *(statistics.fmean(column) for column in zip(*each, strict=True))]
        for way, each in found.items()
    ]
    title = f"Shift-and-stitch against skips: {name} on {dataset.name}, seeds: {options.seeds}"
    points = {str(row[0]): (float(row[4]), float(row[1])) for row in rows}
    draw_points(folder / "picture.png", title, ("seconds per image", "mean IU (%)"), points)
    return Findings(
        title=title,
        paper=PAPER,
        header=(
            *("scores", "mean IU (%)", "pixel accuracy (%)"),
            *("G multiply-adds per image", "seconds per image"),
        ),
        rows=rows,
        facts={**study_facts(options), "environment": environment(trained)},
    )


def ways(one: Trained) -> dict[str, CoarseScores]:
    """What is scored of a trained network."""
    net = network(one)
    if net.skips:
        return {f"{one.variant.name}, skips": net}
    name = one.variant.name
    return {
        name: net,
        f"{name}, shift-and-stitch to {STRIDE}": stitched(net),
        f"{name}, rarefied to {STRIDE}": rare(net),
    }


def measured(
    net: CoarseScores, dataset: SegmentationDataset, normalization: Normalization, runtime: Runtime
) -> list[float]:
    """Mean IU and pixel accuracy in percent, multiply-adds in billions, and seconds per image."""
    runtime.place(net)
    net.eval()
    scores = Evaluator(dataset, runtime, normalization).count(net).compute()
    # Processor time counts this work alone, but not what a GPU does.
    clock = time.perf_counter if runtime.on_gpu else time.process_time
    times, operations = [], []
    for index in spread(len(dataset), TIMED):
        seen = input_to_tensor(dataset[index], normalization, dataset.channels)
        images = runtime.images(seen[None])
        with torch.inference_mode():
            began = clock()
            net.predict(images).cpu()
            times.append(clock() - began)
            with FlopCounterMode(display=False) as counter:
                net.scores(images)
        operations.append(counter.get_total_flops() / 2e9)
    return [
        100 * float(scores.mean_iu),
        100 * float(scores.pixel_accuracy),
        statistics.fmean(operations),
        statistics.median(times),
    ]

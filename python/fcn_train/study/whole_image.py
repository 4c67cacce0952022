"""The cost of a whole image against that of its windows, one by one (section 3.1)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fcn_ext.models import Classifier, build_classifier
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.errors import UsageError
from fcn_train.option_rules import refuse_seed
from fcn_train.runtime import Runtime, open_runtime
from fcn_train.study.findings import Findings
from fcn_train.study.options import CostStudyOptions
from fcn_train.study.pictures import draw_bars

LARGEST = 4096
MOST_WINDOWS = 65536  # in one pass
PAPER = (
    "section 3.1, AlexNet on a K40c: a window of 227 x 227 takes 1.2 ms forward in a batch, and an "
    "image of 500 x 500, with 10 x 10 scores, 22 ms: 5 times as fast as 100 windows. Backward it "
    "is 2.4 ms and 37 ms."
)
PUBLISHED = {"forward": 100 * 1.2 / 22, "backward": 100 * 2.4 / 37}


def run(options: CostStudyOptions, folder: Path, console: Console) -> Findings:
    """Time a classifier on an image and on the windows that its scores see there."""
    check(options)
    runtime = open_runtime(options.device, options.threads, "none", console.warn)
    torch.manual_seed(options.seed)
    try:
        net = runtime.place(build_classifier(options.net, width=options.width)).eval()
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    if min(options.size) < net.image_size:
        raise UsageError(f"--size must be >= {net.image_size}, a window, got {options.size}")
    image = runtime.images(torch.randn(1, 3, *options.size))
    side = net.image_size
    windows = runtime.images(torch.randn(options.batch, 3, side, side))
    with torch.inference_mode():
        rows_of_scores, columns = net.score_map(image).shape[2:]
    count = rows_of_scores * columns
    rows = []
    speedups = {}
    for name, cost in (("multiply-adds, billions", operations), *timers(runtime, options.repeats)):
        console.line(f"measuring {name}")
        whole, single = cost(net, image), cost(net, windows) / options.batch
        speedups[name] = count * single / whole
        published = PUBLISHED.get(name.split(",")[0])
        rows.append([name, whole, single, count * single, speedups[name], published])
    title = (
        f"A whole image of {options.size[0]} x {options.size[1]} against its {rows_of_scores} x "
        f"{columns} windows of {side} x {side}: {options.net}"
    )
    draw_bars(folder / "picture.png", title, "times as much for the windows", speedups)
    return Findings(
        title=title,
        paper=PAPER,
        header=("cost", "whole image", "a window", "all windows", "ratio", "paper"),
        rows=rows,
        facts={"options": to_dict(options), "environment": runtime.environment()},
    )


def check(options: CostStudyOptions) -> None:
    """Refuse values that cannot be, naming the option."""
    for name, value in (("--batch", options.batch), ("--repeats", options.repeats)):
        if value < 1:
            raise UsageError(f"{name} must be >= 1, got {value}")
    if options.batch > MOST_WINDOWS:
        raise UsageError(f"--batch must be <= {MOST_WINDOWS}, got {options.batch}")
    if not all(1 <= size <= LARGEST for size in options.size):
        raise UsageError(f"--size must be in [1, {LARGEST}], got {options.size}")
    refuse_seed(options.seed)


def operations(net: Classifier, images: Tensor) -> float:
    """Multiply-adds of a forward pass, in billions."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net.score_map(images)
    return float(counter.get_total_flops() / 2e9)


Cost = Callable[[Classifier, Tensor], float]


def timers(runtime: Runtime, repeats: int) -> list[tuple[str, Cost]]:
    """What times a forward pass, and one back, in seconds: medians."""

    def forward(net: Classifier, images: Tensor) -> float:
        with torch.inference_mode():
            return _median(lambda: net.score_map(images), runtime, repeats)

    def backward(net: Classifier, images: Tensor) -> float:
        times = []
        for _ in range(repeats):
            total = net.score_map(images).sum()
            times.append(_median(total.backward, runtime, 1))
            net.zero_grad(set_to_none=True)
        return statistics.median(times)

    return [("forward, seconds", forward), ("backward, seconds", backward)]


def _median(work: Callable[[], object], runtime: Runtime, repeats: int) -> float:
    # Processor time counts this work alone, but not what a GPU does.
    clock = time.perf_counter if runtime.on_gpu else time.process_time
    times = []
    for _ in range(repeats):
        began = clock()
        work()
        if runtime.on_gpu:
            torch.cuda.synchronize(runtime.device)
        times.append(clock() - began)
    return statistics.median(times)

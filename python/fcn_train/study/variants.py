"""The engine of studies that train: variants of `fcn train` with the same data and seeds."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fcn_ext.models import FCN
from fcn_train.config import load_config, to_dict
from fcn_train.console import Advance, Console
from fcn_train.errors import UsageError, WriteError
from fcn_train.files import write_text
from fcn_train.json_text import parse_json
from fcn_train.model_options import WITHOUT_FC
from fcn_train.option_rules import check
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.run_folder import RunFolder
from fcn_train.run_scores import read_evaluations, read_training
from fcn_train.study.data import open_one_set
from fcn_train.study.options import TrainStudyOptions
from fcn_train.train import train

SECONDS = "seconds.json"
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Variant:
    """What is compared with others.

    Attributes:
        name: in tables.
        stages: what is trained, one after the other; each starts from the network of the one before
            it, as the finer of two (32s, 16s, 8s).
        paper: the paper's mean IU in percent, where it has one.
    """

    name: str
    stages: tuple[TrainOptions, ...]
    paper: float | None = None


@dataclass(frozen=True)
class Trained:
    """A variant, trained with one seed.

    Attributes:
        losses: (step, mean loss since the row before), counted over all stages.
        scores: (step, mean IU, pixel accuracy) on the val split.
        seconds: of processor time in each step, the median of a stage; wall time on a GPU.
        steps: taken in each stage.
        run: folder of the last stage.
    """

    variant: Variant
    seed: int
    losses: list[tuple[int, float]]
    scores: list[tuple[int, float, float]]
    seconds: list[float]
    steps: list[int]
    run: Path

    def seconds_at(self, step: int) -> float:
        """Time spent in steps until ``step``."""
        total = 0.0
        for steps, seconds in zip(self.steps, self.seconds, strict=True):
            total += min(step, steps) * seconds
            step = max(0, step - steps)
        return total

    @property
    def images(self) -> int:
        """Images passed forward and back."""
        batches = (s.optim.batch * s.optim.accumulate for s in self.variant.stages)
        return sum(batch * steps for batch, steps in zip(batches, self.steps, strict=True))


def base_options(options: TrainStudyOptions) -> TrainOptions:
    """What all variants of a study have in common."""
    model = options.model
    if model.name.startswith(WITHOUT_FC):
        model = replace(model, fc_channels=0)
    return TrainOptions(
        data=options.data,
        model=model,
        optim=options.optim,
        init_classifier=options.init_classifier,
        device=options.device,
        threads=options.threads,
        checkpoint_every=1_000_000,
        log_every=options.log_every,
    )


def network(one: Trained) -> FCN:
    """The network of a run."""
    model = load_run(one.run).model
    assert isinstance(model, FCN)  # of one set of labels
    return model


def train_all(
    variants: Sequence[Variant], options: TrainStudyOptions, folder: Path, console: Console
) -> list[Trained]:
    """Every variant with every seed; runs that are there already are read, or gone on with.

    Raises:
        UsageError: an option is out of range, of whichever variant, or the folder holds a run of
            other options, which are found before the first of all is trained.
    """
    for name, value in (("--seeds", options.seeds), ("--points", options.points)):
        if value < 1:
            raise UsageError(f"{name} must be >= 1, got {value}")
    if options.seeds > MOST_SEEDS:
        raise UsageError(f"--seeds must be <= {MOST_SEEDS}, got {options.seeds}")
    images = len(open_one_set(options.data, options.data.train_split))
    jobs = []
    for number in range(options.seeds):
        for variant in variants:
            seed = options.seed + number
            stages = [evaluated(stage, options.points, images) for stage in variant.stages]
            jobs.append((variant, seed, runs_of(variant, stages, seed, folder / "runs")))
    for _, _, runs in jobs:
        for run, own in runs.items():
            check(own)
            is_begun(own, run)
    trained = []
    for number, (variant, seed, runs) in enumerate(jobs, 1):
        console.line(f"{number} of {len(jobs)}: {variant.name}, seed {seed}")
        trained.append(train_variant(variant, seed, runs, console))
    return trained


def runs_of(
    variant: Variant, stages: Sequence[TrainOptions], seed: int, folder: Path
) -> dict[Path, TrainOptions]:
    """The ``stages`` of a variant, one after the other: a run folder each, and its options."""
    name = re.sub(r"[^a-z0-9.]+", "-", variant.name.lower()).strip("-")
    runs: dict[Path, TrainOptions] = {}
    before: Path | None = None
    for number, stage in enumerate(stages, 1):
        own = replace(stage, seed=seed)
        if before is not None:
            own = replace(own, init_coarser=before, init_classifier=None)
        before = folder / (f"{name}-{seed}" + (f"-{number}" if len(stages) > 1 else ""))
        runs[before] = own
    return runs


def evaluated(stage: TrainOptions, points: int, images: int) -> TrainOptions:
    """``stage`` with so many evaluations, whatever a step's number of ``images`` of the split."""
    optim = stage.optim
    if points == 1:
        epochs = 0.0
    elif optim.steps:
        epochs = optim.steps / points * optim.batch * optim.accumulate / images
    else:
        epochs = optim.epochs / points
    return replace(stage, evaluate_every=epochs)


def train_variant(
    variant: Variant, seed: int, runs: Mapping[Path, TrainOptions], console: Console
) -> Trained:
    """The stages of a variant, as `runs_of` has them."""
    losses: list[tuple[int, float]] = []
    scores: list[tuple[int, float, float]] = []
    seconds: list[float] = []
    steps: list[int] = []
    for run, own in runs.items():
        train_once(own, run, console)
        before = sum(steps)
        rows = read_training(run)
        losses += [(before + int(row["step"]), row["loss"]) for row in rows]
        steps.append(int(rows[-1]["step"]))
        scores += [
            (before + int(row["step"]), row["mean_iu"], row["pixel_accuracy"])
            for row in read_evaluations(run, [""])[0]
        ]
        seconds.append(float(parse_json((run / SECONDS).read_text("utf-8"))["per_step"]))
    return Trained(variant, seed, losses, scores, seconds, steps, run)


def is_begun(options: TrainOptions, run: Path) -> bool:
    """Whether the folder ``run`` holds a run of ``options``.

    Raises:
        UsageError: it holds one of other options.
    """
    if not RunFolder(run).config.exists():
        return False
    if to_dict(load_config(run)) != to_dict(options):
        raise UsageError(
            f"{run}: holds a run of other options; give another --output, or remove the folder"
        )
    return True


def train_once(options: TrainOptions, run: Path, console: Console) -> Path:
    """A finished run of ``options`` in the folder ``run``, trained now or before.

    Raises:
        UsageError: the folder holds a run of other options.
    """
    timed = TimedConsole(console, options.device)
    begun, seconds = is_begun(options, run), run / SECONDS
    try:
        if not begun:
            train(replace(options, output=run), None, timed, more=True)
        elif not seconds.exists() or not RunFolder(run).metrics.exists():
            train(options, run, timed, more=True)
    except BaseException:
        if timed.per_step:  # what goes on from here may have no step left to time
            with contextlib.suppress(WriteError):
                write_seconds(seconds, timed.per_step)
        raise
    if timed.per_step or not seconds.exists():
        write_seconds(seconds, timed.per_step)
    return run


def write_seconds(path: Path, per_step: float) -> None:
    """Write the time of a run's steps."""
    write_text(path, json.dumps({"per_step": per_step}) + "\n")


class TimedConsole(Console):
    """Takes the time of each training step, and prints nothing of what a run usually prints."""

    def __init__(self, console: Console, device: str) -> None:
        super().__init__(console.stream, plain=True)
        self._console = console
        self._times: list[float] = []
        # Processor time is that of the work alone, whatever else a machine does; it does not tell
        # how long a GPU works.
        self._clock = time.process_time if device == "cpu" else time.perf_counter

    @property
    def per_step(self) -> float:
        """The median, in seconds, of the steps that followed each other; 0 if there are none."""
        return statistics.median(self._times) if self._times else 0.0

    def line(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self._console.warn_once(text)  # most are of the data, which all runs share

    @contextlib.contextmanager
    def progress(
        self, title: str, total: int, start: int = 0, *, images: int = 0
    ) -> Iterator[Advance]:
        last: float | None = self._clock()
        with self._console.progress(title, total, start, images=images) as shown:

            def advance(count: int = 1, text: str = "") -> None:
                nonlocal last
                now = self._clock()
                if title == "training" and count and last is not None:
                    self._times.append((now - last) / count)
                last = now if count else None  # what comes next was not a step alone
                shown(count, text)

            yield advance

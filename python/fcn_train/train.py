"""`fcn train`: from options to a run folder with its report."""

from __future__ import annotations

import contextlib
import shlex
import time
from pathlib import Path
from typing import NamedTuple

from fcn_train.config import load_config, of_types
from fcn_train.console import Console, Silent
from fcn_train.data import fingerprint
from fcn_train.errors import Interrupted, UsageError
from fcn_train.files import check_folder
from fcn_train.lock import locked
from fcn_train.optim_options import OptimOptions
from fcn_train.option_rules import check
from fcn_train.options import TrainOptions
from fcn_train.per_image import ImageCounts
from fcn_train.processes import Processes, joined
from fcn_train.profile import OFF, Profile
from fcn_train.published import check_start, run_name
from fcn_train.run_folder import (
    RUNS,
    RunFolder,
    check_continuation,
    new_run_folder,
    refuse_second_run,
)
from fcn_train.runtime import open_runtime
from fcn_train.signals import StopRequested, StopSignals
from fcn_train.sizes import parse_size
from fcn_train.splits import Splits
from fcn_train.stop import Stop
from fcn_train.training import Training


def train(
    options: TrainOptions,
    run: Path | None = None,
    console: Console | None = None,
    *,
    more: bool = False,
) -> Path:
    """Train, evaluate and report as ``options`` say; returns the run folder.

    ``run`` is a run folder to continue from its newest checkpoint: bit-equal on a CPU to a run
    that was never interrupted, with the same number of threads. If ``options`` have more steps or
    epochs than the run, or another patience, it is trained further, finished or not. With ``more``
    work to follow, Interrupted is also raised for a signal that came too late to stop the training.

    Raises:
        UsageError, DataError: options or files that cannot be used.
        TrainingError: a loss that is not finite, or a disk that refuses a file.
        StateSaved: from any error in the middle of a run, once its state was saved.
        Interrupted: a signal asked for it and the state was saved, or with ``more`` the report.
    """
    here = joined()
    console = (console or Console()) if here.first else Silent()
    options, run = of_types(options, TrainOptions), None if run is None else Path(run)
    check(options)
    refuse_unread(options)
    if run is None:
        here.from_first(lambda: check_start(options))  # which may read a file
    begun = here.from_first(lambda: Begun.of(run, options))
    if run is not None and begun.finished:
        console.line(f"{run}: is finished already, see {RunFolder(run).report}")
        return run
    here.from_first(lambda: check_place(run, options))
    began = time.monotonic()
    runtime = open_runtime(
        options.device,
        options.threads,
        options.amp,
        console.warn,
        channels_last=options.channels_last,
    )
    with here.first_ahead():  # the first writes the sample data set
        splits = Splits(options.data, console.warn)
    if here.first:
        if run is not None:
            splits.check(RunFolder(run).splits)
        elif options.output is not None:
            splits.refuse_folder(options.output, "--output")
        splits.warn_of_overlap(console.warn)
    check_alike(splits, here)
    if options.data.memory:
        splits.keep_in_memory(here.local_size)
    elif options.data.cache:
        size = parse_size(options.data.cache) // here.local_size
        console.line(splits.share_cache(size))
    # All processes start from the network of the first.
    initialize = here.first and not begun.saved
    profile = Profile.on(runtime.device) if options.profile else OFF
    training = Training(
        options, splits, runtime, console, initialize=initialize, profile=profile, began=began
    )
    here.gather()
    if run is None:
        name = run_name(options)
        folder = RunFolder(here.from_first(lambda: new_run_folder(options.output, name).path))
    else:
        folder = RunFolder(run)

    lock = locked(folder.path) if here.first else contextlib.nullcontext()
    with lock, StopSignals() as signals:
        stop = Stop(here, signals)
        here.remember(folder.path)
        if run is None:
            training.begin(folder)
        else:
            training.resume(folder, begun.before, further=begun.further)
        with training.rescuing():
            take_steps(training, stop, console, here, folder)
            per_image = ImageCounts()
            try:
                with console.progress("evaluating", len(splits.val), images=1) as advance:
                    counts = training.evaluate(advance, stop.check, per_image)
            except StopRequested:
                signum = stop.agreed()
                stop.refuse_orphans(signum)
                raise Interrupted(
                    signum, f"stopped after training; {folder.continue_with}"
                ) from None
            finally:
                training.tell_profile()
            training.report(counts, per_image)
    seconds = time.monotonic() - began
    whole = f" ({training.state.seconds:.0f} s in all)" if run is not None else ""
    console.line(f"{folder.report}: written after {seconds:.0f} s{whole}")
    if more and signals.signum is not None:
        raise Interrupted(signals.signum, f"stopped after {folder.report} was written")
    return folder.path


def refuse_unread(options: TrainOptions) -> None:
    """Raises UsageError for options that the command line reads before it calls `train`."""
    for name, remedy in (
        ("resume", "give the folder to train(options, run)"),
        ("config", "give options that have its values"),
    ):
        if getattr(options, name) is not None:
            raise UsageError(f"TrainOptions: {name} is read by the command line alone; {remedy}")


def take_steps(
    training: Training, stop: Stop, console: Console, here: Processes, folder: RunFolder
) -> None:
    """Take all steps that are left, with the evaluations and checkpoints that are due.

    Raises:
        Interrupted: a signal asked for it and the state was saved.
        LostProcess: a torchrun was killed.
    """
    steps = training.schedule.steps
    done = training.state.step
    with console.progress("training", steps, done, images=training.images_per_step) as advance:
        while True:
            if training.evaluation_is_due():
                with contextlib.suppress(StopRequested):
                    training.evaluate(lambda images: advance(0, "evaluating"), stop.check)
            signum = stop.agreed()
            stop.refuse_orphans(signum)
            if training.checkpoint_is_due() or (training.is_ahead() and signum):
                training.save()
            if signum:
                here.gather()  # the first has saved
                step = training.state.step
                training.tell_profile()
                raise Interrupted(signum, f"stopped after step {step}; {folder.continue_with}")
            if training.is_over():
                break
            loss = training.take_step()
            advance(1, f"loss {loss:.4g}")


class Begun(NamedTuple):
    """A run that is to be continued: its planned length ``before``, whether it is to be trained
    ``further`` than that, is ``finished``, and has ``saved`` a checkpoint."""

    before: OptimOptions
    further: bool
    finished: bool
    saved: bool

    @staticmethod
    def of(run: Path | None, options: TrainOptions) -> Begun:
        """Raises UsageError if ``options`` would make ``run`` another run, or if the checkpoints to
        continue from were removed."""
        if run is None:
            return Begun(options.optim, further=False, finished=False, saved=False)
        further, folder = check_continuation(run, options), RunFolder(run)
        finished = not further and folder.metrics.exists()
        saved = folder.newest_checkpoint() is not None
        last = folder.weights("last")
        if not finished and not saved and last.exists():  # checkpoints were removed
            raise UsageError(
                f"{run}: has no checkpoint to go on from, and from its beginning it would replace "
                f"its weights; start another run with --init-weights {shlex.quote(str(run))}, or "
                f"remove {last} to start this one again"
            )
        return Begun(load_config(run).optim, further, finished, saved)


def check_place(run: Path | None, options: TrainOptions) -> None:
    """Find out before all work whether the run's folder can be written."""
    if run is None and options.output is not None:
        refuse_second_run(options.output)
    check_folder(run or options.output or RUNS)


def check_alike(splits: Splits, here: Processes) -> None:
    """Raises UsageError if this process sees other images or classes than the first."""
    mine = [fingerprint(splits.train), fingerprint(splits.val)] if here.several else []
    for split, own, wanted in zip(
        (splits.train, splits.val), mine, here.collected(mine)[0], strict=False
    ):
        if own != wanted:
            raise UsageError(
                f"{split.source}: the images or classes here are not those that the first process "
                f"sees (fingerprint {own}, there {wanted}); give all machines the same data"
            )

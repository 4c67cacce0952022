"""`fcn train`: from options to a run folder with its report."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from fcn_train.console import Console
from fcn_train.errors import Interrupted
from fcn_train.lock import locked
from fcn_train.options import TrainOptions, check
from fcn_train.profile import OFF, Profile
from fcn_train.published import EXPERIMENTS, check_start
from fcn_train.run_folder import RunFolder, check_continuation, new_run_folder
from fcn_train.runtime import open_runtime
from fcn_train.signals import StopRequested, StopSignals
from fcn_train.sizes import parse_size
from fcn_train.splits import Splits
from fcn_train.training import Training


def train(options: TrainOptions, run: Path | None = None, console: Console | None = None) -> Path:
    """Train, evaluate and report as ``options`` say; returns the run folder.

    ``run`` is a run folder to continue from its newest checkpoint: bit-equal on a CPU to a run
    that was never interrupted, with the same number of threads. Where ``options`` say more steps
    or epochs than it has, or another patience, it is trained further, finished or not.

    Raises:
        UsageError, DataError: options or files that cannot be used.
        TrainingError: a loss that is not finite, or a disk that refuses a file.
        StateSaved: from any error in the middle of a run, once its state was saved.
        Interrupted: SIGINT or SIGTERM arrived and the state was saved.
    """
    console = console or Console()
    check(options)
    check_start(options)
    further = run is not None and check_continuation(run, options)
    if run is not None and not further and RunFolder(run).metrics.exists():
        console.line(f"{run}: is finished already, see {RunFolder(run).report}")
        return run
    began = time.monotonic()
    runtime = open_runtime(
        options.device,
        options.threads,
        options.amp,
        console.warn,
        channels_last=options.channels_last,
    )
    splits = Splits(options.data, console.warn)
    if run is not None:
        splits.check(RunFolder(run).splits)
    if options.data.memory:
        splits.keep_in_memory()
    elif options.data.cache:
        console.line(splits.share_cache(parse_size(options.data.cache)))
    resumed = run is not None and RunFolder(run).newest_checkpoint() is not None
    profile = Profile.on(runtime.device) if options.profile else OFF
    training = Training(options, splits, runtime, console, initialize=not resumed, profile=profile)
    if run is None:
        stem = f"{options.data.kind}-{options.model.name}"
        folder = new_run_folder(
            options.output, options.recipe if options.recipe in EXPERIMENTS else stem
        )
    else:
        folder = RunFolder(run)

    with locked(folder.path), StopSignals() as stop:
        if run is None:
            training.begin(folder)
        else:
            training.resume(folder, further=further)
        steps = training.schedule.steps
        images = options.optim.batch * options.optim.accumulate
        done = training.state.step
        with console.progress("training", steps, done, images=images) as advance:
            while True:
                if training.evaluation_is_due():
                    with contextlib.suppress(StopRequested):
                        training.evaluate(lambda images: advance(0, "evaluating"), stop.check)
                if training.checkpoint_is_due() or (training.is_ahead() and stop.signum):
                    training.save()
                if stop.signum:
                    step = training.state.step
                    training.tell_profile()
                    raise Interrupted(
                        stop.signum, f"stopped after step {step}; {folder.continue_with}"
                    )
                if training.is_over():
                    break
                loss = training.take_step()
                advance(1, f"loss {loss:.4g}")
        try:
            with console.progress("evaluating", len(splits.val), images=1) as advance:
                counts = training.evaluate(advance, stop.check)
        except StopRequested:
            raise Interrupted(
                stop.signum or 0, f"stopped after training; {folder.continue_with}"
            ) from None
        training.tell_profile()
        training.report(counts, time.monotonic() - began)
    console.line(f"{folder.report}: written after {time.monotonic() - began:.0f} s")
    return folder.path

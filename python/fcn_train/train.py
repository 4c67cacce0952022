"""The training loop, from options to a run folder with its report."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import FCN
from fcn_train import checkpoint, initialize, machine
from fcn_train.classes import Classes
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.data import SegmentationDataset, TrainLoader, augmentation
from fcn_train.errors import (
    Interrupted,
    LossError,
    StateSaved,
    TrainingError,
    UsageError,
    WriteError,
)
from fcn_train.evaluate import Evaluator
from fcn_train.failures import is_out_of_memory
from fcn_train.files import remove_leftovers, write_text
from fcn_train.lock import locked
from fcn_train.loss import class_weights, pixel_loss
from fcn_train.network import NORMALIZATIONS, build_network
from fcn_train.optim import build_optimizer, lr_factor, set_lr
from fcn_train.options import TrainOptions, check
from fcn_train.report import summary, to_json, write_report
from fcn_train.run_folder import RunFolder, check_continuation, new_run_folder, refuse_second_run
from fcn_train.runtime import open_runtime
from fcn_train.schedule import Schedule
from fcn_train.signals import StopRequested, StopSignals, lost_workers_held_back
from fcn_train.splits import Splits
from fcn_train.state import TrainingState
from fcn_train.step import average_gradients, batch_seed
from fcn_train.weights import save_weights


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
    further = run is not None and check_continuation(run, options)
    if run is not None and not further and RunFolder(run).metrics.exists():
        console.line(f"{run}: is finished already, see {RunFolder(run).report}")
        return run
    began = time.monotonic()
    data, optim = options.data, options.optim
    runtime = open_runtime(
        options.device,
        options.threads,
        options.amp,
        console.warn,
        channels_last=options.channels_last,
    )
    normalization = NORMALIZATIONS[options.model.input]
    workers = runtime.workers(data.workers)
    splits = Splits(data)
    if run is not None:
        splits.check(RunFolder(run).splits)
    if data.memory:
        splits.keep_in_memory()
    machine.check_memory(
        optim.batch * data.crop**2 * 4 * 3, "a batch of images", "give a smaller --data.crop"
    )
    schedule = Schedule.of(
        optim,
        len(splits.train),
        evaluate_every=options.evaluate_every,
        checkpoint_every=options.checkpoint_every,
    )
    resumed = run is not None and RunFolder(run).newest_checkpoint() is not None
    model = runtime.place(initial_network(options, splits.train, resumed, console.line))
    state = TrainingState(model, build_optimizer(model, optim, runtime.device))
    loss = functools.partial(
        pixel_loss,
        reduction=optim.loss,
        weight=class_weights(optim.class_weights, splits.train, runtime.device),
        logits=options.logits,
    )
    loader = TrainLoader(
        splits.train,
        augmentation(mirror=data.mirror, scale=data.scale, crop=data.crop),
        normalization,
        batch_size=optim.batch,
        seed=options.seed,
        replacement=data.sampling == "replacement",
        workers=workers,
        pin_memory=runtime.on_gpu,
    )
    evaluator = Evaluator(
        splits.val,
        runtime,
        normalization,
        batch=optim.batch,
        logits=options.logits,
        workers=workers,
    )
    if run is None:
        folder = new_run_folder(options.output, f"{data.kind}-{options.model.name}")
    else:
        folder = RunFolder(run)

    def evaluate(show: Callable[[int], None]) -> ConfusionMatrix:
        """Score the network as it is; StopRequested ends it without a trace."""

        def seen(images: int) -> None:
            show(images)
            stop.check()

        matrix = evaluator.count(model, seen)
        scores, step = matrix.compute(), state.step
        if not state.history.evaluated(step):
            with lost_workers_held_back():
                # The weights first: a history that knows of them is never without them.
                if state.history.is_best(scores):
                    save_weights(folder.weights("best"), state.weights())
                state.history.add_scores(step, schedule.epoch(step), scores)
            console.line(f"step {step}/{schedule.steps}: {summary(scores)}")
        return matrix

    def save() -> None:
        checkpoint.save_checkpoint(
            folder.checkpoints, state.step, state.weights(), state.progress()
        )
        state.history.write(folder.path)

    @contextlib.contextmanager
    def rescuing() -> Iterator[None]:
        """Before an error in the block ends the run, save what is whole: all of it, then."""
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
            nothing_new = state.step == start or not state.whole
            if nothing_new or isinstance(error, (StopRequested, LossError)):
                raise
            try:
                newest = folder.newest_checkpoint()
                if newest is None or checkpoint.step_of(newest) != state.step:
                    with lost_workers_held_back(forget=True):
                        save()
            except WriteError:
                raise error from None
            if isinstance(error, BrokenPipeError):
                raise  # nobody reads what is said
            raise StateSaved(
                f"The state after step {state.step} is saved; {folder.continue_with}"
            ) from error

    with locked(folder.path):
        if run is None:
            refuse_second_run(folder.path)
        else:
            checkpoint.restore_newest(folder.checkpoints, state.restore, console.warn)
        if state.step > schedule.steps:
            raise UsageError(
                f"{folder.path}: has taken {state.step} steps, more than {schedule.steps}; "
                "give more --optim.steps or --optim.epochs"
            )
        start = state.step
        start_files(folder, options, splits, further)
        write_text(folder.environment, to_json(runtime.environment()))
        console.line(
            f"{folder.path}: {options.model.name} with "
            f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(splits.train)} "
            f"images of {splits.train.name}, "
            f"{f'steps {start} to {schedule.steps}' if start else f'{schedule.steps} steps'} of "
            f"{optim.batch * optim.accumulate} images, on {runtime.device}"
        )
        with StopSignals() as stop:
            batches = loader.batches(start * optim.accumulate, schedule.steps * optim.accumulate)
            model.train()
            with console.progress("training", schedule.steps, start) as advance:
                while True:
                    due = schedule.evaluates_after(state.step) or (further and state.step == start)
                    if due and state.step and not state.history.evaluated(state.step):
                        with contextlib.suppress(StopRequested), rescuing():
                            evaluate(lambda images: advance(0, "evaluating"))
                    if state.step > start and (schedule.saves_after(state.step) or stop.signum):
                        with rescuing(), lost_workers_held_back():
                            save()
                    if stop.signum:
                        raise Interrupted(
                            stop.signum, f"stopped after step {state.step}; {folder.continue_with}"
                        )
                    if state.step == schedule.steps or state.history.stale(options.patience):
                        break

                    factor = lr_factor(state.step, schedule.steps, optim)
                    set_lr(state.optimizer, factor)
                    first = state.step * optim.accumulate
                    numbers = range(first, first + optim.accumulate)
                    seeded = ((batch_seed(options.seed, n), next(batches)) for n in numbers)
                    try:
                        with rescuing():
                            value = average_gradients(
                                model, loss, seeded, optim.accumulate, runtime
                            )
                            with lost_workers_held_back():
                                state.update(value, optim.lr * factor, schedule, options.log_every)
                    except LossError as error:
                        raise TrainingError(
                            f"step {state.step + 1}: {error}. {kept(folder)}"
                        ) from None
                    advance(1, f"loss {value:.4g}")

            if state.step < schedule.steps:
                console.line(
                    f"step {state.step}: mean IU has not risen for {options.patience} evaluations, "
                    "training ends"
                )
            try:
                with console.progress("evaluating", len(splits.val)) as advance, rescuing():
                    matrix = evaluate(advance)
            except StopRequested:
                raise Interrupted(
                    stop.signum or 0, f"stopped after training; {folder.continue_with}"
                ) from None
            save_weights(folder.weights("last"), state.weights())
            write_report(
                folder.path,
                title=f"{options.model.name} on {splits.train.name}",
                facts={
                    "split": data.val_split,
                    "images": len(splits.val),
                    "steps": state.step,
                    "seconds": round(time.monotonic() - began, 1),
                },
                scores=matrix.compute(),
                matrix=matrix.matrix.cpu().numpy(),
                classes=Classes.of(splits.val),
                rows=evaluator.pictures(model),
                history=state.history,
                config=to_dict(options),
                environment=runtime.environment(),
            )
    console.line(f"{folder.report}: written after {time.monotonic() - began:.0f} s")
    return folder.path


def initial_network(
    options: TrainOptions,
    train_set: SegmentationDataset,
    resumed: bool,
    say: Callable[[str], None],
) -> FCN:
    """The network of step 0; a resumed one is about to be overwritten and needs no sources."""
    torch.manual_seed(options.seed)
    model = build_network(options.model, train_set.num_classes)
    if not resumed:
        if options.init_classifier:
            initialize.from_classifier(model, options.init_classifier)
        if options.init_coarser:
            initialize.from_coarser(model, options.init_coarser, train_set)
        if options.init_weights:
            say(initialize.from_weights(model, options.init_weights, train_set.class_names))
    return model


def start_files(folder: RunFolder, options: TrainOptions, splits: Splits, further: bool) -> None:
    """What a run starts with, its configuration last; of a continued one what is missing.

    What a run that is trained further has finished with is removed.
    """
    remove_leftovers(folder.path, locked=True)
    remove_leftovers(folder.checkpoints, locked=True)
    if further:
        folder.metrics.unlink(missing_ok=True)
        folder.weights("last").unlink(missing_ok=True)
    if not folder.classes.exists():
        Classes.of(splits.train).save(folder.classes)
    if not folder.splits.exists():
        splits.record(folder.splits)
    if further or not folder.config.exists():
        write_text(folder.config, to_json(to_dict(options)))


def kept(folder: RunFolder) -> str:
    saved = folder.newest_checkpoint()
    return f"The last good state is {saved}" if saved else "No checkpoint was written yet"

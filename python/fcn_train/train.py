"""The training loop, from options to a run folder with its report."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import FCN
from fcn_train import checkpoint, initialize
from fcn_train.classes import Classes
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.data import MemoryDataset, SegmentationDataset, TrainLoader, augmentation
from fcn_train.errors import Interrupted, TrainingError
from fcn_train.evaluate import Evaluator
from fcn_train.history import History
from fcn_train.loss import class_weights, pixel_loss
from fcn_train.network import NORMALIZATIONS, build_network
from fcn_train.optim import build_optimizer, lr_factor, set_lr
from fcn_train.options import DataOptions, TrainOptions, check
from fcn_train.report import summary, to_json, write_report
from fcn_train.run import check_classes, load_run, open_split
from fcn_train.run_folder import RunFolder, check_continuation, new_run_folder
from fcn_train.runtime import Runtime, resolve_device, set_threads
from fcn_train.schedule import Schedule
from fcn_train.signals import StopRequested, StopSignals
from fcn_train.step import average_gradients, batch_seed


def train(options: TrainOptions, run: Path | None = None, console: Console | None = None) -> Path:
    """Train, evaluate and report as ``options`` say; returns the run folder.

    ``run`` is a run folder to continue from its newest checkpoint: bit-equal on a CPU to a run
    that was never interrupted, with the same number of threads.

    Raises:
        UsageError, DataError: options or files that cannot be used.
        TrainingError: a loss that is not finite, or a disk that refuses a checkpoint.
        Interrupted: SIGINT or SIGTERM arrived and the state was saved.
    """
    console = console or Console()
    check(options)
    if run is not None:
        check_continuation(run, options)
        if RunFolder(run).metrics.exists():
            console.line(f"{run}: is finished already, see {RunFolder(run).report}")
            return run
    began = time.monotonic()
    data, optim = options.data, options.optim
    set_threads(options.threads)
    runtime = Runtime(resolve_device(options.device), options.amp, options.channels_last)
    normalization = NORMALIZATIONS[options.model.input]
    workers = runtime.workers(data.workers)
    train_set, val_set = open_splits(data)
    schedule = Schedule.of(
        optim,
        len(train_set),
        evaluate_every=options.evaluate_every,
        checkpoint_every=options.checkpoint_every,
    )
    steps = schedule.steps

    last = None
    if run is not None:
        last = checkpoint.load_newest(RunFolder(run).checkpoints, console.warn)
    model = initial_network(options, train_set, resumed=last is not None)
    runtime.place(model)
    optimizer = build_optimizer(model, optim, runtime.device)
    loss = functools.partial(
        pixel_loss,
        reduction=optim.loss,
        weight=class_weights(optim.class_weights, train_set, runtime.device),
        logits=options.logits,
    )
    loader = TrainLoader(
        train_set,
        augmentation(mirror=data.mirror, scale=data.scale, crop=data.crop),
        normalization,
        batch_size=optim.batch,
        seed=options.seed,
        replacement=data.sampling == "replacement",
        workers=workers,
        pin_memory=runtime.on_gpu,
    )
    evaluator = Evaluator(
        val_set,
        runtime,
        normalization,
        batch=optim.batch,
        logits=options.logits,
        workers=workers,
    )

    start, history = 0, History()
    if run is None:
        folder = new_run_folder(options.output, f"{data.kind}-{options.model.name}")
        checkpoint.write_text(folder.config, to_json(to_dict(options)))
        Classes.of(train_set).save(folder.classes)
    else:
        folder = RunFolder(run)
    if last is not None:
        model.load_state_dict(last.weights)
        optimizer.load_state_dict(last.state["optimizer"])
        start, history = last.step, History(**last.state["history"])
    checkpoint.write_text(folder.environment, to_json(runtime.environment()))
    console.line(
        f"{folder.path}: {options.model.name} with {sum(p.numel() for p in model.parameters()):,} "
        f"parameters, {len(train_set)} images of {train_set.name}, "
        f"{f'steps {start} to {steps}' if start else f'{steps} steps'} of "
        f"{optim.batch * optim.accumulate} images, on {runtime.device}"
    )

    def evaluate(step: int, show: Callable[[int], None]) -> ConfusionMatrix:
        """Score the network after ``step``; StopRequested ends it without a trace."""

        def seen(images: int) -> None:
            show(images)
            stop.check()

        matrix = evaluator.count(model, seen)
        scores = matrix.compute()
        if history.add_scores(step, schedule.epoch(step), scores):
            checkpoint.save_weights(folder.weights("best"), model.state_dict())
        console.line(f"step {step}/{steps}: {summary(scores)}")
        return matrix

    def save(step: int) -> None:
        state = {"optimizer": optimizer.state_dict(), "history": history.state()}
        checkpoint.save_checkpoint(folder.checkpoints, step, model.state_dict(), state)
        history.write(folder.path)

    with StopSignals() as stop:
        batches = loader.batches(start * optim.accumulate, steps * optim.accumulate)
        model.train()
        with console.progress("training", steps, start) as advance:
            for step in range(start, steps + 1):
                if schedule.evaluates_after(step) and not history.evaluated(step):
                    with contextlib.suppress(StopRequested):
                        evaluate(step, lambda images: advance(0, "evaluating"))
                if step > start and (schedule.saves_after(step) or stop.signum):
                    save(step)
                if stop.signum:
                    raise Interrupted(
                        stop.signum, f"stopped after step {step}; {folder.continue_with}"
                    )
                if step == steps:
                    break

                factor = lr_factor(step, steps, optim)
                set_lr(optimizer, factor)
                first = step * optim.accumulate
                numbers = range(first, first + optim.accumulate)
                seeded = ((batch_seed(options.seed, n), next(batches)) for n in numbers)
                try:
                    value = average_gradients(model, loss, seeded, optim.accumulate, runtime)
                except TrainingError as error:
                    raise TrainingError(f"step {step + 1}: {error}. {kept(folder)}") from None
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                every = 1 if step + 1 == steps else options.log_every
                history.add_loss(
                    step + 1, schedule.epoch(step + 1), optim.lr * factor, value, every
                )
                advance(1, f"loss {value:.4g}")

        try:
            with console.progress("evaluating", len(val_set)) as advance:
                matrix = evaluate(steps, advance)
        except StopRequested:
            raise Interrupted(
                stop.signum or 0, f"stopped after training; {folder.continue_with}"
            ) from None
        checkpoint.save_weights(folder.weights("last"), model.state_dict())
        write_report(
            folder.path,
            title=f"{options.model.name} on {train_set.name}",
            facts={
                "split": data.val_split,
                "images": len(val_set),
                "steps": steps,
                "seconds": round(time.monotonic() - began, 1),
            },
            scores=matrix.compute(),
            matrix=matrix.matrix.cpu().numpy(),
            classes=Classes.of(val_set),
            rows=evaluator.pictures(model),
            history=history,
            config=to_dict(options),
            environment=runtime.environment(),
        )
    console.line(f"{folder.report}: written after {time.monotonic() - began:.0f} s")
    return folder.path


def open_splits(data: DataOptions) -> tuple[SegmentationDataset, SegmentationDataset]:
    train_set = open_split(data, data.train_split)
    val_set = open_split(data, data.val_split)
    if data.memory:
        train_set, val_set = MemoryDataset(train_set), MemoryDataset(val_set)
    return train_set, val_set


def initial_network(options: TrainOptions, train_set: SegmentationDataset, resumed: bool) -> FCN:
    """The network of step 0; a resumed one is about to be overwritten and needs no sources."""
    torch.manual_seed(options.seed)
    model = build_network(options.model, train_set.num_classes)
    if options.init_classifier and not resumed:
        initialize.from_classifier(model, options.init_classifier)
    if options.init_coarser and not resumed:
        coarser = load_run(options.init_coarser)
        check_classes(coarser, train_set)
        initialize.from_coarser(model, coarser.model, options.init_coarser)
    return model


def kept(folder: RunFolder) -> str:
    saved = folder.newest_checkpoint()
    return f"The last good state is {saved}" if saved else "No checkpoint was written yet"

"""The training loop, from options to a run folder with its report.

The random numbers of a batch follow from the seed and its number alone, for the images (see
``fcn_train.data.loader``) as for dropout. So a checkpoint needs no generator's state, and an
interrupted run continues with the bits of the unbroken one.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fcn_ext.metrics import Scores
from fcn_ext.models import FCN
from fcn_train import checkpoint
from fcn_train import run as runs
from fcn_train.config import to_dict
from fcn_train.console import Console
from fcn_train.data import (
    ClassWatch,
    SegmentationDataset,
    TrainLoader,
    absent_classes,
    augmentation,
    opening,
)
from fcn_train.errors import Interrupted, TrainingError
from fcn_train.evaluate import PICTURES, evaluate, new_matrix, picture_rows
from fcn_train.history import History
from fcn_train.network import (
    NORMALISATIONS,
    Runtime,
    build_network,
    initialise_from_classifier,
    initialise_from_coarser,
    resolve_device,
)
from fcn_train.optim import build_optimizer, loss_weights, lr_factor, pixel_loss, set_lr
from fcn_train.options import TrainOptions, check
from fcn_train.report import summary, to_json, write_report
from fcn_train.signals import StopRequested, StopSignals


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
    if run is not None and (run / runs.METRICS).exists():
        console.line(f"{run}: is finished already, see {run / 'report.html'}")
        return run
    check(options)
    began = time.monotonic()
    data, optim = options.data, options.optim
    device = resolve_device(options.device, options.threads)
    runtime = Runtime(device, options.amp, options.channels_last)
    normalisation = NORMALISATIONS[options.model.input]
    workers = runtime.workers(data.workers)

    train_set, val_set = open_splits(options, console)
    last = checkpoint.load_newest(run / runs.CHECKPOINTS, console.warn) if run else None
    model = initial_network(options, train_set, resumed=last is not None)
    runtime.place(model)
    optimizer = build_optimizer(model, optim, device)
    weights = loss_weights(optim.class_weights, train_set, device)
    loader = TrainLoader(
        train_set,
        augmentation(mirror=data.mirror, scale=data.scale, crop=data.crop),
        normalisation,
        batch_size=optim.batch,
        seed=options.seed,
        replacement=data.sampling == "replacement",
        workers=workers,
        pin_memory=runtime.on_gpu,
    )
    watch = ClassWatch(train_set, console.warn)
    steps_per_epoch = len(train_set) / (optim.batch * optim.accumulate)
    total = optim.steps or math.ceil(optim.epochs * steps_per_epoch)
    evaluate_every = round(options.evaluate_every * steps_per_epoch) or total

    start, history = 0, History()
    if run is None:
        run = runs.new_run_folder(options)
        checkpoint.write_text(run / runs.CONFIG, to_json(to_dict(options)))
        runs.Classes.of(train_set).save(run / runs.CLASSES)
    if last is not None:
        model.load_state_dict(last.weights)
        optimizer.load_state_dict(last.state["optimizer"])
        start, history = last.step, History(**last.state["history"])
    checkpoint.write_text(run / runs.ENVIRONMENT, to_json(runs.environment(device)))
    console.line(
        f"{run}: {options.model.name} with {sum(p.numel() for p in model.parameters()):,} "
        f"parameters, {len(train_set)} images of {train_set.name}, "
        f"{f'steps {start} to {total}' if start else f'{total} steps'} of "
        f"{optim.batch * optim.accumulate} images, on {device}"
    )

    def validate(show: Callable[[int], None]) -> tuple[Scores, np.ndarray]:
        counts = new_matrix(val_set, runtime)

        def seen(images: int) -> None:
            show(images)
            stop.check()

        scores = evaluate(
            model,
            val_set,
            runtime,
            normalisation,
            batch=optim.batch,
            head=options.head,
            workers=workers,
            matrix=counts,
            advance=seen,
        )
        return scores, counts.matrix.cpu().numpy()

    def record(step: int, scores: Scores) -> None:
        if history.add_scores(step, step / steps_per_epoch, scores):
            checkpoint.save_weights(run / "best.safetensors", model.state_dict())
        console.line(f"step {step}/{total}: {summary(scores)}")

    with StopSignals() as stop:
        batches = loader.batches(start * optim.accumulate, total * optim.accumulate)
        model.train()
        with console.progress("training", total, start) as advance:
            for step in range(start, total + 1):
                due = 0 < step < total and step % evaluate_every == 0
                if due and not history.evaluated(step):
                    with contextlib.suppress(StopRequested):
                        record(step, validate(lambda images: advance(0, "evaluating"))[0])
                wanted = due or step == total or step % options.checkpoint_every == 0
                if step > start and (wanted or stop.signum):
                    state = {"optimizer": optimizer.state_dict(), "history": history.state()}
                    folder = run / runs.CHECKPOINTS
                    checkpoint.save_checkpoint(folder, step, model.state_dict(), state)
                    history.write(run)
                if stop.signum:
                    raise Interrupted(stop.signum, f"stopped after step {step}; {again(run)}")
                if step == total:
                    break

                factor = lr_factor(step, total, optim)
                set_lr(optimizer, factor)
                value, ids = torch.zeros((), device=device), list[str]()
                for number in range(step * optim.accumulate, (step + 1) * optim.accumulate):
                    batch = next(batches)
                    watch.add(batch.targets)
                    torch.manual_seed(batch_seed(options.seed, number))
                    images, target = runtime.images(batch.images), runtime.targets(batch.targets)
                    with runtime.autocast():
                        loss = pixel_loss(model, images, target, optim.loss, weights, options.head)
                    (loss / optim.accumulate).backward()
                    value += loss.detach() / optim.accumulate
                    ids += batch.ids
                mean_loss = value.item()
                if not math.isfinite(mean_loss):
                    raise TrainingError(
                        f"step {step + 1}: the loss is {mean_loss} on the images {', '.join(ids)}; "
                        f"try a lower --optim.lr. {kept(run)}"
                    )
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                epoch = (step + 1) / steps_per_epoch
                every = 1 if step + 1 == total else options.log_every
                history.add_loss(step + 1, epoch, optim.lr * factor, mean_loss, every)
                advance(1, f"loss {mean_loss:.4g}")

        try:
            with console.progress("evaluating", len(val_set)) as advance:
                scores, matrix = validate(advance)
        except StopRequested:
            raise Interrupted(stop.signum or 0, f"stopped after training; {again(run)}") from None
        record(total, scores)
        if lack := absent_classes(val_set, matrix.sum(1)):
            console.warn(f"{val_set.source}: {lack}")
        checkpoint.save_weights(run / "last.safetensors", model.state_dict())
        write_report(
            run,
            title=f"{options.model.name} on {train_set.name}",
            facts={
                "split": data.val_split,
                "images": len(val_set),
                "steps": total,
                "seconds": round(time.monotonic() - began, 1),
            },
            scores=scores,
            matrix=matrix,
            classes=runs.Classes.of(val_set),
            rows=picture_rows(model, val_set, runtime, normalisation, PICTURES),
            history=history,
            config=to_dict(options),
            environment=runs.environment(device),
        )
    console.line(f"{run / 'report.html'}: written after {time.monotonic() - began:.0f} s")
    return run


def open_splits(
    options: TrainOptions, console: Console | None = None
) -> tuple[SegmentationDataset, SegmentationDataset]:
    return opening.open_splits(options.data, (console or Console()).warn)


def initial_network(options: TrainOptions, train_set: SegmentationDataset, resumed: bool) -> FCN:
    """The network of step 0; a resumed one is about to be overwritten and needs no sources."""
    torch.manual_seed(options.seed)
    model = build_network(options.model, train_set.num_classes)
    if options.init_classifier and not resumed:
        initialise_from_classifier(model, options.init_classifier)
    if options.init_coarser and not resumed:
        coarser = runs.load_run(options.init_coarser)
        runs.check_classes(coarser, train_set)
        initialise_from_coarser(model, coarser.model, options.init_coarser)
    return model


def batch_seed(seed: int, number: int) -> int:
    """Seed of the generator for one forward pass (dropout)."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])


def again(run: Path) -> str:
    return f"continue with: fcn train --resume {shlex.quote(str(run))}"


def kept(run: Path) -> str:
    saved = checkpoint.checkpoints(run / runs.CHECKPOINTS)
    return f"The last good state is {saved[-1]}" if saved else "No checkpoint was written yet"

"""A run in progress: the parts of the loop of `fcn train`, one method each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fcn_train import checkpoint, machine
from fcn_train.average import Average
from fcn_train.compiling import compile_steps
from fcn_train.console import Console
from fcn_train.data.depth import NUM_CHANNELS
from fcn_train.evaluator import Counts, Evaluator, scores_of
from fcn_train.event_files import EventFile
from fcn_train.finish import finish
from fcn_train.heads import in_order
from fcn_train.initialize import initial_network
from fcn_train.network import described, normalization_of
from fcn_train.optim import build_optimizer, lr_factor, set_lr
from fcn_train.optim_options import OptimOptions
from fcn_train.options import TrainOptions
from fcn_train.per_image import ImageCounts
from fcn_train.precision import Scaler
from fcn_train.profile import OFF, OPTIMIZER, SAVING, VALIDATION, Profile
from fcn_train.report import summary
from fcn_train.rescue import rescuing
from fcn_train.run_folder import RunFolder, check_length, refuse_second_run
from fcn_train.run_start import write_run_start
from fcn_train.runtime import Runtime
from fcn_train.schedule import Schedule
from fcn_train.signals import lost_workers_held_back
from fcn_train.splits import Splits
from fcn_train.state import TrainingState
from fcn_train.step import average_gradients
from fcn_train.step_batches import StepBatches
from fcn_train.step_loss import StepLoss
from fcn_train.weights import save_weights
from fcn_train.words import counted


class Training:
    """A network, the data it learns from and is scored on, and the folder of its run.

    Args:
        options: what to train, and how.
        splits: the images.
        runtime: where the network runs.
        console: shows the progress.
        initialize: start from the weights that the options name. A run that is continued from a
            checkpoint no longer needs them.
        profile: measures where the time goes.
        began: the reading of ``time.monotonic()`` when the work began, if not now.

    Attributes:
        state: what changes from step to step.
        schedule: how long the run is, and when it is scored and saved.
        images_per_step: for all processes together.
    """

    def __init__(
        self,
        options: TrainOptions,
        splits: Splits,
        runtime: Runtime,
        console: Console,
        *,
        initialize: bool,
        profile: Profile = OFF,
        began: float | None = None,
    ) -> None:
        data, optim = options.data, options.optim
        normalization = normalization_of(options.model)
        self._options = options
        self._splits = splits
        self._runtime = runtime
        self._console = console
        self._profile = profile
        self._here = here = runtime.processes
        self.schedule = Schedule.of(
            optim,
            len(splits.train),
            evaluate_every=options.evaluate_every,
            checkpoint_every=options.checkpoint_every,
        )
        model = initial_network(options, splits.train, initialize, console.line, console.warn)
        runtime.place(model)
        # Also for networks with random weights, and before their average begins.
        here.copy_first([*model.parameters(), *model.buffers()])
        if options.compile:
            compile_steps(model, runtime.device)
        profile.watch(model)
        self.state = TrainingState(
            model,
            build_optimizer(model, optim, runtime.device),
            clip_norm=optim.clip_norm,
            average=Average(model, optim.ema) if optim.ema else None,
            scaler=Scaler(runtime.device) if runtime.amp == "fp16" else None,
            began=began,
        )
        self.images_per_step = optim.batch * optim.accumulate
        label_sets = self.state.history.label_sets
        self._loss = StepLoss(options, model, splits.train, runtime, label_sets)
        parts = self._loss.parts
        channels = NUM_CHANNELS[splits.train.channels]
        machine.check_memory(
            max(map(len, parts)) * data.crop**2 * channels * 4,
            what="a batch of images",
            remedy="give a smaller --data.crop",
        )
        self._step_batches = StepBatches(
            options, splits, runtime, normalization, parts, console, profile
        )
        self._evaluator = Evaluator(
            splits.val,
            runtime,
            normalization,
            batch=optim.batch,
            logits=options.logits,
            workers=runtime.workers(data.workers),
            as_bytes=data.transfer == "uint8",
        )
        self._further = False
        self._events: EventFile | None = None

    def begin(self, folder: RunFolder) -> None:
        """Start in a new folder, which this process has locked."""
        if self._here.first:
            refuse_second_run(folder.path)
        self._enter(folder)

    def resume(self, folder: RunFolder, before: OptimOptions, *, further: bool) -> None:
        """Continue from the newest usable checkpoint, or from the start if there is none.

        Args:
            folder: that of the run, which this process has locked.
            before: how long the run was to be.
            further: whether the run is made longer than that.

        Raises:
            UsageError: the run would become shorter, or no checkpoint can be used.
        """
        state = self.state
        saved = self._here.from_first(
            lambda: checkpoint.restore_newest(folder.checkpoints, state.restore, self._console.warn)
        )
        if saved is not None and not self._here.first:
            state.restore(saved)
        optim, images = self._options.optim, len(self._splits.train)
        check_length(folder.path, state.step, before, optim, images)
        self._further = further
        if further and 0 < state.step < self.schedule.steps:
            state.history.extended = state.step
            if self._here.first:
                # Before the run is recorded as longer: if this process is killed, the next one then
                # scores the former end, too, and does not mistake it for an end by patience.
                self._save_checkpoint(folder)
        self._enter(folder)

    def rescuing(self) -> contextlib.AbstractContextManager[None]:
        """For all that follows ``begin`` or ``resume``: :func:`fcn_train.rescue.rescuing`."""
        return rescuing(self.state, self._folder, self._here, self.is_ahead, self._save)

    def evaluation_is_due(self) -> bool:
        """Also where a run was made longer: the score of its former end may be lost."""
        step, history = self.state.step, self.state.history
        was_end = step == history.extended and step < self.schedule.steps
        due = self.schedule.evaluates_after(step) or was_end
        return due and step > 0 and not history.evaluated(step)

    def checkpoint_is_due(self) -> bool:
        return self.is_ahead() and self.schedule.saves_after(self.state.step)

    def is_ahead(self) -> bool:
        """Whether a step was taken since the run was begun or resumed."""
        return self.state.step > self._start

    def is_over(self) -> bool:
        """Whether all steps are taken, or the score has not risen for ``patience`` evaluations."""
        patience, schedule = self._options.patience, self.schedule
        stale = self.state.history.stale(patience, schedule.evaluate_every)
        if self.state.step < schedule.steps and stale:
            evaluations = counted(patience, "evaluation")
            self._console.line(
                f"step {self.state.step}: mean IU has not risen for {evaluations}, training ends"
            )
            return True
        return self.state.step == schedule.steps

    def take_step(self) -> float:
        """Learn from the next images; returns their mean loss."""
        state, optim = self.state, self._options.optim
        factor = lr_factor(state.step, self.schedule.steps, optim)
        set_lr(state.optimizer, factor)
        loss = average_gradients(
            state.model,
            self._loss,
            self._step_batches.of(state.step),
            count=optim.accumulate,
            runtime=self._runtime,
            scaler=state.scaler,
            profile=self._profile,
        )
        with self._profile.part(OPTIMIZER), lost_workers_held_back():
            state.history.note_heads(self._loss.of_heads())
            state.update(loss, optim.lr * factor, self.schedule, self._options.log_every)
        self._show()
        self._profile.step_is_over()
        return loss

    def evaluate(
        self,
        show: Callable[[int], None],
        check: Callable[[], None],
        per_image: ImageCounts | None = None,
    ) -> Counts:
        """Score the network and record the scores; returns the counts of the val split.

        Args:
            show: called with the number of images after each batch.
            check: also called after each batch; if it raises StopRequested, the evaluation ends and
                leaves nothing.
            per_image: collects the counts of each image.
        """

        def seen(images: int) -> None:
            show(images)
            check()

        state, schedule = self.state, self.schedule
        with self._profile.part(VALIDATION):
            with state.scored():
                self._here.copy_first(state.model.buffers())
                counts = self._evaluator.count(state.model, seen, per_image)
            scores = scores_of(counts)
            if not state.history.evaluated(state.step):
                with lost_workers_held_back():
                    # The weights first, so that a history never refers to weights that were not
                    # saved.
                    first, *more = in_order(scores)
                    if state.history.is_best(first) and self._here.first:
                        self._keep("best")
                    state.history.add_scores(state.step, schedule.epoch(state.step), first, *more)
                self._show()
                self._console.line(f"step {state.step}/{schedule.steps}: {summary(scores)}")
        return counts

    def save(self) -> None:
        """Write a checkpoint and the tables."""
        if not self._here.first:
            return
        with self._profile.part(SAVING), lost_workers_held_back():
            self._save()

    def tell_profile(self) -> None:
        """Write where the time went so far, if that is measured, into the folder and on the
        console."""
        if not self._here.first:
            return
        for line in self._profile.write(self._folder.path / "profile.csv"):
            self._console.line(line)

    def report(self, counts: Counts, per_image: ImageCounts) -> None:
        """Write the last weights and the report of ``counts`` and ``per_image``, those of the val
        split."""
        if not self._here.first:
            return
        state = self.state
        for remark in self._evaluator.remarks(counts, per_image):
            self._console.warn(remark)
        self._keep("last")
        with state.scored():
            results = self._evaluator.results(state.model, counts, per_image)
        finish(
            self._folder,
            options=self._options,
            splits=self._splits,
            state=state,
            results=results,
            environment=self._runtime.environment(),
            console=self._console,
        )

    def _enter(self, folder: RunFolder) -> None:
        """Make ``folder`` the folder of the run: write what is missing, the configuration last."""
        options, state = self._options, self.state
        self._folder = folder
        self._start = state.step
        if self._here.first:
            environment = self._runtime.environment()
            write_run_start(folder, options, self._splits, environment, further=self._further)
            if options.tensorboard:
                self._events = EventFile(folder.path)
                self._show()
        steps, here = self.schedule.steps, self._here
        self._console.line(
            f"{folder.path}: {described(options.model.name, state.model)}, "
            f"{counted(len(self._splits.train), 'image')} of {self._splits.train.name}, "
            f"{f'steps {self._start} to {steps}' if self._start else counted(steps, 'step')} of "
            f"{counted(self.images_per_step, 'image')}, on {self._runtime.device}"
            + (f" in {here.size} processes" if here.several else "")
        )
        state.model.train()
        shared = self._loss.share(self._console.warn) if self._here.several else None
        self._profile.start()
        self._step_batches.start(self._start, steps, shared)

    def _keep(self, which: str) -> None:
        for name, weights in self.state.kept(which).items():
            save_weights(self._folder.weights(name), weights)

    def _show(self) -> None:
        """Write what was logged so far for TensorBoard."""
        if self._events is not None:
            self._events.follow(self.state.history)

    def _save(self) -> None:
        self._save_checkpoint(self._folder)
        self.state.history.write(self._folder.path)

    def _save_checkpoint(self, folder: RunFolder) -> None:
        state = self.state
        checkpoint.save_checkpoint(
            folder.checkpoints, state.step, state.weights(), state.progress()
        )

"""The state of a training: everything that changes during it and is kept in checkpoints."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import torch
from torch import Tensor

from fcn_train.average import Average
from fcn_train.checkpoint import Checkpoint
from fcn_train.clipping import clip_gradients
from fcn_train.errors import UsageError
from fcn_train.heads import Net, head_names
from fcn_train.history import History
from fcn_train.precision import Scaler
from fcn_train.run_folder import RAW
from fcn_train.schedule import Schedule
from fcn_train.words import counted

# The parts of an optimizer's parameter groups that follow from the options (momentum is SGD's,
# betas are AdamW's).
FIXED = ("name", "base_lr", "weight_decay", "momentum", "betas")


class TrainingState:
    """A network, its optimizer, what it has logged, and how many steps it has taken.

    Attributes:
        average: the average of the network's weights, if there is one.
        scaler: the loss scaler for float16.
        began: the reading of ``time.monotonic()`` when this process began to work at the run.
        whole: False after an interrupted update: the state can then not be saved.
    """

    def __init__(
        self,
        model: Net,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float = 0.0,
        average: Average | None = None,
        scaler: Scaler | None = None,
        began: float | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.average = average
        self.scaler = scaler
        self._clip_norm = clip_norm
        self.history = History(label_sets=head_names(model))
        self.step = 0
        self.whole = True
        self._began = time.monotonic() if began is None else began
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """How long the run has been trained: in this process, and in earlier ones up to the
        checkpoints that were continued from."""
        return self._seconds_before + time.monotonic() - self._began

    def update(self, loss: float, lr: float, schedule: Schedule, log_every: int) -> None:
        """Update the network by its gradients, and record the step's mean loss and learning rate.

        With float16 a step is skipped if they are not finite: it counts as a step, but the network
        does not change.

        Raises:
            LossError: gradients that are to be clipped are not finite and the step cannot be
                skipped, or too many were skipped.
        """
        if self.scaler is not None:
            self.scaler.unscale(self.optimizer)
        if self._clip_norm:
            parameters = self.model.parameters()
            clip_gradients(parameters, self._clip_norm, check=self.scaler is None)
        self.whole = False
        taken = self._move()
        if taken and self.average is not None:
            self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        every = 1 if self.step == schedule.steps else log_every
        self.history.add_loss(self.step, schedule.epoch(self.step), lr, loss, every)
        self.whole = True

    def _move(self) -> bool:
        """Update the network by its gradients; returns whether the step was not skipped."""
        if self.scaler is not None:
            return self.scaler.step(self.optimizer)
        self.optimizer.step()
        return True

    def weights(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())

    def scored(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the network has the weights that are scored: the average, if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def kept(self, which: str) -> dict[str, dict[str, Tensor]]:
        """The weights to save for ``last`` or ``best``, by the name of the file."""
        if self.average is None:
            return {which: self.weights()}
        return {f"{which}{RAW}": self.weights(), which: self.average.weights()}

    def progress(self) -> dict[str, Any]:
        """All but the weights: tensors, numbers and text in lists and dicts."""
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.state(),
        }
        if self.average is not None:
            progress["average"] = self.average.state()
        if self.scaler is not None:
            progress["scaler"] = self.scaler.state()
        return progress

    def restore(self, saved: Checkpoint) -> None:
        """Restore the state in ``saved``.

        Raises:
            UsageError: it is not of this network, optimizer and history, or names another step.
                What is restored is then undefined until another checkpoint is.
        """
        try:
            if saved.state.get("step", saved.step) != saved.step:
                raise ValueError(f"its state is of step {saved.state['step']}")
            history = History.of(saved.state["history"], self.history.label_sets)
            seconds = _seconds(saved.state.get("seconds", 0.0))  # older checkpoints have none
            self.model.load_state_dict(saved.weights)
            self._check_optimizer(saved.state["optimizer"])
            self.optimizer.load_state_dict(saved.state["optimizer"])
            if self.average is not None:
                self.average.restore(saved.state["average"])
            if self.scaler is not None:
                self.scaler.restore(saved.state["scaler"])
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"{saved.path}: is not of this run's network and optimizer ({first_line(text)})"
            ) from None
        self.history, self.step, self._seconds_before = history, saved.step, seconds

    def _check_optimizer(self, state: dict[str, Any]) -> None:
        """Checks what torch does not: values of the options, and shapes of buffers."""
        parameters = []
        for group, saved in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            for name in FIXED:
                if name in group and saved[name] != group[name]:
                    raise ValueError(f"{name} must be {group[name]}, got {saved[name]}")
            parameters += list(zip(saved["params"], group["params"], strict=True))
        known = {number for number, _ in parameters}
        unknown = state["state"].keys() - known
        if unknown:
            raise ValueError(
                f"the optimizer must hold values of its {counted(len(known), 'parameter')} "
                "alone, got some of "
                f"number {next(iter(unknown))!r}"
            )
        for number, parameter in parameters:
            for name, value in state["state"].get(number, {}).items():
                shape = () if name == "step" else tuple(parameter.shape)
                if isinstance(value, Tensor) and tuple(value.shape) != shape:
                    raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")


def _seconds(value: Any) -> float:
    if not isinstance(value, float) or not 0 <= value < math.inf:
        raise ValueError(f"its seconds must be a number >= 0, got {value!r}")
    return value


def first_line(text: str) -> str:
    """The line of an error that says what is wrong; the first entry of torch's lists of layers."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else text.strip()

"""The options of the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

MOST = 65536  # images of a batch, and batches of a step
MOST_STEPS = 10**9  # or epochs: years, whatever a step takes

Rule = tuple[str, bool, str, Any]
"""An option, whether its value can be used, what it must be, and the value."""


@dataclass(frozen=True)
class OptimOptions:
    """The optimizer, and its schedule."""

    method: Literal["sgd", "adamw"] = "sgd"
    """sgd: stochastic gradient descent with momentum. adamw: rates that adapt to each weight's
    gradients; try --optim.lr 1e-4 for trained weights."""
    layers: Literal["all", "scores"] = "all"
    """Which layers are trained. scores: only the score layers and learned upsampling, as in the
    paper's FCN-32s-fixed; all other layers keep their initial weights."""
    batch: int = 8
    """Images per forward pass."""
    accumulate: int = 1
    """Forward passes whose gradients are averaged into one step."""
    lr: float = 0.1
    """Learning rate of the weights."""
    momentum: float = 0.9
    """Share of the previous update that each step keeps; adamw: of the mean gradient (beta1)."""
    weight_decay: float = 5e-4
    """L2 penalty on the weights; adamw: the share that each step subtracts from them, times lr."""
    bias_lr: float = 2.0
    """Learning rate of the biases of convolutions, relative to lr."""
    bias_decay: float = 0.0
    """Weight decay of those biases, relative to weight_decay."""
    score_lr: float = 1.0
    """Factor on the learning rate of the score layers, those of skips included. They start from
    zero: on a trunk with trained weights, 10 trains them while the trunk changes little. Large
    features (SqueezeNet's) need less than 1 with sgd."""
    loss: Literal["mean", "sum"] = "mean"
    """mean: per valid pixel of the batch. sum: over all its pixels, per image (Caffe's
    normalize: false), for the cross-entropy only."""
    class_weights: str = "none"
    """none, median-frequency, or a JSON or text file with one number per class; for several sets of
    labels by name, e.g. semantic=median-frequency,geometric=none."""
    class_sampling: str = "none"
    """none, or weights as in --optim.class-weights: pixels of a class whose weight is less than 1
    count in a step with that probability, all others always."""
    cells: float = 1.0
    """Probability that a cell of the coarse scores is kept: the pixels nearest to other cells do
    not count in a step's loss (the paper's sampling of patches)."""
    schedule: Literal["poly", "cosine", "fixed"] = "poly"
    """poly: lr * (1 - step / steps) ** power. cosine: lr * (1 + cos(pi * step / steps)) / 2.
    fixed: lr."""
    power: float = 0.9
    """Power of poly."""
    warmup: int = 0
    """Steps over which lr rises linearly from lr / warmup."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradients, all layers together; longer ones are scaled down to it.
    0 = no limit."""
    ema: float = 0.0
    """Decay of a moving average of the weights at each step, such as 0.999; 0 = no average. The
    average is what is scored, and what other commands take of the run. The weights as learned are
    saved beside it (last-raw, best-raw)."""
    epochs: float = 30.0
    """Length of the run in passes over the train split; --optim.steps takes precedence."""
    steps: int = 0
    """Length of the run in optimizer steps; 0 = from --optim.epochs."""
    fused: bool = True
    """Use torch's fused optimizer if the device has it."""


def optim_rules(optim: OptimOptions) -> list[Rule]:
    """What each value must be."""
    return [
        ("--optim.batch", 1 <= optim.batch <= MOST, f"in [1, {MOST}]", optim.batch),
        (
            "--optim.accumulate",
            1 <= optim.accumulate <= MOST,
            f"in [1, {MOST}]",
            optim.accumulate,
        ),
        ("--optim.lr", 0 < optim.lr < inf, "> 0 and finite", optim.lr),
        ("--optim.momentum", 0 <= optim.momentum < 1, "in [0, 1)", optim.momentum),
        (
            "--optim.weight-decay",
            0 <= optim.weight_decay < inf,
            ">= 0 and finite",
            optim.weight_decay,
        ),
        ("--optim.bias-lr", 0 <= optim.bias_lr < inf, ">= 0 and finite", optim.bias_lr),
        ("--optim.bias-decay", 0 <= optim.bias_decay < inf, ">= 0 and finite", optim.bias_decay),
        ("--optim.score-lr", 0 < optim.score_lr < inf, "> 0 and finite", optim.score_lr),
        ("--optim.cells", 0 < optim.cells <= 1, "in (0, 1]", optim.cells),
        ("--optim.power", 0 <= optim.power < inf, ">= 0 and finite", optim.power),
        ("--optim.warmup", optim.warmup >= 0, ">= 0", optim.warmup),
        ("--optim.clip-norm", 0 <= optim.clip_norm < inf, ">= 0 and finite", optim.clip_norm),
        ("--optim.ema", 0 <= optim.ema < 1, "in [0, 1)", optim.ema),
        (
            "--optim.steps",
            0 <= optim.steps <= MOST_STEPS,
            f"in [0, {MOST_STEPS}]",
            optim.steps,
        ),
        (
            "--optim.epochs",
            optim.steps > 0 or 0 < optim.epochs < inf,
            "> 0 and finite",
            optim.epochs,
        ),
        ("--optim.epochs", 0 <= optim.epochs < inf, ">= 0 and finite", optim.epochs),
        ("--optim.epochs", optim.epochs <= MOST_STEPS, f"<= {MOST_STEPS}", optim.epochs),
    ]

"""Checks that an exported file gives the results of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcn_train.data import image_to_tensor
from fcn_train.errors import ExportError
from fcn_train.export_options import Output, Pixels
from fcn_train.heads import in_order
from fcn_train.network import normalization_of
from fcn_train.run import TrainedRun
from fcn_train.words import counted

SIZES = ((1, 67, 97), (2, 64, 80), (2, 33, 1))
"""Images, rows and columns of the batches that a file is tried on."""
TOLERANCE = 1e-4
"""Of two ways to the same scores in float32, relative to the largest score of all."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A batch as a file takes it, and what the network gives for it.

    Attributes:
        images: (N, channels, H, W).
        logits: (N, C, H, W), of each head.
    """

    images: Tensor
    logits: list[Tensor]


class Agreement(NamedTuple):
    """How well a file agrees with the network.

    Attributes:
        pixels: labels that were compared.
        ties: labels that differ, where the scores of both classes are equal but for rounding.
        difference: the largest, of logits relative to the largest score, of probabilities as they
            are.
    """

    pixels: int = 0
    ties: int = 0
    difference: float = 0.0

    def __str__(self) -> str:
        sizes = f"{len(SIZES)} sizes"
        if self.pixels:
            text = f"labels of {counted(self.pixels, 'pixel', ',')} in {sizes} are the network's"
            return f"{text}, but for {counted(self.ties, 'tie', ',')}" if self.ties else text
        return f"differs from the network by at most {self.difference:.1e} in {sizes}"


@torch.inference_mode()
def trials(run: TrainedRun, pixels: Pixels) -> list[Trial]:
    """Batches of noise, of every size of ``SIZES``.

    Raises:
        ExportError: the network gives scores that are not finite.
    """
    rng = np.random.default_rng(0)
    found = []
    for number, height, width in SIZES:
        size = (number, run.model.in_channels, height, width)
        images, normalized = _images(run, pixels, rng.integers(0, 256, size, dtype=np.uint8))
        trial = Trial(images, in_order(run.model(normalized)))
        if not all(logits.isfinite().all() for logits in trial.logits):
            raise ExportError(f"{run.path}: its network gives scores that are not finite")
        found.append(trial)
    return found


def _images(run: TrainedRun, pixels: Pixels, values: np.ndarray) -> tuple[Tensor, Tensor]:
    """``values`` (N, channels, H, W) uint8 as a file takes them, and as the network does.

    The way to the network is that of `fcn predict`, and not the file's.
    """
    normalization = normalization_of(run.options.model)
    if run.options.data.channels == "color":
        normalized = torch.stack(
            [image_to_tensor(image.transpose(1, 2, 0), normalization) for image in values]
        )
    else:
        spread = sum(normalization.std) / 3
        normalized = (torch.from_numpy(values).float() - 128) / spread
    if pixels == "normalized":
        return normalized, normalized
    taken = torch.from_numpy(values)
    return (taken if pixels == "uint8" else taken.float() / 255), normalized


def compare(
    found: Sequence[Sequence[Tensor]], trials: Sequence[Trial], output: Output
) -> Agreement:
    """How well ``found``, what a file gave for each trial, of each head, agrees.

    Raises:
        ExportError: it does not.
    """
    agreement = Agreement()
    for outputs, trial in zip(found, trials, strict=True):
        for made, logits in zip(outputs, trial.logits, strict=True):
            one = _agreement(made, logits, output)
            agreement = Agreement(
                agreement.pixels + one.pixels,
                agreement.ties + one.ties,
                max(agreement.difference, one.difference),
            )
    return agreement


def _agreement(made: Tensor, logits: Tensor, output: Output) -> Agreement:
    size = tuple(logits.shape)
    where = f"for {counted(size[0], 'image')} of {size[2]} x {size[3]} pixels"
    expected = (size[0], *size[2:]) if output == "labels" else size
    if tuple(made.shape) != expected:
        raise ExportError(f"its {output} have shape {tuple(made.shape)}, not {expected}, {where}")
    largest = float(logits.abs().max())
    if output == "labels":
        best = logits.max(1).values
        taken = made.to(torch.int64)
        if int(taken.max()) >= size[1]:
            raise ExportError(
                f"it gives label {int(taken.max())} of {counted(size[1], 'class')} {where}"
            )
        lead = best - logits.gather(1, taken[:, None])[:, 0]
        wrong = int((lead > TOLERANCE * largest).sum())
        if wrong:
            verb = "differs" if wrong == 1 else "differ"
            raise ExportError(f"{wrong:,} of {counted(made.numel(), 'label', ',')} {verb} {where}")
        return Agreement(made.numel(), int((taken != logits.argmax(1)).sum()))
    # A softmax changes by no more than half of what its largest score changes by.
    limit, scale = TOLERANCE, largest
    if output == "probabilities":
        logits, limit, scale = logits.softmax(1), TOLERANCE * max(1.0, largest), 1.0
    gap = float((made - logits).abs().max())
    difference = gap / scale if scale else gap
    if not difference <= limit:
        raise ExportError(
            f"its {output} differ by {difference:.1e}, more than {limit:.1e}, {where}"
        )
    return Agreement(difference=difference)

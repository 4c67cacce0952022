"""The loss of a step, and the images of the step that this process takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fcn_train.class_weights import counting
from fcn_train.data import SegmentationDataset
from fcn_train.data.depth import NUM_CHANNELS
from fcn_train.heads import Net, head_names
from fcn_train.loss import HeadLosses, pixel_loss
from fcn_train.named_losses import chosen_loss
from fcn_train.options import TrainOptions
from fcn_train.runtime import Runtime
from fcn_train.share import shared_out
from fcn_train.shared_step import SharedStep
from fcn_train.step import Loss
from fcn_train.whole_batch import has_norm
from fcn_train.words import counted


class StepLoss:
    """The loss that the options of a training name, of all processes once it is shared.

    Args:
        options: of the training.
        model: placed on ``runtime``.
        dataset: the one that is trained on.
        runtime: where the network runs.
        label_sets: the names of its heads' sets of labels.

    Attributes:
        parts: for each batch of a step, the images that this process takes.
    """

    def __init__(
        self,
        options: TrainOptions,
        model: Net,
        dataset: SegmentationDataset,
        runtime: Runtime,
        label_sets: Sequence[str],
    ) -> None:
        optim, here = options.optim, runtime.processes
        self._options, self._model, self._here = options, model, here
        self._channels = NUM_CHANNELS[dataset.channels]
        self._of_heads = HeadLosses()
        self._counting = counting(optim, dataset, runtime.device)
        loss = chosen_loss(options, label_sets, here)
        self._loss: Loss = functools.partial(
            loss, logits=options.logits, heads=self._of_heads, **self._counting
        )
        self._sync = options.sync_batch_norm and has_norm(model)
        self._within = self._sync or loss is not pixel_loss
        self.parts = shared_out(
            optim.batch, optim.accumulate, here.size, here.rank, within=self._within
        )

    def __call__(self, model: Net, images: Tensor, target: Any) -> Tensor:
        return self._loss(model, images, target)

    def of_heads(self) -> list[float]:
        """The losses of several heads in the last step, in order; none for a single head."""
        heads, batches = len(head_names(self._model)), self._options.optim.accumulate
        return self._of_heads.taken(heads, batches, self._here)

    def share(self, warn: Callable[[str], None]) -> SharedStep:
        """From here on, steps are taken together with the other processes."""
        optim = self._options.optim
        unit, images = "step", optim.batch * optim.accumulate
        if self._within:
            unit, images = "batch", optim.batch
        if images < self._here.size:
            warn(
                f"a {unit} has {counted(images, 'image')} for {self._here.size} processes: "
                "some have none"
            )
        shared = SharedStep(
            self._here,
            self._model,
            self._loss,
            self._counting,
            self.parts,
            seed=self._options.seed,
            crop=self._options.data.crop,
            channels=self._channels,
            sync=self._sync,
            within=self._within,
        )
        self._loss = shared.loss
        return shared

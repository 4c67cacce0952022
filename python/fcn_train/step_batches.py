"""The batches of each step: loaded, divided among processes, and sent to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from fcn_train.console import Console
from fcn_train.data import Batch, ClassWatch, Normalization, TrainLoader, augmentation
from fcn_train.data.device_input import DeviceNormalization
from fcn_train.options import TrainOptions
from fcn_train.profile import LOADING, TRANSFER, Profile
from fcn_train.runtime import Runtime
from fcn_train.share import Part
from fcn_train.shared_step import SharedStep
from fcn_train.splits import Splits
from fcn_train.step import batch_seed


class StepBatches:
    """The batches that the network learns from in each step.

    Args:
        options: those of the training.
        splits: its images.
        runtime: where the network runs.
        normalization: of the images.
        parts: for each batch of a step, the images that this process takes.
        console: warns of classes without a pixel.
        profile: measures what loading takes.
    """

    def __init__(
        self,
        options: TrainOptions,
        splits: Splits,
        runtime: Runtime,
        normalization: Normalization,
        parts: list[Part],
        console: Console,
        profile: Profile,
    ) -> None:
        data, optim, here = options.data, options.optim, runtime.processes
        as_bytes = data.transfer == "uint8"
        self._seed, self._per_step = options.seed, optim.accumulate
        self._runtime, self._profile = runtime, profile
        self._normalized = (
            DeviceNormalization(normalization, splits.train.channels, runtime.device)
            if as_bytes
            else None
        )
        self._loader = TrainLoader(
            splits.train,
            augmentation(
                mirror=data.mirror,
                scale=data.scale,
                jitter=data.jitter,
                crop=data.crop,
                fill=normalization.color,
            ),
            None if as_bytes else normalization,
            batch_size=optim.batch,
            seed=options.seed,
            replacement=data.sampling == "replacement",
            workers=runtime.workers(data.workers, console.warn),
            pin_memory=runtime.on_gpu,
            parts=[slice(part.start, part.stop) for part in parts],
        )
        self._watches = [
            ClassWatch(splits.train.only(which), console.warn, here.total if here.several else None)
            for which in range(len(splits.train.label_sets))
        ]
        self._shared: SharedStep | None = None

    def start(self, step: int, end: int, shared: SharedStep | None) -> None:
        """Begin to load the batches of the steps [step, end), ``shared`` with other processes or
        not."""
        self._shared = shared
        batches = self._loader.batches(step * self._per_step, end * self._per_step)
        self._batches: Iterator[Batch] = self._profile.timed(LOADING, batches)

    def of(self, step: int) -> Iterator[tuple[int, Batch]]:
        """The batches of the next step, whose number is ``step``, each with its seed."""
        if self._shared is not None:
            return self._on_device(self._shared.batches(step, self._batches, self._watches))
        return self._on_device(self._seeded(step * self._per_step))

    def _seeded(self, first: int) -> Iterator[tuple[int, Batch]]:
        for number in range(first, first + self._per_step):
            batch = next(self._batches)
            for watch, targets in zip(self._watches, batch.all_targets, strict=True):
                watch.add(targets)
            yield batch_seed(self._seed, number), batch

    def _on_device(self, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Batch]]:
        """Normalizes images that come as bytes, on the network's device."""
        for seed, batch in batches:
            if self._normalized is not None and batch.images.dtype == torch.uint8:
                with self._profile.part(TRANSFER):
                    images = self._runtime.images(batch.images)
                    batch = batch._replace(images=self._normalized(images, batch.sizes))
            yield seed, batch

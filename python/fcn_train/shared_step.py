"""A step whose images are divided among several processes.

The loss of a batch is divided by the weight of all its valid pixels, on all processes, and
gradients are added up. So gradients are those of a single process up to rounding, however the
images are divided.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcn_train.data import Batch, padded
from fcn_train.data.contents import ClassWatch
from fcn_train.heads import Net, by_head, head_names
from fcn_train.loss import divisor_of_part
from fcn_train.processes import Processes
from fcn_train.share import Part
from fcn_train.step import batch_seed
from fcn_train.whole_batch import Current, see_whole_batches


class SharedStep:
    """The part of each step that one of several processes does.

    Args:
        here: the processes.
        net: the network on its device, with the same weights everywhere. Layers that depend on the
            batch are replaced; parameters and their names stay.
        loss: function of the network, images, target and ``part``.
        counting: the keywords of ``loss`` that ``divisor_of_part`` also takes.
        parts: for each batch of a step, the images that this process takes.
        seed: of the run.
        crop: side of the images of a step, 0 if they differ.
        channels: of the images.
        sync: whether batch normalization uses the images of all processes.
        within: whether each process takes a part of every batch, even one without images, as layers
            that depend on the whole batch need.
    """

    def __init__(
        self,
        here: Processes,
        net: Net,
        loss: Callable[..., Tensor],
        counting: dict[str, Any],
        parts: list[Part],
        *,
        seed: int,
        crop: int,
        channels: int,
        sync: bool,
        within: bool,
    ) -> None:
        self._here, self._net, self._counting, self._seed = here, net, counting, seed
        self._crop, self._channels = crop, channels
        self._within, self._parts = within, parts
        self._current, self._is_last = Current(), True
        see_whole_batches(net, here, self._current, sync=sync)
        here.copy_first(net.buffers())
        # Buffers are not synchronized; torch 2.13 has renamed the argument.
        known = inspect.signature(DistributedDataParallel).parameters
        names = ("forward_sync_buffers", "broadcast_buffers")
        apart: dict[str, Any] = {next(name for name in names if name in known): False}
        # With --amp, gradients of 1x1 convolutions are channels_last and their weights, for which
        # both layouts are the same, are not. They are copied, and torch warns about it.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self._shared = DistributedDataParallel(
            _Loss(net, loss, self._within), process_group=here.group, **apart
        )
        self._shared.register_comm_hook(here.group, lambda group, bucket: _added_up(group, bucket))
        # After its first pass DDP changes its buckets, and so the order of sums. A continued run
        # would then differ from an uninterrupted one.
        self._shared(None, None, None).backward()
        net.zero_grad(set_to_none=True)

    def loss(self, net: Net, images: Tensor, target: Any) -> Tensor:
        """This process's part of the loss; its gradients are added to those of the others in the
        last pass of a step."""
        waits = nullcontext() if self._is_last else self._shared.no_sync()
        with waits:
            value: Tensor = self._shared(images, target, self._current.part)
        return value

    def batches(
        self, step: int, loaded: Iterator[Batch], watches: Sequence[ClassWatch]
    ) -> Iterator[tuple[int, Batch]]:
        """The images of this process of each batch of a step, with the seed of the whole batch.

        Args:
            step: the number of the step, from 0.
            loaded: the images of this process, batch by batch, without those of which it has none.
            watches: see the targets.
        """
        first = step * len(self._parts)
        seeds = [batch_seed(self._seed, first + part.number) for part in self._parts]
        taken = [(part, next(loaded)) for part in self._parts if len(part)]
        sizes = self._sizes(taken)
        mine = {part.number: padded(batch, sizes[part.number]) for part, batch in taken}
        if self._within or not mine:  # a pass without images, since the others wait for it
            for number in range(len(self._parts) if self._within else 1):
                mine.setdefault(number, self._nothing(sizes[number]))
        divisors = self._divisors(mine, seeds)
        for which, watch in enumerate(watches):
            for part in self._parts:
                batch = mine.get(part.number)
                target = (
                    torch.empty(0, dtype=torch.uint8) if batch is None else batch.all_targets[which]
                )
                watch.add(target, images=part.size)
        for number in sorted(mine):
            self._current.part = self._parts[number].with_divisors(divisors[number])
            self._is_last = number == max(mine)
            yield seeds[number], mine[number]

    def _sizes(self, taken: list[tuple[Part, Batch]]) -> list[tuple[int, int]]:
        """Height and width of each batch of the step: those of its largest images."""
        if self._crop:
            return [(self._crop, self._crop)] * len(self._parts)
        found = [0] * (2 * len(self._parts))
        for part, batch in taken:
            found[2 * part.number : 2 * part.number + 2] = batch.targets.shape[1:]
        found = self._here.most_of(found)
        return list(zip(found[::2], found[1::2], strict=True))

    def _nothing(self, size: tuple[int, int]) -> Batch:
        """No image, of that size."""
        target = torch.empty((0, *size), dtype=torch.uint8)
        more = (target,) * (len(head_names(self._net)) - 1)
        return Batch(torch.empty((0, self._channels, *size)), target, (), (), more)

    def _divisors(self, mine: dict[int, Batch], seeds: list[int]) -> Tensor:
        """What the loss of each batch and head is divided by."""
        heads = len(head_names(self._net))
        sums = torch.zeros(len(self._parts), heads, dtype=torch.float64)
        for number, batch in mine.items():
            torch.manual_seed(seeds[number])
            target = by_head(self._net, list(batch.all_targets))
            sums[number] = divisor_of_part(
                self._net, target, part=self._parts[number], **self._counting
            )
        self._here.add(sums)
        return torch.where(sums > 0, sums, 1.0)


class _Loss(nn.Module):
    """The loss as a module with the network's parameters, as DDP needs."""

    def __init__(self, net: Net, loss: Callable[..., Tensor], runs_empty: bool) -> None:
        super().__init__()
        self.net = net
        self._loss = loss
        self._runs_empty = runs_empty

    def forward(self, images: Tensor | None, target: Any, part: Part | None) -> Tensor:
        if images is not None and (len(images) or self._runs_empty):
            return self._loss(self.net, images, target, part=part)
        # Gradients of 0 for every parameter, in the order of a backward pass.
        parameters = [each for each in self.net.parameters() if each.requires_grad]
        return torch.stack([0 * each.sum() for each in parameters]).sum()


def _added_up(group: Any, bucket: Any) -> Any:
    """Adds up gradients over processes, where DDP would take the mean."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])

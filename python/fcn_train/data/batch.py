"""Examples of any sizes stacked into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcn_train.data.coding import IGNORE_INDEX


class Batch(NamedTuple):
    """Examples stacked for the network.

    images: (N, C, H, W) float32, normalized; zero (the mean color) where padded. Or uint8, from
    `input_to_bytes`. targets: (N, H, W) uint8; `IGNORE_INDEX` where void or padded. ids: the N
    names. sizes: the N (height, width) before padding; image i fills the top left corner.
    more_targets: targets of further sets of classes, each like `targets`.
    """

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    more_targets: tuple[Tensor, ...] = ()

    @property
    def all_targets(self) -> tuple[Tensor, ...]:
        """The targets of every set of classes."""
        return (self.targets, *self.more_targets)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same images, targets, names and sizes."""
        if not isinstance(other, Batch):
            return NotImplemented
        mine, theirs = ((b.images, *b.all_targets) for b in (self, other))
        same = len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))
        return same and (self.ids, self.sizes) == (other.ids, other.sizes)

    def __ne__(self, other: object) -> bool:
        return not self == other


def collate(tensors: Sequence[tuple[Tensor, ...]], ids: Sequence[str]) -> Batch:
    """Stack examples; smaller ones are padded at the right and bottom to the largest.

    Args:
        tensors: for each example, at least one, the image (C, H, W) and one or more labels (H, W).
        ids: the names of the examples.
    """
    sizes = tuple((label.shape[0], label.shape[1]) for _, label, *_ in tensors)
    size = max(rows for rows, _ in sizes), max(columns for _, columns in sizes)
    images, targets, *more = (
        _stack(parts, size, IGNORE_INDEX if number else 0)
        for number, parts in enumerate(zip(*tensors, strict=True))
    )
    return Batch(images, targets, tuple(ids), sizes, tuple(more))


def padded(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch as `collate` would pad it with an example of (height, width) `size` in it."""
    if batch.targets.shape[1:] == size:
        return batch
    targets, *more = (_stack(list(one), size, IGNORE_INDEX) for one in batch.all_targets)
    return Batch(_stack(list(batch.images), size, 0), targets, batch.ids, batch.sizes, tuple(more))


def _stack(parts: Sequence[Tensor], size: tuple[int, int], fill: int) -> Tensor:
    """Maps (..., H, W) of one batch, each padded to `size`."""
    if all(part.shape[-2:] == size for part in parts):
        return torch.stack(list(parts))
    stacked = parts[0].new_full((len(parts), *parts[0].shape[:-2], *size), fill)
    for padded, part in zip(stacked, parts, strict=True):
        padded[..., : part.shape[-2], : part.shape[-1]] = part
    return stacked

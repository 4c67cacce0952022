"""Divides the images of a step among processes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """The images ``start`` to ``stop`` of a batch of ``size``: what one process takes of it.

    Attributes:
        number: of the batch, within its step.
        divisors: what the loss of each head is divided by, (heads,); of the whole batch.
    """

    number: int
    start: int
    stop: int
    size: int
    divisors: Tensor | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def with_divisors(self, divisors: Tensor) -> Part:
        return replace(self, divisors=divisors)


def shared_out(
    batch: int, accumulate: int, size: int, rank: int, *, within: bool = False
) -> list[Part]:
    """Of each of the ``accumulate`` batches of a step, what the process ``rank`` of ``size`` takes.

    The images of a step, taken one after the other, are cut into as many runs as there are
    processes; the first are one longer where the number does not divide. ``within`` cuts every
    batch by itself, so that all processes are at work on the same one.

    Example:
        >>> [len(part) for part in shared_out(4, 2, size=3, rank=0)]
        [3, 0]
        >>> [len(part) for part in shared_out(4, 2, size=3, rank=0, within=True)]
        [2, 2]
    """
    start, stop = _cut(batch if within else batch * accumulate, size, rank)
    parts = []
    for number in range(accumulate):
        offset = 0 if within else number * batch
        low, high = (min(max(end - offset, 0), batch) for end in (start, stop))
        parts.append(Part(number, low, high, batch))
    return parts


def _cut(count: int, size: int, rank: int) -> tuple[int, int]:
    """Start and end of the run number ``rank`` of ``size`` runs of ``count`` things."""
    short, longer = divmod(count, size)
    return rank * short + min(rank, longer), (rank + 1) * short + min(rank + 1, longer)

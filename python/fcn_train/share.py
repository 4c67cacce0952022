"""Divides the images of a step among processes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """The part of a batch of ``size`` images that one process takes: ``start`` to ``stop``.

    Attributes:
        number: that of the batch within its step.
        divisors: what the loss of each head is divided by, (heads,), for the whole batch.
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
    """The parts of the ``accumulate`` batches of a step that process ``rank`` of ``size`` takes.

    The images of a step, in order, are cut into one range per process; if the number does not
    divide evenly, the first ranges are one longer. ``within`` cuts every batch separately, so that
    all processes work on the same batch.

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

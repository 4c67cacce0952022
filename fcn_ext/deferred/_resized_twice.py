"""Deferred logits that are resized again, as where padding is cropped off in between.

Two bilinear maps in a row are not one. Predictions are made some rows at a time; anything else gets
the logits at the size in between, or at both sizes, as the plain code has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fcn_ext.deferred._gradient import elements_of
from fcn_ext.deferred._layout import CLASSES, COLUMNS, IMAGES, ROWS, Layout, slice_of, slice_within
from fcn_ext.deferred._recipe import Logits
from fcn_ext.deferred._snapshot import Origin, Snapshot, outside_modes
from fcn_ext.geometry import Resize
from fcn_ext.prediction._rows import (
    ResizeOfPart,
    Span,
    interpolated,
    part_of_rows,
    tiles,
)

__all__ = ["ResizedTwice", "resized_twice"]

_KINDS = ("logits", "softmax", "sigmoid")
"""What may be resized again: functions of a pixel's scores that are finite where these are."""
_LARGER = 4
"""From so many times as many pixels on, the logits in between are small beside the result, and
kernels that see all of them at once are faster."""
MOST_SPENT = 4
"""Predictions, of all images and classes, that are made some rows at a time."""
SMALL = 2**16
"""A map of so few scores at the first full size is computed faster than a prediction is made some
rows at a time, and takes little memory."""


@dataclass(frozen=True, eq=False)
class _Between:
    """The map between the two resizes."""

    snapshot: Snapshot
    layout: Layout
    classes: range
    """Those whose scores its elements depend on: of a softmax, also others than its own."""
    kind: str
    dtype: torch.dtype
    elements: Callable[[], Tensor]
    """What gives it in full."""

    @property
    def size(self) -> tuple[int, int]:
        return self.layout.sizes[ROWS], self.layout.sizes[COLUMNS]

    def rows(self, rows: Span) -> Tensor:
        snapshot = self.snapshot.part(self.layout.of(CLASSES, self.classes))
        own = snapshot.window(rows, Span(0, snapshot.size[1]))
        if self.kind != "logits":
            own = own.softmax(1) if self.kind == "softmax" else own.sigmoid()
        return own[:, slice_within(self.layout.ranges[CLASSES], self.classes)].to(self.dtype)

    def part(self, layout: Layout) -> _Between:
        """The same for the images and classes of ``layout``, which is one of this map resized."""
        own = self.layout
        for axis in (IMAGES, CLASSES):
            own = own.of(axis, own.ranges[axis][slice_of(layout.ranges[axis])])

        def elements() -> Tensor:
            return layout.part(self.elements())

        classes = self.classes if self.kind == "softmax" else own.ranges[CLASSES]
        return replace(self, layout=own, classes=classes, elements=elements)

    def to(self, device: torch.device, dtype: torch.dtype) -> _Between:
        def elements() -> Tensor:
            return self.elements().to(device, dtype)

        # Of probabilities the scores keep their dtype, as in `Recipe.step`.
        of_scores = dtype if self.kind == "logits" else self.snapshot.dtype
        snapshot = self.snapshot.to(device, of_scores)
        return replace(self, snapshot=snapshot, dtype=dtype, elements=elements)


class ResizedTwice(Snapshot):
    """The snapshot of logits that are resized for a second time. Its scores, the map in between,
    are computed if they are asked for."""

    in_tiles = True

    def __init__(
        self,
        between: _Between,
        size: tuple[int, int],
        geometry: Resize,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(None, size, geometry, origin)
        self._between = between
        self._finite = True
        self._spent = 0.0

    @property
    def scores(self) -> Tensor:
        if self._scores is None:
            with outside_modes(), torch.no_grad():
                self._scores = self._between.elements().clone()
        return self._scores

    @property
    def dtype(self) -> torch.dtype:
        return self._between.dtype

    @property
    def device(self) -> torch.device:
        return self._between.snapshot.device

    @property
    def is_larger(self) -> bool:
        return all(
            a >= b
            for a, b in zip(self.geometry.before_crop(self.size), self._between.size, strict=True)
        )

    def part(self, layout: Layout) -> Snapshot:
        between = self._between
        if layout.sizes[:2] != layout.totals[:2]:
            between = between.part(layout)
        elif not layout.is_crop:
            return self
        size = layout.sizes[ROWS], layout.sizes[COLUMNS]
        return ResizedTwice(between, size, self.crop(layout))

    def to(self, device: torch.device, dtype: torch.dtype) -> Snapshot:
        if device == self.device and dtype == self.dtype:
            return self
        return ResizedTwice(self._between.to(device, dtype), self.size, self.geometry, self.origin)

    def affords(self, layout: Layout) -> bool:
        """A prediction takes almost the time of the plain code."""
        self._spent += layout.share
        return self._spent <= MOST_SPENT

    def window(self, rows: Span, columns: Span) -> Tensor:
        found, second = self._read(rows, columns.first)
        return interpolated(found, (rows.length, columns.length), second)

    def tiles(self) -> Iterator[tuple[Span, Snapshot]]:
        between = self._between
        planes = between.layout.sizes[IMAGES] * len(between.classes)
        nodes = -(-between.size[0] // self.geometry.before_crop(self.size)[0])
        width = max(between.snapshot.size[1], between.size[1], self.size[1])
        for rows in tiles(self.size[0], planes * width * nodes, on_cuda=self.device.type == "cuda"):
            found, second = self._read(rows)
            yield rows, Snapshot(found, (rows.length, self.size[1]), second)

    def _read(self, rows: Span, left: int = 0) -> tuple[Tensor, ResizeOfPart]:
        """The rows in between that are read for some rows, and the geometry from these to the rows,
        from column ``left`` on."""
        (first, first_column), aligned = self.geometry.offset, self.geometry.align_corners
        place = Span(first + rows.first, first + rows.last)
        read, part = part_of_rows(
            self._between.size,
            place,
            self.geometry.before_crop(self.size),
            aligned,
            first_column + left,
        )
        return self._between.rows(read), part

    def _nodes(self) -> Tensor:
        return self._between.elements() if self._scores is None else self._scores

    def _resizes_by_torch(self) -> bool:
        # As torch does it without us, who defer no smaller map of an ordinary one.
        return not self.is_larger


def resized_twice(recipe: Any, size: tuple[int, int], align_corners: bool) -> ResizedTwice | None:
    """The snapshot of deferred logits resized to ``size``; None if the map in between is to be
    computed first. On CUDA it is: there the host would wait for the tables of the rows."""
    snapshot = recipe.snapshot if isinstance(recipe, Logits) else None
    if (
        snapshot is None
        or recipe.device.type != "cpu"
        or recipe.kind not in _KINDS
        or not recipe.layout.is_map
        or math.prod(recipe.layout.totals) <= SMALL
        or not snapshot.is_finite()
    ):
        return None
    height, width = recipe.twin.shape[2:]
    is_larger = size[0] >= height and size[1] >= width
    if is_larger and height * width * _LARGER <= size[0] * size[1]:
        return None
    # The memory of a softmax has all its classes.
    known = recipe.memory.layout if recipe.kind == "softmax" else recipe.layout
    between = _Between(
        snapshot,
        recipe.layout,
        known.ranges[CLASSES],
        recipe.kind,
        recipe.twin.dtype,
        elements_of(recipe),
    )
    return ResizedTwice(between, size, Resize(align_corners))

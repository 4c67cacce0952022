"""Elements of deferred tensors that callers were given before the full tensor is computed.

Two kernels round the same number differently, but the plain code has one number and may rely on it:
``logits == logits.max(1, keepdim=True)[0]`` is a mask of the winners. So a full tensor that is
computed later takes over the elements that were given before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fcn_ext._line import Line
from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout, slice_of, slice_within
from fcn_ext.ops._autograd import _below_autograd
from fcn_ext.prediction._rows import lines

if TYPE_CHECKING:
    from fcn_ext.deferred._snapshot import Snapshot

__all__ = ["NO_VOID", "Told", "elements", "winners"]

_ops = torch.ops.fcn_ext

NO_VOID = -(2**31)
"""An ``ignore_index`` that is no label, so that no pixel is void."""

_Key = tuple[str, range]
"""A kind of tensor, and its classes."""


def winners(
    snapshot: Snapshot, kind: str, *, with_value: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The classes with the greatest logits or probabilities, and these, (N, H, W)."""
    found = [_winners(tile, kind, with_value) for _, tile in snapshot.tiles()]
    labels = _below_each_other([labels for labels, _ in found])
    values = [value for _, value in found if value is not None]
    return labels, _below_each_other(values) if values else None


def _below_each_other(tiles: list[Tensor]) -> Tensor:
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles, 1)


def _winners(tile: Snapshot, kind: str, with_value: bool) -> tuple[Tensor, Tensor | None]:
    probability = with_value and kind != "logits"
    labels, value = _ops.argmax.default(
        tile.scores, *tile.size, tile.numbers, torch.int64, probability
    )
    if not with_value:
        return labels, None
    if not probability:
        value = _means(tile, labels)
    elif kind == "log_softmax":
        value = value.log()
    return labels, value


def elements(snapshot: Snapshot, kind: str, labels: Tensor) -> Tensor | None:
    """The logits or probabilities (N, H, W) of the classes ``labels``; None if one of these is no
    class."""
    found = []
    for rows, tile in snapshot.tiles():
        value = _elements(tile, kind, labels[:, rows.slice])
        if value is None:
            return None
        found.append(value)
    return _below_each_other(found)


def _elements(tile: Snapshot, kind: str, labels: Tensor) -> Tensor | None:
    scores = tile.scores
    if kind == "logits":
        if labels.is_cpu:
            least, greatest = labels.aminmax()
            if least < 0 or greatest >= scores.shape[1]:
                return None
        return _means(tile, labels)
    try:
        value: Tensor = -_ops.cross_entropy_pixels.default(
            scores, labels, tile.numbers, None, NO_VOID, 0.0
        )
    except ValueError:
        return None
    winner, best = _winners(tile, kind, True)
    assert best is not None
    rounding = 8 * torch.finfo(value.dtype).eps
    if kind == "softmax":
        value = value.exp()
        is_best = value >= best * (1 - rounding)
    else:
        is_best = value >= best - rounding
    # The kernels round differently: the winner must not come out less likely than `best`.
    return torch.where(is_best.logical_or_(labels == winner), best, value)


def _means(snapshot: Snapshot, labels: Tensor) -> Tensor:
    """The bilinear mean of one class per pixel: ``labels`` (N, H, W) says which."""
    scores = snapshot.scores
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    rows, columns = (
        _taps(*line, pixels, scores.device, dtype)
        for line, pixels in zip(
            lines(scores, snapshot.size, snapshot.geometry), snapshot.size, strict=True
        )
    )
    flat, (height, width) = scores.flatten(1), scores.shape[2:]
    first = labels * (height * width)
    value = torch.zeros(labels.shape, dtype=dtype, device=scores.device)
    for row, row_weight in rows:
        for column, column_weight in columns:
            place = first + (row[:, None] * width + column)
            taken = flat.gather(1, place.flatten(1)).view(labels.shape)
            value += taken * (row_weight[:, None] * column_weight)
    return value


def _taps(
    line: Line,
    first_pixel: int,
    first_node: int,
    pixels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For every pixel along an axis, the nodes before and after it and their weights."""
    unit, last = line.denominator, line.nodes - 1
    pixel = torch.arange(first_pixel, first_pixel + pixels, device=device)
    place = line.scaled(pixel).clamp(0, last * unit)
    before = place // unit
    share = (place % unit).to(torch.float64) / unit
    # Past a node that is itself the place, another may not be held; its share is zero.
    after = (before + (place % unit).sign()).clamp(max=last)
    nodes = before - first_node, after - first_node
    return (nodes[0], (1 - share).to(dtype)), (nodes[1], share.to(dtype))


class Told:
    """What callers were given of one snapshot, by the kind of tensor and its classes, and which
    tensors were computed in full.

    Values are not kept, since callers may change them; they can be computed again, to the bit.
    """

    def __init__(self) -> None:
        self._winners: set[_Key] = set()
        self._labels: dict[_Key, list[tuple[range, Tensor]]] = {}
        self._computed: set[_Key] = set()

    def tell_winners(self, kind: str, layout: Layout) -> bool:
        """Notes that the values of the winners among a layout's classes are given out; False if the
        full tensor is there, which has to give them."""
        key = kind, layout.ranges[CLASSES]
        if key in self._winners:
            return True
        # Noted first and asked afterwards, as another thread may be computing.
        self._winners.add(key)
        if self._is_computed(key):
            self._winners.discard(key)
            return False
        return True

    def tell_elements(self, kind: str, layout: Layout, labels: Tensor) -> bool:
        """Notes that the elements of ``labels`` (N, H, W), places among a layout's classes, are
        given out for its images; False if the full tensor is there, which has to give them."""
        # In few bytes: they are kept as long as the snapshot.
        small = labels.to(torch.int32 if labels.is_cuda else _least(labels))
        key = kind, layout.ranges[CLASSES]
        told = self._labels.setdefault(key, [])
        told.append((layout.ranges[IMAGES], small))
        if self._is_computed(key):
            self._labels[key] = [labels for labels in told if labels[1] is not small]
            return False
        return True

    def _is_computed(self, key: _Key) -> bool:
        return any(_share(key, computed) for computed in tuple(self._computed))

    def restored(self, full: Tensor, kind: str, layout: Layout, snapshot: Snapshot) -> Tensor:
        """``full``, in which the elements that were given out have the values given."""
        key = kind, layout.ranges[CLASSES]
        self._computed.add(key)
        told = [k for k in {*self._winners, *self._labels} if _share(k, key)]
        if not told:
            return full
        with _below_autograd():
            map = layout.to_full_map(full)
            if all(place in layout.ranges[CLASSES] for _, classes in told for place in classes):
                self._restore(map, layout, told, snapshot)
            else:
                # Told beside other classes, whose equals among these are found in a map of all.
                of_all = layout.of(CLASSES, range(layout.totals[CLASSES]))
                whole = of_all.crop_of(snapshot.resized(of_all))
                self._restore(whole, of_all, told, snapshot)
                map.copy_(whole[:, slice_of(layout.ranges[CLASSES])])
        return full

    def _restore(self, map: Tensor, layout: Layout, told: list[_Key], snapshot: Snapshot) -> None:
        """``map`` (N, C, H, W) has the images, classes, rows and columns of ``layout``."""
        # Of all classes first: then the winner of some keeps the value that was told of it.
        for key in sorted(told, key=lambda key: (-len(key[1]), key[1].start)):
            kind, classes = key
            part = map[:, slice_within(classes, layout.ranges[CLASSES])]
            of_part = layout.of(CLASSES, classes)
            for images, labels in self._labels.get(key, ()):
                _restore_elements(part, of_part, images, labels, snapshot, kind)
            if key in self._winners:
                winner, value = winners(snapshot.part(of_part), kind)
                assert value is not None
                _restore(part, winner, value.to(map.dtype), are_greatest=True)


def _share(one: _Key, other: _Key) -> bool:
    """Whether two tensors have elements in common."""
    (kind, classes), (other_kind, others) = one, other
    if kind != other_kind or kind != "logits":
        return one == other  # a softmax depends on all its classes
    return classes == others or not set(classes).isdisjoint(others)


def _least(labels: Tensor) -> torch.dtype:
    greatest = int(labels.max())
    return torch.uint8 if greatest < 2**8 else torch.int16 if greatest < 2**15 else torch.int32


def _restore_elements(
    map: Tensor, layout: Layout, of_labels: range, labels: Tensor, snapshot: Snapshot, kind: str
) -> None:
    of_map = layout.ranges[IMAGES]
    images = range(max(of_map.start, of_labels.start), min(of_map.stop, of_labels.stop))
    if not images:
        return
    classes = labels[images.start - of_labels.start : images.stop - of_labels.start].long()
    part = map[images.start - of_map.start : images.stop - of_map.start]
    # Of all pixels, as when they were told: those of a crop may be rounded otherwise.
    whole = layout.uncropped_map().of(IMAGES, images)
    value = elements(snapshot.part(whole), kind, classes)
    assert value is not None
    value = layout.cropped(value.to(map.dtype))
    _restore(part, layout.cropped(classes), value, are_greatest=False)


def _restore(map: Tensor, classes: Tensor, value: Tensor, *, are_greatest: bool) -> None:
    """Sets the elements of ``classes`` (N, H, W) to ``value``, and those that equal them, as where
    two classes have the same scores. Class by class, to save memory."""
    element = map.gather(CLASSES, classes.unsqueeze(CLASSES)).squeeze(CLASSES)
    least = torch.minimum(element, value)
    for plane in map.unbind(CLASSES):
        is_one = plane >= least if are_greatest else plane == element
        plane.copy_(torch.where(is_one, value, plane))

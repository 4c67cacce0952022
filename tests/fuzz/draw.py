"""What the calls are drawn from: sizes, layouts, values, geometries, labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from fcn_ext.geometry import Deconvolution, Geometry, Resize

from ..ops.heads import LABEL_TYPES, SCORE_TYPES

Item = TypeVar("Item")
INF, NAN = float("inf"), float("nan")
# Pixels at full size and classes at most, by kind of case: all of them small enough for some
# hundred cases per second, few classes where there are many pixels.
_KINDS = [(200, 9)] * 14 + [(60, 40)] * 4 + [(1500, 4), (24, 257)]


class Draw:
    """A stream of random choices that is the same wherever its seed is."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._most_pixels, self._most_classes = self.one_of(_KINDS)
        self._generator = torch.Generator().manual_seed(self.random.getrandbits(62))

    # ------------------------------------------------------------------ choices
    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def one_of(self, items: Sequence[Item]) -> Item:
        return items[self.random.randrange(len(items))]

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def number(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    # ------------------------------------------------------------------ sizes and geometries
    def batch(self) -> int:
        return 0 if self.chance(0.04) else self.integer(1, 3)

    def classes(self) -> int:
        """Few of them, or as many as leave vectors of every width unfilled."""
        most = self._most_classes
        return self.integer(1, min(most, 9)) if self.chance(0.6) else self.integer(1, most)

    def coarse(self) -> tuple[int, int]:
        if self.chance(0.15):  # one row or column, wide or high
            sides = (self.integer(1, 2), self.integer(10, 70))
            return sides if self.chance(0.7) else (sides[1], sides[0])
        return self.integer(1, 6), self.integer(1, 7)

    def fine(self, largest: tuple[int, int] = (2**30, 2**30)) -> tuple[int, int]:
        """A size at most ``largest``, of few pixels in all; as large as that where it can be."""
        most = self._most_pixels
        if largest[0] * largest[1] <= most and self.chance(0.3):
            return largest
        width = self.integer(1, min(largest[1], most, 160 if self.chance(0.1) else 40))
        height = self.integer(1, max(1, min(largest[0], 48, most // width)))
        return height, width

    def geometry(self, coarse: tuple[int, int]) -> tuple[Geometry, tuple[int, int]]:
        """A geometry, and a size that it takes ``coarse`` to."""
        if self.chance(0.5):
            return self.resize()
        return self.deconvolution(coarse)

    def resize(self) -> tuple[Resize, tuple[int, int]]:
        """A resize, and its size; a third of them cropped."""
        align_corners, fine = self.chance(0.5), self.fine()
        if self.chance(0.67):
            return Resize(align_corners), fine
        before, after = ((self.integer(0, 12), self.integer(0, 12)) for _ in range(2))
        height, width = (sum(sizes) for sizes in zip(before, fine, after, strict=True))
        return Resize(align_corners, (height, width), before), fine

    def deconvolution(
        self, coarse: tuple[int, int], largest: int = 1000
    ) -> tuple[Deconvolution, tuple[int, int]]:
        """Of a stride up to ``largest``: the heads' tables are as large as the stride."""
        stride = self.one_of([1, 2, 3, 4, 8, 16, 32]) if self.chance(0.7) else self.integer(1, 70)
        if self.chance(0.02):
            stride = self.integer(2, min(largest, (2**30) // (max(coarse) + 1)))
        kernel_size = 2 * stride - (1 if stride == 1 or self.chance(0.3) else 0)
        whole = [(size - 1) * stride + kernel_size for size in coarse]
        offset = (0, 0)
        if self.chance(0.7):
            offset = (self.integer(0, whole[0] - 1), self.integer(0, whole[1] - 1))
        rest = (whole[0] - offset[0], whole[1] - offset[1])
        return Deconvolution(stride, kernel_size, offset), self.fine(rest)

    # ------------------------------------------------------------------ tensors
    def dtype(self) -> torch.dtype:
        return self.one_of(SCORE_TYPES)

    def scores(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, most: float = 1e4, special: bool = True
    ) -> Tensor:
        """Numbers of a random magnitude up to ``most``; with ``special``, now and then infinities
        and NaN among them, or a class that is masked."""
        scale = min(most, self.one_of([0.0, 1.0, 2.0, 2.0, 8.0, 40.0, 1e4]))
        values = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        if self.chance(0.1):
            values = values.round()  # ties
        values = values * scale
        if special and values.numel() and self.chance(0.2):
            values = self._with_specials(values)
        return self.laid_out(values.to(dtype))

    def _with_specials(self, values: Tensor) -> Tensor:
        kind = self.one_of(["mask", "mask", "few", "all"])
        if kind == "mask":
            values[:, self.integer(0, values.shape[1] - 1)] = -INF
        else:
            share = 0.05 if kind == "few" else 0.6
            chosen = self.uniform(values.shape) < share
            values = torch.where(chosen, self.one_of([INF, -INF, NAN]), values)
            if self.chance(0.3):
                values = torch.where(self.uniform(values.shape) < 0.05, INF, values)
        return values

    def uniform(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(tuple(shape), generator=self._generator, dtype=torch.float64)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float64).to(dtype)

    def whole(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Integers in [low, high)."""
        return torch.randint(low, high, tuple(shape), generator=self._generator)

    def labels(
        self, shape: tuple[int, ...], classes: int, ignore_index: int, *, strange: bool = False
    ) -> Tensor:
        """Labels below ``classes``, some of them void, in patches; ``strange``: of any value."""
        kinds = [t for t in LABEL_TYPES if torch.iinfo(t).max >= classes - 1]
        dtype = self.one_of(kinds)
        limits = torch.iinfo(dtype)
        labels = self.whole(0, classes, shape)
        if labels.numel() and self.chance(0.5):
            labels = labels[..., :1].expand(shape).clone()
        if limits.min <= ignore_index <= limits.max:
            labels[self.uniform(shape) < self.one_of([0.0, 0.1, 0.1, 0.6, 1.0])] = ignore_index
        if strange and self.chance(0.5):
            values = [v for v in (-1, classes, 255, limits.max) if limits.min <= v <= limits.max]
            labels[self.uniform(shape) < 0.1] = self.one_of(values)
        return self.laid_out(labels.to(dtype))

    def masks(self, shape: tuple[int, ...], ignore_index: int) -> Tensor:
        """Targets of masks: 0, 1 and void; or floating point in [0, 1]."""
        kinds = [torch.bool, torch.bool, *LABEL_TYPES, torch.float32, torch.float64, torch.float16]
        dtype = self.one_of(kinds)
        if dtype.is_floating_point:
            return self.laid_out(self.uniform(shape).to(dtype))
        values = self.whole(0, 2, shape)
        if dtype != torch.bool:
            limits = torch.iinfo(dtype)
            if limits.min <= ignore_index <= limits.max:
                values[self.uniform(shape) < self.one_of([0.0, 0.2, 1.0])] = ignore_index
        return self.laid_out(values.to(dtype))

    def ignore_index(self, classes: int) -> int:
        if self.chance(0.6):
            return 255
        return self.one_of([0, classes - 1, -1, -100, 254, 1000, 2**40, -(2**63), 2**63 - 1])

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The same values, or for an expanded tensor some of them, at other strides."""
        kind = self.one_of(["plain", "plain", "last", "window", "permuted", "expanded"])
        dims = tensor.dim()
        if kind == "plain" or dims == 0:
            return tensor.contiguous()
        if kind == "expanded":
            dim = self.integer(0, dims - 1)
            return tensor.narrow(dim, 0, min(1, tensor.shape[dim])).contiguous().expand_as(tensor)
        order = list(range(dims))
        if kind == "last":
            order = [0, *range(2, dims), 1] if dims > 1 else order
        else:
            self.random.shuffle(order)
        steps = [self.integer(1, 2) if kind == "window" else 1 for _ in order]
        room = [tensor.shape[d] * step + (kind == "window") for d, step in zip(order, steps)]  # noqa: B905
        larger = torch.full(room, NAN if tensor.is_floating_point() else 1, dtype=tensor.dtype)
        start = int(kind == "window")
        for place, (d, step) in enumerate(zip(order, steps, strict=True)):
            stop = start + tensor.shape[d] * step
            larger = larger.movedim(place, 0)[start:stop:step].movedim(0, place)
        view = larger.permute([order.index(d) for d in range(dims)])
        return view.copy_(tensor)

    def weight(self, classes: int) -> Tensor:
        """Weights of classes, some of them zero."""
        weight = self.uniform((classes,)) * 2
        weight[self.uniform((classes,)) < 0.1] = 0.0
        return self.laid_out(weight.to(self.one_of([torch.float32, torch.float64])))

    def sum_weights(self, masks: int) -> Tensor:
        """Weights of the sums of masks, some of them zero."""
        weight = self.uniform((masks, 8)) * 2
        weight[self.uniform((masks, 8)) < 0.3] = 0.0
        return self.laid_out(weight.to(self.one_of([torch.float32, torch.float64])))

    def as_pair(self, pair: tuple[int, int]) -> Any:
        """A pair of integers in one of the ways that a caller may write it."""
        if pair[0] == pair[1] and self.chance(0.5):
            return pair[0]
        if self.chance(0.2):
            return torch.Size(pair) if self.chance(0.5) else list(pair)
        return pair

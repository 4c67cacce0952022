"""What the cells of every layer see of the image: strides, offsets and receptive fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._arguments import is_list, pair, shown
from ..geometry import Grid
from ..ops import _common
from .following import Found, Pass, backwards, watched

__all__ = ["Layer", "Region", "measured_field", "receptive_fields"]


class Region(NamedTuple):
    """A box around pixels: rows ``[top, bottom)``, columns ``[left, right)``."""

    top: int
    """The first row."""
    bottom: int
    """One past the last row."""
    left: int
    """The first column."""
    right: int
    """One past the last column."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def holds(self, other: Region) -> bool:
        """Whether all of ``other`` lies inside; an empty region always does."""
        return 0 in other.size or (
            self.top <= other.top
            and other.bottom <= self.bottom
            and self.left <= other.left
            and other.right <= self.right
        )

    @staticmethod
    def around(mask: np.ndarray | Tensor) -> Region:
        """The smallest box around the true elements of ``mask`` (H, W); empty if there are none."""
        rows, columns = np.nonzero(np.asarray(mask))
        if not len(rows):
            return Region(0, 0, 0, 0)
        top, bottom = int(rows.min()), int(rows.max()) + 1
        return Region(top, bottom, int(columns.min()), int(columns.max()) + 1)


@dataclass(frozen=True, eq=False)
class Layer:
    """The result of a layer, as :func:`receptive_fields` found it.

    Attributes:
        name: that of the module in its net; the published name, if the net has such names.
        kind: the class of the module.
        parameters: the number of its parameters.
        shape: that of its result for the given images.
        grids: where the cells lie in the image, by rows and by columns. None if they are not a
            regular grid: after a mean over the image, or a fully connected layer.
    """

    name: str
    kind: str
    parameters: int
    shape: tuple[int, ...]
    grids: tuple[Grid, Grid] | None
    _found: Found = field(repr=False)

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """Height and width, in pixels, of what one cell sees of an image without borders; None if
        the cells are not a regular grid.

        After an upsampling some cells see more than others: this is then the largest field of the
        cells around the middle of the map.
        """
        if self.grids is None:
            return None
        if not any(map.upsampled for map in backwards(self._found.map)):
            rows, columns = (int(grid.receptive_field) for grid in self.grids)
            return rows, columns
        heights, widths = zip(*(self.sees(cell).size for cell in self._neighbors()), strict=True)
        return max(heights), max(widths)

    def _neighbors(self) -> Iterator[tuple[int, int]]:
        """Cells on a diagonal around the middle, enough that all different fields occur."""
        strides = [grid.stride for map in backwards(self._found.map) for grid in map.grids or ()]
        assert self.grids is not None
        period = math.ceil(max(strides) / min(grid.stride for grid in self.grids))
        for ahead in range(-(period // 2), period - period // 2):
            row, column = (
                min(max(middle + ahead, 0), size - 1)
                for middle, size in zip(self.middle, self.map_size, strict=True)
            )
            yield row, column

    def sees(self, cell: int | Sequence[int] | None = None) -> Region:
        """The pixels of the image that a cell sees, without those beyond the border.

        Args:
            cell: (row, column); by default the one in the middle.

        Raises:
            ValueError: there is no such cell.
        """
        cell = self.middle if cell is None else _checked(cell, self.map_size)
        masks = {
            self._found.map: [np.arange(n) == c for n, c in zip(self.map_size, cell, strict=True)]
        }
        image = self._found.map
        # Later maps come first, so that all readers of a map are known before it.
        for map in backwards(self._found.map):
            image = map
            for source, steps in map.sources:
                found = masks.setdefault(source, [np.zeros(n, bool) for n in source.size])
                for mask, step, seen in zip(found, steps, masks[map], strict=True):
                    places = step.reads(np.flatnonzero(seen), len(mask))
                    mask[places[(places >= 0) & (places < len(mask))]] = True
        rows, columns = masks[image]
        return Region.around(rows[:, None] & columns)

    @property
    def path(self) -> str:
        """The path of the module in its net, as ``get_submodule`` takes it."""
        return self._found.path

    @property
    def map_size(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        return self._found.map.size

    @property
    def middle(self) -> tuple[int, int]:
        """The cell in the middle, (row, column)."""
        height, width = self.map_size
        return height // 2, width // 2


def receptive_fields(module: nn.Module, input_shape: Sequence[int]) -> dict[str, Layer]:
    """Strides, offsets and receptive fields of all layers of ``module``, from one pass through it.

    The pass runs on tensors without memory, in evaluation mode. Convolutions, transposed ones,
    poolings (dilated, padded, with sizes rounded up, or not square), bilinear and nearest
    interpolation, crops, paddings, sums and concatenations of branches, elementwise functions and
    batch normalization are followed exactly. Any other operation is assumed to see its whole input,
    which is never too little. If a cell sees the image through several branches, the result is the
    box around all their fields.

    Coordinates compose as in :mod:`fcn_ext.geometry` (Caffe's ``coord_map``)::

        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
        >>> last = receptive_fields(net, (1, 3, 32, 32))["2"]
        >>> last.receptive_field, last.grids[0].stride, last.grids[0].center(0)
        ((8, 8), Fraction(2, 1), Fraction(5, 2))
        >>> last.sees((0, 0))
        Region(top=0, bottom=7, left=0, right=7)

    Args:
        module: from images to a tensor, or to nested lists or dicts of tensors.
        input_shape: ``(N, C, H, W)`` of the images.

    Returns:
        A layer for every module whose result is a new map, first to last, by its name; elementwise
        modules and those that only pass on another's result have none. The result of ``module``
        itself is called ``output``, unless a part of it made it. Further calls of a module have a
        number: ``conv``, ``conv (2)``.

    Raises:
        TypeError: ``module`` is not a module, or ``input_shape`` not a list.
        ValueError: ``input_shape`` is not the shape of images.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    shape = _image_shape(input_shape)
    empty = {name: value.detach().to("meta") for name, value in _state(module)}
    # The default device is set, since modules may create constants. Inference mode is off, since in
    # it composite operations such as dropout and convolutions are not split into their parts.
    with torch.inference_mode(False), torch.device("meta"), torch.no_grad():
        images = torch.empty(shape, dtype=_dtype(module))
        run = Pass(module, images)
        with watched(module, run.name), run:
            # Untied: a module that lies at several paths would otherwise keep the tensors without
            # memory.
            torch.func.functional_call(module, empty, (images,), tie_weights=False)
    parts = dict(module.named_modules())
    return {name: _layer(name, parts[found.path], found) for name, found in run.found.items()}


def measured_field(
    module: nn.Module, layer: str, images: Tensor, cell: int | Sequence[int] | None = None
) -> Tensor:
    """How much one cell of a layer depends on each pixel: the absolute gradient there.

    Pixels that no path of nonzero weights and active units connects with the cell have 0; all
    others lie inside ``receptive_fields(module, images.shape)[layer].sees(cell)``.

        >>> conv = nn.Conv2d(1, 1, 3, padding=1)
        >>> gradient = measured_field(nn.Sequential(conv), "0", torch.zeros(1, 1, 9, 9), (4, 4))
        >>> Region.around(gradient > 0)
        Region(top=3, bottom=6, left=3, right=6)

    Args:
        module: the net; it runs in evaluation mode.
        layer: a name that :func:`receptive_fields` gives.
        images: ``(N, C, H, W)``, floating point, on the net's device.
        cell: (row, column); by default the one in the middle.

    Returns:
        ``(H, W)``: the gradient of the sum over the cell's channels, absolute values summed over
        images and channels.

    Raises:
        TypeError: ``images`` is not a tensor.
        ValueError: there is no such layer or cell, or ``images`` are not images.
    """
    if not _common.is_map(images, "images").is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}")
    layers = receptive_fields(module, images.shape)
    if not (isinstance(layer, str) and layer in layers):
        raise ValueError(f"layer must be one of {', '.join(layers)}, got {shown(layer)}")
    found = layers[layer]
    place = found.middle if cell is None else _checked(cell, found.map_size)
    calls: list[str] = []

    def stop(path: str, result: Any) -> None:
        calls.append(path)
        if (path, calls.count(path)) == (found._found.path, found._found.call):
            raise _Reached(next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)))

    with torch.inference_mode(False), torch.enable_grad(), watched(module, stop):
        images = images.detach().clone().requires_grad_()
        # Tensors made in inference mode cannot take part in a backward pass.
        state = {name: value.clone() for name, value in _state(module) if value.is_inference()}
        try:
            torch.func.functional_call(module, state, (images,), tie_weights=False)
        except _Reached as result:
            value = result.tensor if result.tensor.dim() > 2 else result.tensor[..., None, None]
        (gradient,) = torch.autograd.grad(value[..., place[0], place[1]].sum(), images)
    return gradient.abs().sum((0, 1))


class _Reached(Exception):
    """Ends a pass through a net at the result that was wanted."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _layer(name: str, part: nn.Module, found: Found) -> Layer:
    return Layer(
        name=name,
        kind=type(part).__name__,
        parameters=sum(parameter.numel() for parameter in part.parameters()),
        shape=found.shape,
        grids=found.map.grids,
        _found=found,
    )


def _checked(cell: Any, size: tuple[int, int]) -> tuple[int, int]:
    row, column = pair(cell, "cell")
    if not (0 <= row < size[0] and 0 <= column < size[1]):
        raise ValueError(f"cell must lie in a map of {size[0]} x {size[1]}, got {(row, column)}")
    return row, column


def _image_shape(value: Any) -> tuple[int, ...]:
    if not is_list(value):
        raise TypeError(f"input_shape must be (N, C, H, W), all >= 1, got {shown(value)}")
    shape = tuple(value)
    if len(shape) != 4 or not all(isinstance(n, Integral) and int(n) >= 1 for n in shape):
        raise ValueError(f"input_shape must be (N, C, H, W), all >= 1, got {shape}")
    return shape


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of every module, also those that several modules share."""
    for path, part in module.named_modules():
        yield from part.named_parameters(path, recurse=False, remove_duplicate=False)
        yield from part.named_buffers(path, recurse=False, remove_duplicate=False)


def _dtype(module: nn.Module) -> torch.dtype:
    dtypes = [p.dtype for p in module.parameters() if p.is_floating_point()]
    return dtypes[0] if dtypes else torch.get_default_dtype()

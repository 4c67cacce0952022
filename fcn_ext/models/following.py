"""A pass through a net that records, for every map, which maps it was made from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..geometry import Grid
from .coarse import image_size
from .names import PublishedNames, renamed
from .reads import read_by
from .steps import Step, everything, unmoved

__all__ = ["Found", "Map", "Pass", "backwards", "watched"]


@dataclass(eq=False)
class Map:
    """A tensor on its way through a net: what it was made from."""

    size: tuple[int, int]
    grids: tuple[Grid, Grid] | None
    sources: list[tuple[Map, tuple[Step, Step]]] = field(default_factory=list)

    @property
    def upsampled(self) -> bool:
        """Whether it has a finer grid than a map it was made from."""
        return self.grids is not None and any(
            grid.scale > before.scale
            for source, _ in self.sources
            for grid, before in zip(self.grids, source.grids or (), strict=False)
        )


class Found(NamedTuple):
    """A map that a module returned: the module's path, the number of the call, and the shape."""

    path: str
    call: int
    shape: tuple[int, ...]
    map: Map


@contextlib.contextmanager
def watched(module: nn.Module, watch: Callable[[str, Any], None]) -> Iterator[None]:
    """In evaluation mode, with ``watch(path, result)`` called after every module's call."""
    modes = [(part, part.training) for part in module.modules()]
    hooks = [
        part.register_forward_hook(lambda _, __, result, path=path: watch(path, result))
        for path, part in module.named_modules()
    ]
    module.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes:
            part.training = training


class Pass(TorchDispatchMode):
    """Records, for every tensor made from the images, what it was made from.

    Attributes:
        found: the maps that modules returned, by the modules' names.
    """

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.found: dict[str, Found] = {}
        self._published: dict[str, str] = {}
        if isinstance(module, PublishedNames):
            self._published = {path: name for name, path in module.published_names().items()}
        self._calls: list[str] = []
        # The tensor is kept, too: its id is the key, and must not be reused.
        image = Map(image_size(images), (Grid(), Grid()))
        self._maps: dict[int, tuple[Tensor, Map]] = {id(images): (images, image)}
        self._named: set[Map] = {image}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                sources = [
                    (self._maps[id(tensor)][1], steps)
                    for tensor, steps in read_by(func, args, kwargs, leaf)
                    if id(tensor) in self._maps
                ]
                if sources:
                    self._maps[id(leaf)] = leaf, _made_of(sources, leaf)
                    if func._schema.is_mutable and leaf._base is not None:
                        self._write_into(leaf._base, leaf)
        return result

    def _write_into(self, whole: Tensor, part: Tensor) -> None:
        """``part``, a view of ``whole``, was changed; where in ``whole`` it lies is unknown."""
        written = [
            self._maps[id(tensor)][1] for tensor in (whole, part) if id(tensor) in self._maps
        ]
        sources = [(map, (everything, everything)) for map in written]
        self._maps[id(whole)] = whole, _made_of(sources, whole)

    def name(self, path: str, result: Any) -> None:
        """Records the map that the module at ``path`` returned, if it is a new one."""
        self._calls.append(path)
        tensors = [leaf for leaf in tree_leaves(result) if id(leaf) in self._maps]
        maps = [(tensor, self._maps[id(tensor)][1]) for tensor in tensors]
        if len(maps) != 1 or maps[0][1] in self._named:
            return
        ((tensor, map),) = maps
        self._named.add(map)
        name, call = renamed(path, self._published) or path or "output", self._calls.count(path)
        name = name if call == 1 else f"{name} ({call})"
        self.found[name] = Found(path, call, tuple(tensor.shape), map)


def _made_of(sources: list[tuple[Map, tuple[Step, Step]]], result: Tensor) -> Map:
    """The map of ``result``; that of its only source, if all cells are the same."""
    if {map for map, _ in sources} == {sources[0][0]} and all(
        step is unmoved for _, steps in sources for step in steps
    ):
        return sources[0][0]
    size = image_size(result) if result.dim() > 2 else (1, 1)
    axes = [
        _joined([_after(map.grids and map.grids[axis], steps[axis]) for map, steps in sources])
        for axis in (0, 1)
    ]
    rows, columns = axes
    return Map(size, None if rows is None or columns is None else (rows, columns), sources)


def _after(grid: Grid | None, step: Step) -> Grid | None:
    return None if grid is None or step.grid is None else step.grid(grid)


def _joined(grids: list[Grid | None]) -> Grid | None:
    """The grid of branches that join: its field covers all of theirs, and its center is that
    field's."""
    first = grids[0]
    if first is None or any(grid is None or grid.scale != first.scale for grid in grids):
        return None
    known = [grid for grid in grids if grid is not None]
    reaches = [(grid.receptive_field - 1) / 2 for grid in known]
    low = min(grid.center(0) - reach for grid, reach in zip(known, reaches, strict=True))
    high = max(grid.center(0) + reach for grid, reach in zip(known, reaches, strict=True))
    return Grid(first.scale, -(low + high) / 2 * first.scale, high - low + 1)


def backwards(last: Map) -> list[Map]:
    """``last`` and all that it was made from, each before its sources."""
    order: list[Map] = []
    seen: set[Map] = set()
    stack: list[tuple[Map, bool]] = [(last, False)]
    while stack:
        map, done = stack.pop()
        if done:
            order.append(map)
        elif map not in seen:
            seen.add(map)
            stack.append((map, True))
            stack += [(source, False) for source, _ in map.sources]
    return order[::-1]

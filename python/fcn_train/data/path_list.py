"""Many paths in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

__all__ = ["PathList"]


class PathList(Sequence[Path]):
    """The paths of a data set, as one text: a `Path` of its own takes some 400 bytes, and lists may
    name millions. Processes that load examples share it, too, as looking at a path writes nothing.

    Attributes:
        folders: those that hold any, each once.

    Example:
        >>> PathList([Path("images/a.png"), Path("images/b.png")])[1]
        PosixPath('images/b.png')
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.folders: list[str] = []
        self._names = bytearray()  # without their folders, one after the other
        self._ends = array("Q")  # of each in these
        self._numbers: dict[str, int] = {}  # of the folders
        self._places = array("I")  # which of them each path is in
        for path in paths:
            self.append(path)

    def append(self, path: Path) -> None:
        text = os.fspath(path)
        cut = text.rfind(os.sep) + 1
        number = self._numbers.setdefault(text[:cut], len(self.folders))
        if number == len(self.folders):
            self.folders.append(text[:cut])
        self._places.append(number)
        self._names += text[cut:].encode("utf-8", "surrogatepass")
        self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> PathList: ...

    def __getitem__(self, index: int | slice) -> Path | PathList:
        if isinstance(index, slice):
            return PathList(self[place] for place in range(*index.indices(len(self))))
        end = self._ends[index]
        place = index % len(self)
        start = self._ends[place - 1] if place else 0
        name = self._names[start:end].decode("utf-8", "surrogatepass")
        return Path(self.folders[self._places[place]] + name)

    def __iter__(self) -> Iterator[Path]:
        return (self[index] for index in range(len(self)))

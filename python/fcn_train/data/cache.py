"""Decoded examples in memory that the loader processes share: each image is decoded once."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.example import Example
from fcn_train.data.problems import Problem

try:
    import fcntl
except ImportError:  # a system without it does not have this kind of memory either
    fcntl = None  # type: ignore[assignment]

__all__ = ["CachedDataset", "SharedStore"]

_WORD = 8  # bytes of the integers that locate entries; entries begin at multiples of it


class SharedStore:
    """Byte arrays by number, each written once, in anonymous memory of bounded size.

    The memory belongs to no file system: it is freed with the last process that uses it, however
    that ends, and a small `/dev/shm` does not limit it. Forked processes inherit it; spawned ones
    receive it by pickling. The lock is the system's and is released when a process is killed.

    Nothing is ever removed. A training goes through all images before it returns to one, so every
    set of images that fits is used equally often, and one that changed would be used less.

    Args:
        count: numbers are 0..count - 1.
        size: the most bytes of memory; they are allocated as they are written.

    Raises:
        OSError: the system has no such memory (only Linux does).
    """

    def __init__(self, count: int, size: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("shared memory without a name is Linux's (memfd_create)")
        self._count = count
        self._size = max(size, (count + 1) * _WORD)
        self._file = os.memfd_create("fcn-cache")
        os.ftruncate(self._file, self._size)
        self._map()
        self._words[0] = (count + 1) * _WORD  # where the next entry begins

    def get(self, number: int) -> np.ndarray | None:
        """The bytes written under ``number`` to the end of the memory, uint8, read-only."""
        with _Locked(self._file, fcntl.LOCK_SH):
            start = int(self._words[1 + number])
        return self._bytes[start:] if start else None

    def put(self, number: int, parts: Sequence[np.ndarray]) -> bool:
        """Write arrays one after another under ``number``, replacing what was there; returns
        whether they fit and the system had the memory."""
        needed = sum(part.nbytes for part in parts)
        with _Locked(self._file, fcntl.LOCK_EX):
            start = int(self._words[0])
            end = start + _WORD * math.ceil(needed / _WORD)
            if end > self._size:
                return False
            self._words[0] = end
        # Outside the lock: the place belongs to this entry, and others do not know it until the
        # end.
        try:
            place = start
            for part in parts:
                # Through the file: if memory is short, a store to the mapping would kill the
                # process.
                data = memoryview(part.tobytes())
                while data:
                    written = os.pwrite(self._file, data, place)
                    data, place = data[written:], place + written
        except OSError:
            with _Locked(self._file, fcntl.LOCK_EX):
                self._words[0] = self._size  # so that nobody tries again
            return False
        with _Locked(self._file, fcntl.LOCK_EX):
            self._words[1 + number] = start
        return True

    @property
    def entries(self) -> int:
        """How many numbers have been written."""
        with _Locked(self._file, fcntl.LOCK_SH):
            return int(np.count_nonzero(self._words[1:]))

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self._size)
        self._words = np.frombuffer(memory, np.int64, count=self._count + 1)
        self._bytes = np.frombuffer(memory, np.uint8)
        self._bytes.flags.writeable = False

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self._count, "size": self._size, "file": DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._count, self._size = state["count"], state["size"]
        self._file = state["file"].detach()
        self._map()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


class CachedDataset(SegmentationDataset):
    """A data set whose examples are kept in a store once they have been decoded.

    An example is taken from the store only while its files are unchanged, by time of last change,
    size and inode. A changed file is read again, and a removed one is reported as missing.

    Args:
        dataset: the data set to keep.
        store: where to keep it, with a number for every example.
        first: the number of the first example in the store.
    """

    def __init__(self, dataset: SegmentationDataset, store: SharedStore, first: int = 0) -> None:
        vars(self).update(dataset.__getstate__())
        self._uncached = dataset
        self._store = store
        self._first = first

    def only(self, which: int) -> SegmentationDataset:
        return self._uncached.only(which)

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        # Before the files are read: if one changes meanwhile, the entry will not be used.
        version = self._version(index)
        kept = None if version is None else self._store.get(self._first + index)
        if version is not None and kept is not None:
            example = self._unpacked(kept, version)
            if example is not None:
                return example, []
        decoded, problems = self._uncached.examine(index)
        if version is not None and decoded is not None:
            self._keep(index, decoded, version)
        return decoded, problems

    def label(self, index: int) -> np.ndarray:
        return self._uncached.label(index)

    def image_size(self, index: int) -> tuple[int, int]:
        return self._uncached.image_size(index)

    def _version(self, index: int) -> np.ndarray | None:
        """Identifies the content of an example's files; None if one is missing."""
        facts = []
        try:
            for _, path in self.files(index):
                found = path.stat()
                facts += [found.st_ctime_ns, found.st_size, found.st_ino]
        except OSError:
            return None
        return np.array([fact % 2**64 for fact in facts], np.uint64).view(np.int64)

    def _keep(self, index: int, example: Example, version: np.ndarray) -> None:
        shape = example.image.shape[:2]
        arrays = [example.image, *example.labels, example.depth, example.hha]
        parts = [np.array(shape, np.int64), version]
        for array, (more, dtype) in zip(
            [array for array in arrays if array is not None], self._layout(), strict=True
        ):
            if array.shape != (*shape, *more) or array.dtype != dtype:
                return  # it could not be unpacked
            parts.append(array)
        self._store.put(self._first + index, parts)

    def _unpacked(self, kept: np.ndarray, version: np.ndarray) -> Example | None:
        """The example in an entry; None if it was decoded from other files."""
        head = (2 + len(version)) * _WORD
        height, width, *facts = kept[:head].view(np.int64).tolist()
        if facts != version.tolist():
            return None
        arrays = []
        for more, dtype in self._layout():
            shape = (height, width, *more)
            size = math.prod(shape) * dtype.itemsize
            arrays.append(kept[head : head + size].view(dtype).reshape(shape))
            head += size
        sets = len(self.label_sets)
        image, first, *more_labels = arrays[: 1 + sets]
        others = iter(arrays[1 + sets :])
        depth = next(others) if self._depths else None
        hha = next(others) if self._hhas else None
        return Example(image, first, tuple(more_labels), depth, hha)

    def _layout(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """For each array of an example, in order: the shape after height and width, and the
        type."""
        byte, color = np.dtype(np.uint8), (3,)
        layout: list[tuple[tuple[int, ...], np.dtype[Any]]] = [(color, byte)]
        layout += [((), byte)] * len(self.label_sets)
        layout += [((), np.dtype(np.uint16))] * bool(self._depths)
        layout += [(color, byte)] * bool(self._hhas)
        return layout


class _Locked:
    """A context in which no other process holds the lock of a file, or none to write."""

    def __init__(self, file: int, kind: int) -> None:
        self._file, self._kind = file, kind

    def __enter__(self) -> None:
        fcntl.lockf(self._file, self._kind, _WORD)

    def __exit__(self, *unused: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, _WORD)

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
except ImportError:  # a system without it has no memory of this kind either
    fcntl = None  # type: ignore[assignment]

__all__ = ["CachedDataset", "SharedStore"]

_WORD = 8  # bytes of the integers that say where entries are; entries begin at multiples of it


class SharedStore:
    """Bytes by number, each written once, in anonymous memory of a bounded size.

    The memory belongs to no file system, so it goes with the last process that uses it however that
    ends, and a small `/dev/shm` does not limit it. Processes get it by being forked or, pickled,
    by being spawned. The lock is the system's and released when a process is killed.

    Nothing is ever removed. A training goes through all images before it comes back to one, so any
    set of images that fits is used as often as any other, and one that changed would be used less.

    Args:
        count: numbers are 0..count - 1.
        size: bytes of memory at most. It is taken as it is written.

    Raises:
        OSError: the system has no such memory (it is Linux's).
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
        """Write arrays one after another under ``number``, in place of what was there; returns
        whether they fit and the system had the memory."""
        needed = sum(part.nbytes for part in parts)
        with _Locked(self._file, fcntl.LOCK_EX):
            start = int(self._words[0])
            end = start + _WORD * math.ceil(needed / _WORD)
            if end > self._size:
                return False
            self._words[0] = end
        # Outside of the lock: the place is this entry's alone, and unknown to others until the end.
        try:
            place = start
            for part in parts:
                # By the file: where memory is short a store to the mapping would kill the process.
                data = memoryview(part.tobytes())
                while data:
                    written = os.pwrite(self._file, data, place)
                    data, place = data[written:], place + written
        except OSError:
            with _Locked(self._file, fcntl.LOCK_EX):
                self._words[0] = self._size  # so nobody tries again
            return False
        with _Locked(self._file, fcntl.LOCK_EX):
            self._words[1 + number] = start
        return True

    @property
    def entries(self) -> int:
        """How many numbers have something written under them."""
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
    """The same data set, whose examples are kept in a store once they were decoded.

    An example is taken from the store only while its files are those that it was decoded from, by
    the time of their last change, their size and inode. A file that changed is read again, one that
    is gone is missed.

    Args:
        dataset: what to keep.
        store: where, with numbers for every example.
        first: the number of the first example there.
    """

    def __init__(self, dataset: SegmentationDataset, store: SharedStore, first: int = 0) -> None:
        vars(self).update(dataset.__getstate__())
        self._uncached = dataset
        self._store = store
        self._first = first

    def only(self, which: int) -> SegmentationDataset:
        return self._uncached.only(which)

    def examine(self, index: int) -> tuple[Example | None, list[Problem]]:
        # Before the files are read: if one changes meanwhile, the entry is not taken again.
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
        """What tells the files of an example from others in their places; None if one is gone."""
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
                return  # nothing that could be unpacked
            parts.append(array)
        self._store.put(self._first + index, parts)

    def _unpacked(self, kept: np.ndarray, version: np.ndarray) -> Example | None:
        """The example in an entry; None if it is of other files."""
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
        """Of each array of an example in their order: what follows its height and width, and its
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

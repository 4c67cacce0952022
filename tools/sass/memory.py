"""Global memory is the host's, shared memory an array: gathers and scatters of lanes.

A kernel's pointers are those of this process, so its machine code reads and writes the very tensors
that the caller holds. Addresses are checked against the memory that the process has mapped.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BANKS = 32
SECTOR = 32  # bytes that memory moves at once


class AccessError(RuntimeError):
    """A lane reads or writes where there is no memory."""


class GlobalMemory:
    def __init__(self) -> None:
        self._ranges = np.zeros((0, 2), np.int64)

    def _look(self) -> None:
        """Reads which addresses the process has mapped."""
        merged: list[list[int]] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            begin, end = (int(part, 16) for part in span.split("-"))
            if end >= 1 << 47 or not rights.startswith("rw"):
                continue
            if merged and merged[-1][1] == begin:
                merged[-1][1] = end
            else:
                merged.append([begin, end])
        self._ranges = np.array(merged, np.int64)

    def _check(self, addresses: Array, size: int) -> None:
        for attempt in range(2):
            if len(self._ranges):
                at = np.searchsorted(self._ranges[:, 0], addresses, "right") - 1
                if (at >= 0).all() and (addresses + size <= self._ranges[at, 1]).all():
                    break
            if attempt == 1:
                raise AccessError(f"no memory at one of {[hex(a) for a in addresses[:4]]}")
            self._look()
        if (addresses % size).any():
            raise AccessError(f"an access of {size} bytes is not aligned")

    @staticmethod
    def _words(lowest: int, highest: int, dtype: str) -> tuple[Array, int]:
        size = np.dtype(dtype).itemsize
        begin = lowest // size * size
        count = (highest - begin) // size + 1
        buffer = (ctypes.c_char * (count * size)).from_address(begin)
        return np.frombuffer(buffer, dtype), begin

    def load(self, addresses: Array, dtype: str, words: int) -> Array:
        """The values, (words, lanes)."""
        size = np.dtype(dtype).itemsize
        self._check(addresses, size * words)
        span, begin = self._words(
            int(addresses.min()), int(addresses.max()) + (words - 1) * size, dtype
        )
        at = (addresses - begin) // size
        return np.stack([span[at + k] for k in range(words)])

    def store(self, addresses: Array, values: Array, dtype: str) -> None:
        """values: (words, lanes). If lanes have the same address, the last one's value stays."""
        size = np.dtype(dtype).itemsize
        self._check(addresses, size * len(values))
        span, begin = self._words(
            int(addresses.min()), int(addresses.max()) + (len(values) - 1) * size, dtype
        )
        at = (addresses - begin) // size
        for k, value in enumerate(values):
            span[at + k] = value


class SharedMemory:
    """The shared memory of several blocks, one after another; initially NaN."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = (size + 15) // 16 * 16
        self.bytes = np.full(blocks * self.size, 0xFF, np.uint8)

    def places(self, addresses: Array, block: Array, size: int) -> Array:
        """The index of an address in `bytes`."""
        if (addresses < 0).any() or (addresses + size > self.size).any():
            raise AccessError(f"shared memory ends at {self.size}, not behind {addresses.max()}")
        if (addresses % size).any():
            raise AccessError(f"an access of {size} bytes is not aligned")
        return block * self.size + addresses

    def load(self, places: Array, dtype: str, words: int) -> Array:
        view = self.bytes.view(dtype)
        at = places // view.itemsize
        return np.stack([view[at + k] for k in range(words)])

    def store(self, places: Array, values: Array, dtype: str) -> None:
        view = self.bytes.view(dtype)
        at = places // view.itemsize
        for k, value in enumerate(values):
            view[at + k] = value


def wavefronts(warps: Array, addresses: Array, size: int) -> int:
    """The passes that shared memory takes, each of which serves a word of every bank. Accesses of 8
    and 16 bytes are served for half and quarter warps at a time."""
    words = addresses // 4
    part = size // 4 if size > 4 else 1
    if part > 1:
        # Lanes of a part are in order; a full warp has `part` parts.
        order = np.arange(len(words))
        first = np.searchsorted(warps, warps, "left")
        warps = warps * part + (order - first) * part // BANKS
        words = (words[:, None] + np.arange(part)).ravel()
        warps = np.repeat(warps, part)
    different = np.unique(warps.astype(np.int64) << 32 | words)
    of_bank = (different >> 32) * BANKS + different % BANKS
    banks, counts = np.unique(of_bank, return_counts=True)
    begins = np.flatnonzero(np.diff(banks // BANKS, prepend=-1))
    return int(np.maximum.reduceat(counts, begins).sum())


class Sectors:
    """Sectors of global memory that warps requested: how many, and which."""

    def __init__(self) -> None:
        self.requested = 0
        self._kept: list[Array] = []
        self._held = 0

    def note(self, warps: Array, addresses: Array, size: int) -> None:
        first, last = addresses // SECTOR, (addresses + size - 1) // SECTOR
        of_warp = warps.astype(np.int64) << 43
        asked = np.unique(np.concatenate([of_warp | first, of_warp | last]))
        self.requested += len(asked)
        self._kept.append(np.unique(asked & ((1 << 43) - 1)))
        self._held += len(self._kept[-1])
        if self._held > 1 << 22:
            self._kept = [self._distinct()]
            self._held = len(self._kept[0])

    def _distinct(self) -> Array:
        return np.unique(np.concatenate(self._kept)) if self._kept else np.zeros(0, np.int64)

    @property
    def bytes(self) -> int:
        """The bytes of all distinct sectors."""
        return SECTOR * len(self._distinct())


class Traffic:
    """The memory traffic of a machine's threads."""

    def __init__(self) -> None:
        self.wavefronts = 0  # of shared memory
        self.loads = Sectors()
        self.stores = Sectors()

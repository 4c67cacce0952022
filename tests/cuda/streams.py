"""The questions about streams and the host that every family of operators answers, asked once.

A test file subclasses :class:`StreamContract` with work of its own and inherits the tests.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class StreamContract(ABC):
    """Operators that never wait for the host and follow the current stream."""

    classes: int

    @abstractmethod
    def maps(self) -> dict[str, Tensor]:
        """Random operands of the work, other ones on every call."""

    @abstractmethod
    def work(self, maps: dict[str, Tensor], matrix: Tensor, invalid: Tensor) -> list[Tensor]:
        """Every operator of the family once; counts are added to `matrix` and `invalid`."""

    def counts(self) -> tuple[Tensor, Tensor]:
        return (
            torch.zeros(self.classes, self.classes, dtype=torch.int64, device="cuda"),
            torch.zeros((), dtype=torch.int64, device="cuda"),
        )

    def test_host_does_not_wait(self) -> None:
        maps, counts = self.maps(), self.counts()
        self.work(maps, *counts)  # loads the kernels and warms the allocator
        torch.cuda.synchronize()
        done = torch.cuda.Event()
        begin = time.perf_counter()
        torch.cuda._sleep(2_000_000_000)
        self.work(maps, *counts)
        done.record()
        elapsed = time.perf_counter() - begin
        assert not done.query(), f"the host waited {elapsed:.3f} s for the device"
        torch.cuda.synchronize()

    def test_graphs_capture_and_replay(self) -> None:
        """Capture refuses any synchronization; a replay counts again into the same matrix."""
        maps, counts = self.maps(), self.counts()
        self.work(maps, *counts)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self.work(maps, *counts)
        for count in counts:
            count.zero_()
        for name, map in self.maps().items():
            maps[name].copy_(map)
        graph.replay()
        graph.replay()
        twice = self.counts()
        self.work(maps, *twice)
        expected = self.work(maps, *twice)
        for a, e in zip([*outputs, *counts], [*expected, *twice], strict=True):
            assert torch.equal(a, e)

    def test_work_follows_the_current_stream(self) -> None:
        """Behind a long wait on a side stream come the inputs' values, and then the operators."""
        maps, counts = self.maps(), self.counts()
        expected = self.work(maps, *counts)
        blank = {name: torch.zeros_like(map) for name, map in maps.items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        side_counts = self.counts()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(200_000_000)
            for name, map in maps.items():
                blank[name].copy_(map)
            actual = self.work(blank, *side_counts)
        side.synchronize()
        for a, e in zip([*actual, *side_counts], [*expected, *counts], strict=True):
            assert torch.equal(a, e)

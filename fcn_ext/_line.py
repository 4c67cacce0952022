"""The line of csrc/common/geometry.h on which the outputs of a resize lie, for Python that needs it
without an operator."""

from __future__ import annotations

from typing import Any, NamedTuple


class Line(NamedTuple):
    """Output ``o`` lies at ``(step * o + start) / denominator`` of ``nodes`` input nodes, where it
    is moved onto the first or last one if it lies beyond. Numbers are exact integers, or symbols of
    traced code."""

    step: Any
    start: Any
    denominator: Any
    nodes: Any

    def scaled(self, output: Any) -> Any:
        """``denominator`` times the position of an output, or of a tensor of them, not moved."""
        return self.step * output + self.start

    def nodes_read(self, first: int, last: int) -> tuple[int, int]:
        """The nodes, [begin, end), that outputs ``first`` to ``last`` - 1 read."""
        begin, end = (
            min(max(self.scaled(output), 0), (self.nodes - 1) * self.denominator)
            for output in (first, last - 1)
        )
        return begin // self.denominator, -(-end // self.denominator) + 1


def resize_line(nodes: Any, outputs: Any, align_corners: bool) -> Line:
    """The line of a resize of ``nodes`` to ``outputs``."""
    if not align_corners:
        return Line(2 * nodes, nodes - outputs, 2 * outputs, nodes)
    if outputs > 1:
        return Line(nodes - 1, 0, outputs - 1, nodes)
    return Line(0, 0, 1, nodes)

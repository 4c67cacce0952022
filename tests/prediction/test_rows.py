"""Some rows alone are those rows of the whole."""

from __future__ import annotations

import pytest
import torch

from fcn_ext import ops, reference
from fcn_ext.geometry import Resize
from fcn_ext.prediction._rows import Span, full_rows, interpolated, part_of_rows
from tests.ops.contract import TOLERANCE
from tests.ops.heads import CASES, PLAIN, SCORE_TYPES, Case


def spans(height: int) -> list[Span]:
    middle = height // 2
    return [Span(0, 1), Span(0, height), Span(height - 1, height), Span(middle, middle + 1)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_are_those_of_the_whole(case: Case, device: torch.device) -> None:
    for dtype in SCORE_TYPES if case in PLAIN else (torch.float64, torch.float32):
        scores = case.scores(2, 3, dtype).to(device)
        whole = reference.at_full_size(scores.double().cpu(), case.fine, case.geometry)
        for span in spans(case.fine[0]):
            rows = full_rows(scores, span, case.fine, case.geometry)
            assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            near = 1e-12 if dtype == torch.float64 else TOLERANCE[torch.float32]
            expected = whole[:, :, span.slice]
            torch.testing.assert_close(rows.double().cpu(), expected, rtol=near, atol=near)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("inputs", "height"), [(1, 1), (1, 7), (5, 1), (5, 5), (3, 8), (97, 13)])
def test_rows_read_are_the_operators(inputs: int, height: int, align_corners: bool) -> None:
    """Bit for bit: each node's share in each row, from no more nodes than have one."""
    for dtype in (torch.float64, torch.float32):
        nodes = torch.eye(inputs, dtype=dtype).view(1, inputs, inputs, 1)
        expected = ops.interpolate(nodes, (height, 1), align_corners=align_corners)
        for span in spans(height):
            read, part = part_of_rows((inputs, 1), span, (height, 1), align_corners)
            rows = interpolated(nodes[:, :, read.slice], (span.length, 1), part)
            assert torch.equal(rows, expected[:, :, span.slice])
            has_share = expected[0, :, span.slice, 0].any(1).nonzero()
            assert read == (int(has_share.min()), int(has_share.max()) + 1)


def test_a_row_on_a_node_reads_this_one_alone() -> None:
    scores = torch.tensor([1.0, torch.inf, torch.nan]).view(1, 1, 3, 1)
    rows = full_rows(scores, Span(0, 1), (3, 1), Resize(align_corners=True))
    assert rows.item() == 1.0

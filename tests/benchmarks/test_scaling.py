"""The arithmetic of docs/scaling.md: against a simulated ring and torch's own memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import scaling
from benchmarks.scaling import Link, Logits, all_reduce_seconds, ring_seconds

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_a_ring_that_is_run(members: int) -> None:
    """Each member sends one part to the next at a time; all messages of a round go at once."""
    link = Link("", speed=7.0, latency=0.25)
    parts = 5 * np.arange(members * members, dtype=np.int64).reshape(members, members)
    data, total, seconds = parts.copy(), parts.sum(0), 0.0
    part_bytes = 3.0
    for half in ("sum", "copy"):
        for turn in range(members - 1):
            sent = [(rank - turn + (half == "copy")) % members for rank in range(members)]
            values = [data[rank, part] for rank, part in enumerate(sent)]
            for rank, (part, value) in enumerate(zip(sent, values, strict=True)):
                place = ((rank + 1) % members, part)
                data[place] = value + (data[place] if half == "sum" else 0)
            seconds += link.latency + part_bytes / link.speed
    assert (data == total).all()
    assert ring_seconds(part_bytes * members, members, link) == pytest.approx(seconds)


def test_one_host_and_one_gpu() -> None:
    inside, between = Link("", 10.0, 0.5), Link("", 1.0, 3.0)
    assert all_reduce_seconds(100, 1, inside, between) == 0
    assert all_reduce_seconds(100, 8, inside, between) == ring_seconds(100, 8, inside)
    two_hosts = ring_seconds(100, 8, inside) + ring_seconds(100 / 8, 2, between)
    assert all_reduce_seconds(100, 16, inside, between) == pytest.approx(two_hosts)


def held(tensors: list[torch.Tensor | None]) -> int:
    assert all(one is not None for one in tensors)
    return sum(one.numel() * one.element_size() for one in tensors if one is not None)


def test_bytes_of_logits_are_what_torch_holds() -> None:
    """Three maps of full size at the least, by the tensors that the backward pass makes."""
    case = Logits("", classes=7, height=32, width=40, images=2, stride=8)
    scores = torch.randn(2, 7, 4, 5, requires_grad=True)
    logits = F.interpolate(scores, scale_factor=8, mode="bilinear")
    logits.retain_grad()
    logarithms = F.log_softmax(logits, 1)
    logarithms.retain_grad()
    F.nll_loss(logarithms, torch.zeros(2, 32, 40, dtype=torch.long)).backward()
    assert scaling.logits_bytes(case) == held([logarithms, logarithms.grad, logits.grad])
    assert scaling.coarse_bytes(case) == held([scores, scores.grad])


def test_cores_keep_up_with_a_step() -> None:
    assert scaling.loader_cores(0.25, 10, 40.0) == 1.0
    assert scaling.loader_cores(0.5, 0, 40.0) == 0.0


def test_published_sizes() -> None:
    """VGG16 without its last layer, and the score layers and upsampling of 21 classes."""
    convolutions, before = 0, 3
    for width in (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6:
        convolutions += (9 * before + 1) * width
        before = width
    fc = (49 * 512 + 1) * 4096 + (4096 + 1) * 4096
    scores = sum((width + 1) * 21 for width in (4096, 512, 256))
    assert scaling.parameters("fcn8s", 21) == convolutions + fc + scores


def test_page_shows_what_is_computed() -> None:
    text = PAGE.read_text("utf-8")
    for make in scaling.TABLES:
        assert make() in text, f"replace a table of {PAGE.name}: python -m benchmarks.scaling"

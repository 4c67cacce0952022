"""Large results on the host ask for large pages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fcn_ext import ops

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = pytest.mark.skipif(not HUGE_PAGES.exists(), reason="the system has no large pages")


def asks_for_large_pages(tensor: Tensor) -> bool:
    """Whether the memory in the middle of ``tensor`` was advised so (proc(5), smaps: hg)."""
    place = tensor.data_ptr() + tensor.nbytes // 2
    inside = False
    with open("/proc/self/smaps") as file:
        for line in file:
            first, *rest = line.split()
            if "-" in first and not first.endswith(":"):
                begin, end = (int(number, 16) for number in first.split("-"))
                inside = begin <= place < end
            elif inside and first == "VmFlags:":
                return "hg" in rest
    raise AssertionError("the tensor lies in no mapping")


def gradient(of: Callable[[Tensor], Tensor], *size: int) -> Tensor:
    scores = torch.zeros(size, requires_grad=True)
    of(scores).sum().backward()
    assert scores.grad is not None
    return scores.grad


def the_largest() -> None:
    """Above 512 MiB: a host may have taken so many large pages from a virtual machine."""
    scores = torch.zeros(1, 65, 64, 64)
    assert asks_for_large_pages(ops.upsample(scores[:, :64], 32, output_size=(1448, 1448)))
    assert not asks_for_large_pages(ops.upsample(scores, 32, output_size=(1448, 1448)))


def all_operators(channels: int, large: bool) -> None:
    """Those above 32 MiB: what is smaller may share its mapping with others."""
    scores = torch.zeros(1, channels, 64, 64)
    target = torch.zeros(1, 128, 128, dtype=torch.uint8)
    wide = (1, channels, 512, 512)
    assert asks_for_large_pages(ops.upsample(scores, 8, output_size=(512, 512))) == large
    assert asks_for_large_pages(ops.interpolate(scores, (512, 512))) == large
    coarse = torch.zeros(1, channels, 255, 255)
    assert asks_for_large_pages(ops.fuse_skip(coarse, torch.zeros(wide), (0, 0))) == large
    found = gradient(lambda scores: ops.interpolate(scores, (300, 300)), *wide)
    assert asks_for_large_pages(found) == large
    found = gradient(lambda scores: ops.cross_entropy(scores, target), *wide)
    assert asks_for_large_pages(found) == large


@pytest.mark.parametrize(
    "call", ["the_largest()", "all_operators(2, False)", "all_operators(33, True)"]
)
def test_asked_for_by_size(call: str) -> None:
    """In a process of its own: memory that was asked for and freed may be given out again."""
    code = f"from tests.ops.test_large_pages import *; {call}"
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

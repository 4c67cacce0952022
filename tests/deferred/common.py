"""One program, run plain and in the context: everything that it gives must agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fcn_ext
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._snapshot import Snapshot

Loss = Callable[[Tensor], Tensor]

SIZE = (24, 28)
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float32: 1e-5, torch.float64: 1e-11}


def scores(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (2, 5, 6, 7)) -> Tensor:
    """The same ones at every call."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()


def labels(classes: int = 5, shape: tuple[int, ...] = (2, *SIZE)) -> Tensor:
    """Labels with a void corner, -100."""
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, classes, shape, generator=generator)
    target[:, :3, :4] = -100
    return target


def up(coarse: Tensor, size: tuple[int, int] = SIZE, **options: Any) -> Tensor:
    return F.interpolate(coarse, size=size, mode="bilinear", **options)


def with_gradient(loss: Loss) -> Callable[[Tensor], Any]:
    """A program that gives the loss of logits and the gradient of the scores they come from."""

    def program(coarse: Tensor) -> Any:
        value = loss(up(coarse))
        value.sum().backward()
        return value, coarse.grad

    return program


class Computed:
    """Counts how often a tensor was computed at full size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        resized = Snapshot.resized

        def counted(snapshot: Snapshot, layout: Layout) -> Tensor:
            self.count += layout.is_whole
            return resized(snapshot, layout)

        monkeypatch.setattr(Snapshot, "resized", counted)


def outcome(program: Callable[[Tensor], Any], coarse: Tensor, *, fused: bool) -> Any:
    """What ``program`` gives, or the exception that it raises."""
    context = fcn_ext.fused_upsampling() if fused else nullcontext()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with context:
                return program(coarse)
        except Exception as error:
            return error


def flat(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [part for item in result for part in flat(item)]
    return [result]


def assert_same(ours: Any, plain: Any) -> None:
    """Values to rounding; shapes, dtypes, strides, gradients and errors exactly."""
    if isinstance(plain, Exception) or isinstance(ours, Exception):
        assert type(ours) is type(plain), (ours, plain)
        return
    assert len(flat(ours)) == len(flat(plain))
    for mine, theirs in zip(flat(ours), flat(plain), strict=True):
        if isinstance(theirs, Tensor):
            assert mine.shape == theirs.shape
            assert mine.dtype == theirs.dtype
            assert mine.stride() == theirs.stride()
            assert mine.requires_grad == theirs.requires_grad
            tolerance = TOLERANCE.get(theirs.dtype, 0)
            torch.testing.assert_close(
                torch.from_numpy(np.array(mine.detach().double().tolist())),
                torch.from_numpy(np.array(theirs.detach().double().tolist())),
                rtol=tolerance,
                atol=tolerance,
                equal_nan=True,
            )
        elif isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(mine, theirs, rtol=1e-11)
        else:
            assert mine == theirs


def agrees(
    program: Callable[[Tensor], Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    computed: int,
    dtype: torch.dtype = torch.float64,
    shape: tuple[int, ...] = (2, 5, 6, 7),
) -> None:
    """Runs both and compares, and how often the full tensor was computed."""
    plain = outcome(program, scores(dtype, shape), fused=False)
    counter = Computed(monkeypatch)
    ours = outcome(program, scores(dtype, shape), fused=True)
    count = counter.count
    assert_same(ours, plain)
    assert count == computed, (count, computed)


def assert_as_plain(program: Callable[[Tensor], Any], scores: Callable[[], Tensor]) -> None:
    """A program has in the context what it has without, where it raises nothing."""
    plain = outcome(program, scores(), fused=False)
    if isinstance(plain, Exception):
        raise plain
    ours = outcome(program, scores(), fused=True)
    if isinstance(ours, Exception):
        raise ours
    assert_same(ours, plain)


def assert_as_plain_or_refused(program: Callable[[Tensor], Any]) -> None:
    """The same results, or an exception with the same words."""
    plain = outcome(program, scores(), fused=False)
    ours = outcome(program, scores(), fused=True)
    assert_same(ours, plain)
    if isinstance(plain, Exception):
        assert str(ours) == str(plain)

"""Gradients that are deferred: what they say of themselves is what torch's would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .common import assert_as_plain, scores, up


def _pixels(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), *logits.shape[2:], dtype=torch.int64)


def _ones(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape, dtype=logits.dtype)


LOSSES_OF_VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda x: F.cross_entropy(x, _pixels(x)),
    "of pixels": lambda x: F.cross_entropy(x, _pixels(x), reduction="none").sum(),
    "smoothed": lambda x: F.cross_entropy(x, _pixels(x), label_smoothing=0.1),
    "smoothed, of pixels": lambda x: F.cross_entropy(
        x, _pixels(x), label_smoothing=0.1, reduction="none"
    ).sum(),
    "smoothed and not": lambda x: (
        F.cross_entropy(x, _pixels(x), label_smoothing=0.1) + F.cross_entropy(x, _pixels(x))
    ),
    "sigmoid": lambda x: F.binary_cross_entropy_with_logits(x, _ones(x)),
    "sigmoid, of pixels": lambda x: F.binary_cross_entropy_with_logits(
        x, _ones(x), reduction="none"
    ).sum(),
}
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.transpose(2, 3),
    "pixels and classes": lambda x: x[0].flatten(1).T,
    "rows": lambda x: x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]),
    "flat": lambda x: x.flatten(2),
    "permuted": lambda x: x.permute(3, 1, 2, 0),
    "one image": lambda x: x[:1],
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("loss", LOSSES_OF_VIEWS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("last", [False, True])
def test_strides_of_gradients(loss: str, view: str, last: bool) -> None:
    """Where a hook sees them and where they arrive; and those that a gradient says it has are those
    of its elements."""

    def program(coarse: Tensor) -> Any:
        form = torch.channels_last if last else torch.contiguous_format
        given, seen = coarse.contiguous(memory_format=form) * 1, []

        def hook(gradient: Tensor) -> None:
            again = torch.as_strided(gradient, gradient.shape, gradient.stride())
            seen.append((gradient.stride(), gradient + 0, again + 0))

        logits = VIEWS[view](up(given))
        logits.register_hook(hook)
        (result,) = torch.autograd.grad(LOSSES_OF_VIEWS[loss](logits), given)
        return seen, result.stride(), result

    assert_as_plain(program, scores)

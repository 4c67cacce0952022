"""Few classes are computed alone, with the numbers that they have among all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext.deferred._layout import CLASSES, IMAGES, Layout
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.geometry import Resize

from .common import agrees, assert_as_plain, scores, up


def of_ten(dtype: torch.dtype = torch.float64) -> Tensor:
    return scores(dtype, (2, 10, 6, 7))


# Of ten classes, each with how often all of them are computed.
ALONE: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "one": (lambda x: x[:, 0] * 2, 0),
    "one, again": (lambda x: (x[:, 3] * 2, x[:, 3].mean(), x[:, 3].exp()), 0),
    "some": (lambda x: x[:, 2:5].mean((2, 3)), 0),
    "every fourth": (lambda x: x[:, ::4] + 1, 0),
    "of an image": (lambda x: x[1, 2:7].square(), 0),
    "a difference": (lambda x: x[:, 1] - x[:, 0], 0),
    "rows of pixels": (lambda x: x.permute(0, 2, 3, 1).reshape(-1, 10)[:, 1:4].prod(1), 0),
    "a copy": (lambda x: x[:, 1:9].clone() + 1, 0),
    "some of a copy": (lambda x: x[:, 1:9].contiguous()[:, 2:4] + 1, 0),
    "a sigmoid": (lambda x: x[:, 1].sigmoid() * 2, 0),
    "a softmax": (lambda x: x[:, 1:].softmax(1) * 2, 0),
    "a file": (lambda x: x[:, 1].clone().numpy(), 0),
    "a list": (lambda x: x[:, 1:3][:, [1, 0]] * 1, 0),
    "joined": (lambda x: torch.cat([x[:, :2], x[:, 8:]], 1), 0),
    "stacked": (lambda x: torch.stack([x[:, 4], x[:, 2]], -1), 0),
    "most": (lambda x: x[:, 1:] * 2, 1),
    "each": (lambda x: [x[:, i].mean() for i in range(10)], 1),
    "an image and its classes": (lambda x: (x[0].mean(), x[:, 1] * 1), 1),
    "then all": (lambda x: (x[:, 1] * 2, x * 2, x[:, 1] * 3), 1),
    "a view": (lambda x: x[:, 1].diagonal(dim1=1, dim2=2) * 2, 1),
    "its memory": (lambda x: x[:, 1].numpy(), 1),
    "changed": (lambda x: ((y := x[:, 1]) * 2, y.mul_(2), y * 2, x[:, 1:3].sum()), 1),
    "changed after": (lambda x: ((y := x[:, 1]) * 2, x.mul_(2), y * 2), 1),
    "half": (lambda x: x.half()[:, 1] * 2, 1),
    "probability": (lambda x: x.softmax(1)[:, 1] * 2, 0),
    "probabilities": (lambda x: x.softmax(1)[:, 1:3] * 2, 1),
    "one of some": (lambda x: x[:, 1:].softmax(1)[:, 1:][:, 3] > 0.2, 0),
    "one of few": (lambda x: x[:, 1:5].softmax(1)[:, 1] * 1, 0),
    "one of an image's": (lambda x: x[1].softmax(0)[-1].mean(), 0),
    "each of an image's": (lambda x: [p.mean() for p in x[1].softmax(0)], 1),
    "probability of pixels": (lambda x: x.permute(0, 2, 3, 1).softmax(-1)[..., 3] + 1, 0),
    "probability again": (lambda x: ((y := x.softmax(1)[:, 4]).mean(), y.amax((1, 2))), 0),
    "probability, changed": (lambda x: ((y := x.softmax(1)[:, 4]) * 1, y.mul_(2), y * 1), 1),
    "log probability": (lambda x: x.log_softmax(1)[:, 1] * 2, 1),
    "of two": (lambda x: x[:, 1:3].softmax(1)[:, 1] > 0.5, 0),
    "of two, each": (lambda x: [p <= 0.3 for p in x[:, ::9].softmax(1).unbind(1)], 0),
    "of two, both": (lambda x: x[:, 1:3].softmax(1) < 0.4, 0),
    "of two, of an image": (lambda x: x[0, :2].softmax(0)[0].ge(0.7), 0),
    "of two, always": (lambda x: x[:, 1:3].softmax(1)[:, 1] > -1, 0),
    "of two, logarithm": (lambda x: x[:, 1:3].log_softmax(1)[:, 1] > -0.7, 0),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ALONE)
def test_classes_alone(name: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    format = torch.channels_last if last else torch.contiguous_format
    use, computed = ALONE[name]

    def program(coarse: Tensor) -> Any:
        return use(up(coarse.detach().contiguous(memory_format=format)))

    agrees(program, monkeypatch, computed=computed, shape=(2, 10, 6, 7))


def test_one_class_with_its_dimension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory format is the map's, of which one class alone could have any."""

    def program(coarse: Tensor) -> Any:
        return [
            (one.exp(), one.clone(), one.clone().exp(), one.sigmoid() + 1, one.sigmoid())
            for x in (
                coarse.detach(),
                coarse.detach().contiguous(memory_format=torch.channels_last),
            )
            for one in (up(x)[:, 3:4], up(x)[:1, 3:4])
        ]

    agrees(program, monkeypatch, computed=2, shape=(2, 10, 6, 7))


# Not comparisons, which rounding decides.
@pytest.mark.parametrize("name", [name for name in ALONE if not name.startswith("of two")])
def test_classes_alone_in_half_precision(name: str) -> None:
    assert_as_plain(
        lambda coarse: ALONE[name][0](up(coarse.detach())), lambda: of_ten(torch.float16)
    )


PROBABILITIES: dict[str, Callable[[Tensor], Any]] = {
    "then all": lambda x: ((y := x.softmax(1))[:, 1] * 1 == y[:, 1:3][:, 0] * 1, y),
    "of another": lambda x: x.softmax(1)[:, 1] * 1 == x.softmax(1)[:, 1] * 1,
    "after all": lambda x: (x.softmax(1) * 1)[:, 1] == x.softmax(1)[:, 1] * 1,
    "before all": lambda x: x.softmax(1)[:, 1] * 1 == (x.softmax(1) * 1)[:, 1],
    "and winners": lambda x: [
        (p * 1 >= (y := x.softmax(1)).amax(1), (y.amax(1, True) == y).sum(1))
        for p in x.softmax(1).unbind(1)
    ],
    "winners first": lambda x: ((y := x.softmax(1)).amax(1) <= y[:, 1], (y[:, 1] * 1)[0]),
    "and gather": lambda x: (
        x.softmax(1).gather(1, torch.ones_like(x[:, :1], dtype=torch.int64))[:, 0]
        == x.softmax(1)[:, 1] * 1
    ),
    "of images": lambda x: (x.softmax(1)[1, 1] * 1 == x[1:].softmax(1)[:, 1] * 1, x.softmax(1)),
    "with a gradient": lambda x: x.requires_grad_().softmax(1)[:, 1] * 1,
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_agree_with_those_given_before(name: str, tied: bool) -> None:
    def program(coarse: Tensor) -> Any:
        coarse = coarse.detach()
        if tied:
            coarse.mul_(4).round_().div_(4)
            coarse[:, 3] = coarse[:, 1]
        return PROBABILITIES[name](up(coarse))

    assert_as_plain(program, of_ten)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ALONE)
def test_scores_that_are_not_finite(name: str, value: float) -> None:
    def program(coarse: Tensor) -> Any:
        coarse = coarse.detach()
        coarse[0, 1, 2, 3] = value
        return ALONE[name][0](up(coarse))

    assert_as_plain(program, of_ten)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(24, 28), (25, 31), (6, 28)])
def test_classes_alone_have_the_same_bits(
    size: tuple[int, int], last: bool, dtype: torch.dtype
) -> None:
    format = torch.channels_last if last else torch.contiguous_format
    coarse = scores(dtype, (2, 21, 6, 7)).detach().contiguous(memory_format=format)
    snapshot, layout = Snapshot(coarse, size, Resize()), Layout.of_map((2, 21, *size))
    full = snapshot.resized(layout)
    for taken in (range(1), range(3, 4), range(1, 21), range(1, 21, 2), range(4, 20)):
        classes = layout.of(CLASSES, taken)
        for part in (classes, classes.of(IMAGES, range(1, 2))):
            assert torch.equal(snapshot.resized(part), part.part(full))

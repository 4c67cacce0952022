"""One step: the mean of its batches, and nothing at all after an error."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fcn_ext.models import FCN, build_model
from fcn_train.data import Batch
from fcn_train.errors import LossError
from fcn_train.loss import pixel_loss
from fcn_train.runtime import Runtime
from fcn_train.step import average_gradients, batch_seed

CPU = Runtime(torch.device("cpu"))


@pytest.fixture
def model() -> FCN:
    torch.manual_seed(0)
    options = {"width": 1 / 32, "padding": "same", "batch_norm": True, "dropout": 0.5}
    return build_model("fcn32s", num_classes=3, fc_channels=8, **options).train()


def batches(count: int) -> list[tuple[int, Batch]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            number,
            Batch(
                torch.randn(2, 3, 40, 40, generator=generator),
                torch.randint(3, (2, 40, 40), generator=generator, dtype=torch.uint8),
                (f"image {number}",) * 2,
                ((40, 40),) * 2,
            ),
        )
        for number in range(count)
    ]


def test_gradients_are_those_of_the_mean(model: FCN) -> None:
    value = average_gradients(model, pixel_loss, batches(3), 3, CPU)
    found = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    model.zero_grad()
    losses = []
    for seed, batch in batches(3):
        torch.manual_seed(seed)
        losses.append(pixel_loss(model, batch.images, batch.targets))
    mean = sum(losses, torch.zeros(())) / 3
    mean.backward()
    assert value == pytest.approx(mean.item())
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_dropout_follows_from_the_seed_alone(model: FCN) -> None:
    first = average_gradients(model, pixel_loss, batches(2), 2, CPU)
    torch.manual_seed(99)
    assert average_gradients(model, pixel_loss, batches(2), 2, CPU) == first


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, None])
def test_error_leaves_the_model_as_it_was(error: type[BaseException] | None, model: FCN) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert "num_batches_tracked" in "".join(before)

    def failing() -> Iterator[tuple[int, Batch]]:
        yield from batches(1)
        assert error is not None
        raise error

    def endless(model: FCN, images: Tensor, target: Tensor) -> Tensor:
        return pixel_loss(model, images, target) * math.inf

    if error is None:
        with pytest.raises(LossError, match=r"the loss is (inf|nan) on the images image 0, "):
            average_gradients(model, endless, batches(1), 1, CPU)
    else:
        with pytest.raises(error):
            average_gradients(model, pixel_loss, failing(), 2, CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_seeds_of_batches_differ() -> None:
    seeds = {batch_seed(seed, number) for seed in range(10) for number in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**64 for seed in seeds)

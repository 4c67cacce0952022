"""The step of several processes is that of one, in float64: loss, gradients, running means."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext.models import build_model, build_multi_head_model
from fcn_train.data import Batch
from fcn_train.data.batch import collate
from fcn_train.heads import Net
from fcn_train.loss import pixel_loss
from fcn_train.named_losses import LOSSES, named_loss
from fcn_train.processes import ALONE, Processes, joined
from fcn_train.runtime import Runtime
from fcn_train.share import Part, shared_out
from fcn_train.shared_step import SharedStep
from fcn_train.step import average_gradients, batch_seed

from .several import Launcher

SEED = 5
PLAIN: dict[str, Any] = {"reduction": "mean", "weight": None, "cells": 1.0, "shares": None}
WEIGHTS = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
SHARES = torch.tensor([0.5, 1.0, 0.7])
SAMPLED: dict[str, Any] = {
    "reduction": "mean",
    "weight": {"a": WEIGHTS, "b": None},
    "cells": 0.5,
    "shares": {"a": None, "b": SHARES},
}
ONE_WEIGHED = {"a": None, "b": WEIGHTS}
USUAL = "cross-entropy"
# Batch, batches of a step, batch normalization, the loss of each head, and how pixels count.
CASES: dict[str, tuple[int, int, bool, list[str], dict[str, Any]]] = {
    "batch norm, class weights, accumulated": (3, 2, True, [USUAL], {**PLAIN, "weight": WEIGHTS}),
    "batch norm, fewer images than processes": (1, 2, True, [USUAL], PLAIN),
    "summed, fewer images than processes": (2, 1, False, [USUAL], {**PLAIN, "reduction": "sum"}),
    "accumulated one by one": (1, 5, False, [USUAL], PLAIN),
    "two heads, sampled": (2, 3, False, [USUAL] * 2, SAMPLED),
    "two losses, sampled": (4, 3, False, ["ohem", USUAL], SAMPLED),
    "two losses, batch norm": (2, 1, True, ["tversky", "focal"], {**PLAIN, "weight": ONE_WEIGHED}),
    **{
        f"{name}, {batch} images": (batch, 2, False, [name], {**PLAIN, "weight": weight})
        for name in LOSSES
        for batch, weight in ((1, None), (4, WEIGHTS))
    },
}


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(batch_norm: bool, heads: int) -> Net:
    torch.manual_seed(1)
    more = {"width": 1 / 32, "padding": "same", "batch_norm": batch_norm, "fc_channels": 8}
    if heads == 1:
        model: Net = build_model("fcn16s", 3, **more)
    else:
        each = {name: {"num_classes": 3, "loss_weight": 0.5} for name in ("a", "b")}
        model = build_multi_head_model("fcn16s", each, **more)
    for parameter in model.parameters():  # score layers start from zero and would hide the rest
        torch.nn.init.normal_(parameter, std=0.2)
    return model.train()


def examples(number: int, count: int, heads: int) -> list[tuple[Tensor, ...]]:
    """Images and labels of sizes of their own; those of batch 1 are void everywhere."""
    generator = torch.Generator().manual_seed(number)
    found = []
    for index in range(count):
        size = (33 + 7 * index, 47 - 5 * index)
        labels = [torch.randint(4, size, generator=generator) for _ in range(heads)]
        void = [torch.where(one < 3, one, 255).to(torch.uint8) for one in labels]
        if number % 2:
            void = [torch.full_like(one, 255) for one in void]
        found.append((torch.randn(3, *size, generator=generator), *void))
    return found


def loaded(parts: list[Part], heads: int) -> Iterator[Batch]:
    """What a loader gives of a step: the images of ``parts``, padded to the largest of them."""
    for part in parts:
        if len(part):
            taken = examples(part.number, part.size, heads)[part.start : part.stop]
            yield collate(taken, [f"{part.number}.{i}" for i in range(part.start, part.stop)])


def found(net: Net, loss: float) -> dict[str, Tensor]:
    state = {
        f"grad {name}": p.grad.clone() for name, p in net.named_parameters() if p.grad is not None
    }
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    return {"loss": torch.tensor(loss), **state, **buffers}


def loss_of(names: list[str], counting: dict[str, Any], here: Processes) -> Callable[..., Tensor]:
    if set(names) == {USUAL}:
        return functools.partial(pixel_loss, **counting)
    return functools.partial(named_loss, names=names, here=here, **counting)


def alone(case: str) -> dict[str, Tensor]:
    batch, accumulate, batch_norm, names, counting = CASES[case]
    net, heads = network(batch_norm, len(names)), len(names)
    batches = loaded(shared_out(batch, accumulate, 1, 0), heads)
    seeded = [(batch_seed(SEED, 2 * accumulate + i), one) for i, one in enumerate(batches)]
    loss = loss_of(names, counting, ALONE)
    return found(
        net, average_gradients(net, loss, seeded, accumulate, Runtime(torch.device("cpu")))
    )


def shared(case: str) -> dict[str, Tensor]:
    batch, accumulate, batch_norm, names, counting = CASES[case]
    here, heads = joined(), len(names)
    net, within = network(batch_norm, heads), batch_norm or set(names) != {USUAL}
    parts = shared_out(batch, accumulate, here.size, here.rank, within=within)
    loss = loss_of(names, counting, here)
    more: dict[str, Any] = {"seed": SEED, "crop": 0, "channels": 3}
    step = SharedStep(here, net, loss, counting, parts, sync=batch_norm, within=within, **more)
    runtime = Runtime(torch.device("cpu"), processes=here)
    batches = step.batches(2, loaded(parts, heads), ())
    return found(net, average_gradients(net, step.loss, batches, accumulate, runtime))


@pytest.mark.usefixtures("float64")
def test_step_is_that_of_one_process(tmp_path: Path) -> None:
    size = 3

    def work(rank: int) -> int:
        torch.save({case: shared(case) for case in CASES}, tmp_path / f"{rank}.pt")
        return 0

    ended = Launcher(tmp_path / "said").run(size, work)
    assert [(end.code, end.err) for end in ended] == [(0, "")] * size
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for case in CASES:
        expected = alone(case)
        for values in (result[case] for result in results):
            assert values.keys() == expected.keys()
            for name, value in values.items():
                right, where = expected[name], f"{case}: {name}"
                torch.testing.assert_close(value, right, rtol=1e-9, atol=1e-12, msg=where)
                assert torch.equal(value, results[0][case][name]), where

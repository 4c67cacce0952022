"""One step of training.

The random numbers of a batch follow from the seed and its number alone, for the images (see
``fcn_train.data.loader``) as for dropout. So a checkpoint needs no generator state, and an
interrupted run continues with the bits of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_train.data import Batch
from fcn_train.errors import LossError
from fcn_train.heads import Net, by_head
from fcn_train.precision import Scaler
from fcn_train.profile import BACKWARD, FORWARD, OFF, TRANSFER, Profile
from fcn_train.runtime import Runtime

Loss = Callable[[Net, Tensor, Any], Tensor]


def average_gradients(
    model: Net,
    loss: Loss,
    batches: Iterable[tuple[int, Batch]],
    count: int,
    runtime: Runtime,
    *,
    scaler: Scaler | None = None,
    profile: Profile = OFF,
) -> float:
    """Leave in ``model`` the gradients of the mean of ``loss`` over ``count`` batches.

    Args:
        model: in training mode, without gradients.
        loss: function of the network, images (N, 3, H, W) and target (N, H, W), or one target for
            each head.
        batches: ``count`` batches, each with the seed of its forward pass (dropout).
        scaler: multiplies the gradients by its scale.
        profile: measures the parts.

    Returns:
        The mean loss.

    Raises:
        LossError: it is not finite; the message names the images. After this and any other error
            the model is unchanged, without gradients.
    """
    with unchanged_on_error(model):
        total, ids = torch.zeros((), device=runtime.device), list[str]()
        for seed, batch in batches:
            torch.manual_seed(seed)
            with profile.part(TRANSFER):
                images = runtime.images(batch.images)
                target = by_head(model, [runtime.targets(labels) for labels in batch.all_targets])
            with profile.part(FORWARD), runtime.autocast():
                value = loss(model, images, target)
            with profile.part(BACKWARD):
                share = value / count
                (share if scaler is None else scaler.scaled(share)).backward()
            total += value.detach() / count
            ids += batch.ids
        mean = runtime.processes.add(total).item()
        if not math.isfinite(mean):
            ids = [name for names in runtime.processes.collected(ids) for name in names]
            remedy = "a lower --optim.lr" + (" or --amp bf16" if scaler else "")
            raise LossError(f"the loss is {mean} on the images {', '.join(ids)}; try {remedy}")
    return mean


@contextlib.contextmanager
def unchanged_on_error(model: Net) -> Iterator[None]:
    """After an error, restore ``model``: forward passes change the means of batch norm."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
        model.zero_grad(set_to_none=True)
        raise


def batch_seed(seed: int, number: int) -> int:
    """Seed of the forward pass of batch ``number`` in a run of this ``seed``."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])

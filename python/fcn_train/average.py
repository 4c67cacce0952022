"""A moving average of the weights during a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fcn_train.signals import lost_workers_held_back


class Average:
    """The exponentially weighted mean of a network's weights after each of its updates.

    After update t it is the mean of the weights w_1, ..., w_t, in which w_i counts
    ``decay ** (t - i)`` times. The initial weights do not count, as with Adam's
    bias-corrected mean gradient (Kingma and Ba, 2015, section 3), so a short run is not biased
    towards its random start. Means and variances of batch norm are averaged in the same way;
    counters are copied.

    Args:
        model: the network, on its device.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._updates = 0
        self._values = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights that the network has now."""
        self._updates += 1
        share = (1 - self._decay) / (1 - self._decay**self._updates)
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                self._values[name].lerp_(value, share)
            else:
                self._values[name].copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """The average, by the names of the network's state dict."""
        return dict(self._values)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the network has the average as its weights; after it, its own again."""
        own = {name: value.clone() for name, value in self._model.state_dict().items()}
        try:
            _copy(self._values, self._model)
            yield
        finally:
            with lost_workers_held_back():
                _copy(own, self._model)

    def state(self) -> dict[str, Any]:
        return {"updates": self._updates, "weights": self.weights()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what ``state()`` returned.

        Raises:
            KeyError, TypeError, ValueError: it is not that of this network.
        """
        values = averaged_weights(state)
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        if shapes != {name: tuple(value.shape) for name, value in self._values.items()}:
            raise ValueError("its average is of another network")
        self._updates = int(state["updates"])
        with torch.no_grad():
            for name, value in values.items():
                self._values[name].copy_(value)


def averaged_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The average in what ``Average.state`` returned. Raises KeyError or TypeError for anything
    else."""
    values = dict(state["weights"])
    if not all(isinstance(value, Tensor) for value in values.values()):
        raise TypeError("its average holds more than tensors")
    return values


@torch.no_grad()
def _copy(values: dict[str, Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])

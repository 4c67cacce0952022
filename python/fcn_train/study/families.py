"""Networks on one trunk, from coarse to fine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fcn_train.errors import UsageError
from fcn_train.options import TrainOptions

FAMILIES = {
    "fcn32s": ("fcn32s", "fcn16s", "fcn8s"),
    **{
        name: (name, f"{name}-16s", f"{name}-8s")
        for name in ("fcn-alexnet", "fcn-alexnet-torchvision", "fcn-googlenet", "fcn-squeezenet")
    },
}
"""The networks at strides 32, 16 and 8, by the name of the first."""


def family(name: str) -> tuple[str, str, str]:
    """The networks at strides 32, 16 and 8 of the family that ``name`` belongs to.

    Raises:
        UsageError: it belongs to none.
    """
    for members in FAMILIES.values():
        if name.removesuffix("-atonce") in members:
            return members
    raise UsageError(
        f"--model must have a net at each stride, got {name}; try {', '.join(FAMILIES)}"
    )


def with_model(options: TrainOptions, name: Any, **changes: Any) -> TrainOptions:
    """The same for the network ``name``."""
    return replace(options, model=replace(options.model, name=name, **changes))


def with_optim(options: TrainOptions, **changes: Any) -> TrainOptions:
    """The same with other options of the optimizer."""
    return replace(options, optim=replace(options.optim, **changes))


def with_data(options: TrainOptions, **changes: Any) -> TrainOptions:
    """The same with other options of the data."""
    return replace(options, data=replace(options.data, **changes))

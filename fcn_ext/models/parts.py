"""The parts of a net, trunks and heads, by the names that the user gave them, if any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

__all__ = ["MAIN", "check_name", "name_prefix", "named_parts"]

Part = TypeVar("Part", bound=nn.Module)

# The name of a net's only trunk, and of its only head, if the user gave none.
MAIN = "main"


def named_parts(parts: Any, kind: type[Part], argument: str) -> dict[str, Part]:
    """``parts`` by name; a part without one is called :data:`MAIN`.

    Raises:
        TypeError: one of them is not a ``kind``, or a name is not a string.
        ValueError: there are none, or a name cannot be a prefix of layers' names.
    """
    named = dict(parts) if isinstance(parts, Mapping) else {MAIN: parts}
    for name, part in named.items():
        check_name(name, argument)
        if not isinstance(part, kind):
            raise TypeError(
                f"{argument} must be {kind.__name__} or a dict of them, "
                f"got {type(part).__name__}" + (f" for {name!r}" if part is not parts else "")
            )
    if not named:
        raise ValueError(f"{argument} must hold at least one {kind.__name__}, got none")
    return named


def check_name(name: Any, argument: str) -> None:
    """Raises unless ``name`` can be the name of a part; ``argument`` is where it was given."""
    if not isinstance(name, str):
        raise TypeError(f"{argument} must have strings for names, got {name!r}")
    # A ModuleDict has its parts as attributes beside its own methods.
    if not name or "." in name or hasattr(nn.ModuleDict, name):
        raise ValueError(
            f"{argument} must have names without dots that no nn.ModuleDict has for its "
            f"own, got {name!r}"
        )


def name_prefix(name: str) -> str:
    """The prefix of the published names of layers in the part called ``name``."""
    return "" if name == MAIN else f"{name}."

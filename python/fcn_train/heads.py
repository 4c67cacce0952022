"""One interface to networks with one head and with several.

The methods of a network with one head take a target and return a label map; those of a network with
several take and return dicts by head. The sets of labels of a data set are in the order of the
heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from fcn_ext.models import FCN, MultiHeadFCN
from fcn_ext.models.parts import MAIN

T = TypeVar("T")

Net = FCN | MultiHeadFCN
"""A network that `fcn train` trains."""


def head_names(model: Any) -> list[str]:
    """The name of each head; "" for the head of a network with one."""
    return list(model.heads) if isinstance(model, MultiHeadFCN) else [""]


def head_list(model: Any) -> list[Any]:
    """Each head, in order; a network of one is its own. What stands for a network has ``heads``."""
    several = isinstance(model, MultiHeadFCN) or not isinstance(model, nn.Module)
    return list(model.heads.values()) if several else [model]


def by_head(model: Any, values: Sequence[T]) -> Any:
    """``values``, one for each head, in the form that the methods of ``model`` take: a dict or a
    single value."""
    if isinstance(model, MultiHeadFCN):
        return dict(zip(model.heads, values, strict=True))
    (value,) = values
    return value


def in_order(given: T | Mapping[str, T]) -> list[T]:
    """The result of a network's method, as a list with one value for each head."""
    return list(given.values()) if isinstance(given, Mapping) else [given]


def can_name_head(name: str) -> bool:
    """Whether a head can have this name: layers' names begin with it, and files' names end with
    it."""
    is_plain = re.fullmatch(r"[\w-]+", name) is not None
    return is_plain and name != MAIN and not hasattr(nn.ModuleDict, name)

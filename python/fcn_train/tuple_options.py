"""Options with a fixed number of numbers, for `tyro`.

By its own rules, words that are no numbers are reported with Python's types. For ``tuple[...] |
None`` it also takes the single word None, and reports a wrong number of words with color codes.
"""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

__all__ = ["add_tuples"]

_METAVARS = {int: "INT", float: "FLOAT"}
_WORDS = {int: "integers", float: "numbers"}


def add_tuples(registry: ConstructorRegistry) -> None:
    """Have ``registry`` read ``tuple[int, int]``, ``tuple[int, int] | None`` and the like: as many
    numbers as there are types, all of one."""
    registry.primitive_rule(_tuple)


def _tuple(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kinds = _kinds(info.type)
    if len(set(kinds)) != 1 or kinds[0] not in _METAVARS:
        return None
    kind, count = kinds[0], len(kinds)

    def read(words: list[str]) -> tuple[Any, ...]:
        try:
            return tuple(map(kind, words))
        except ValueError:
            wanted = f"{count} {_WORDS[kind]}"
            raise ValueError(f"must be {wanted}, got {' '.join(words)}") from None

    return PrimitiveConstructorSpec(
        nargs=count,
        metavar=" ".join([_METAVARS[kind]] * count),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: ["None"] if value is None else [str(v) for v in value],
    )


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types in ``tuple[...]`` or ``tuple[...] | None``; nothing for any other type."""
    is_union = get_origin(hint) in (Union, types.UnionType)
    members = [one for one in get_args(hint) if one is not types.NoneType] if is_union else [hint]
    if len(members) != 1 or get_origin(members[0]) is not tuple:
        return ()
    return get_args(members[0])

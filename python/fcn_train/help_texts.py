"""Help texts as paragraphs: `tyro` breaks their lines where the source does, besides where the
terminal ends."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from tyro.constructors import ConstructorRegistry, StructTypeInfo

__all__ = ["HELP", "add_help"]

HELP = frozenset({"-h", "--help"})


def add_help(registry: ConstructorRegistry, arguments: Sequence[str]) -> None:
    """If ``arguments`` ask for help, have ``registry`` take each option's text as a paragraph."""
    if HELP & set(arguments):  # reading the source takes time
        registry.struct_rule(_join)


def _join(info: StructTypeInfo) -> None:
    """Put the texts where `tyro` looks first, and leave the rest to its own rules."""
    if isinstance(info.type, type) and dataclasses.is_dataclass(info.type):
        _give_texts(info.type)


@functools.cache
def _give_texts(kind: Any) -> None:
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        texts |= _texts(each)
    for item in dataclasses.fields(kind):
        if item.name in texts:
            text = " ".join(texts[item.name].split())
            item.metadata = MappingProxyType({**item.metadata, "help": text})


def _texts(kind: type) -> dict[str, str]:
    """The strings right below the fields of a class; none where there is no source."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, ValueError):
        return {}
    found = {}
    for field, text in itertools.pairwise(getattr(definition, "body", [])):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = str(ast.literal_eval(text.value))
    return found

"""Options as JSON: ``config.json`` of a run folder, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fcn_train.errors import UsageError
from fcn_train.json_text import parse_json
from fcn_train.options import TrainOptions
from fcn_train.text_files import NOT_UTF8, read_text

T = TypeVar("T")

# Former names of the option logits and its values, still read in older runs.
FORMER_HEADS = {"fused": "coarse", "materialised": "full"}


def of_types(options: Any, cls: type[T]) -> T:
    """``options`` made in Python, converted to the types that the command line gives: a path may be
    given as text, a tuple as a list.

    Raises:
        UsageError: they are not a ``cls``, or a field has a value of another type or not among its
            choices; the message names it.
    """
    if not isinstance(options, cls):
        raise UsageError(f"options must be {cls.__name__}, got {type(options).__name__}")
    return from_dict(cls, to_dict(options, unsaved=True), Path(cls.__name__))


def to_dict(options: Any, *, unsaved: bool = False) -> dict[str, Any]:
    """The saved fields, or with ``unsaved`` all of them, as JSON values; ``from_dict`` reads them
    back."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        if not unsaved and not item.metadata.get("saved", True):
            continue
        value = getattr(options, item.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value, unsaved=unsaved)
        elif isinstance(value, Path):
            value = value.as_posix()
        elif isinstance(value, tuple):
            value = list(value)
        values[item.name] = value
    return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The result of ``to_dict`` without nesting: ``optim.lr`` is the key of one option."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def from_dict(cls: type[T], values: Any, source: Path, prefix: str = "") -> T:
    """A dataclass from JSON values; keys that are missing keep their defaults.

    Raises UsageError on an unknown key, naming the closest known one, and on a wrong type.
    """
    if not isinstance(values, dict):
        raise UsageError(
            f"{source}: {prefix.rstrip('.') or 'the file'} must be an object, got {values!r}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = _hints(cls)  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in fields:
            closest = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)[0]
            raise UsageError(f"{source}: unknown key {name!r}; did you mean {prefix + closest!r}?")
        arguments[key] = _convert(hints[key], value, source, name)
    return cls(**arguments)


_hints = functools.cache(get_type_hints)  # get_type_hints evaluates their text anew each time


def _convert(hint: Any, value: Any, source: Path, name: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, source, name)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, source, f"{name}.")  # type: ignore[arg-type]
    if origin is Mapping:
        if not isinstance(value, dict):
            raise UsageError(f"{source}: {name} must be an object, got {value!r}")
        return {
            key: _convert(args[1], item, source, f"{name}.{key}") for key, item in value.items()
        }
    if hint is Any:
        return value
    if origin is Literal:
        if value in args:
            return value
        raise UsageError(f"{source}: {name} must be one of {', '.join(args)}, got {value!r}")
    if origin is tuple and args[-1] is Ellipsis:
        if isinstance(value, list):
            return tuple(_convert(args[0], item, source, name) for item in value)
        raise UsageError(f"{source}: {name} must be a list, got {value!r}")
    if origin is tuple:
        if isinstance(value, list) and len(value) == len(args):
            return tuple(_convert(a, v, source, name) for a, v in zip(args, value, strict=True))
        raise UsageError(f"{source}: {name} must be a list of {len(args)} values, got {value!r}")
    if hint is Path and isinstance(value, str):
        if not value:  # which would be the current folder
            raise UsageError(f"{source}: {name} must be a path or null, got ''")
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UsageError(f"{source}: {name} must be of type {hint.__name__}, got {value!r}")


def read_json(path: Path, advice: str) -> Any:
    """Read the values in a file that a user names.

    Args:
        advice: what to give instead of a file that cannot be read.

    Raises:
        UsageError: the file cannot be read, or is not JSON, or gives a key twice.
    """
    try:
        return parse_json(read_text(path), of_object=_each_once)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except UnicodeError:
        raise UsageError(f"{path}: is not JSON ({NOT_UTF8}); save it as UTF-8") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON ({error})") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return values


def load_run_config(run: Path) -> TrainOptions:
    """The options of a run by its folder. Raises UsageError where that is a file, or none."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run}: is a file; give the folder of a run")
    return load_config(run)


def load_config(path: Path) -> TrainOptions:
    """The options of ``config.json``, given as the file or as the run folder that holds it."""
    if path.is_dir():
        path = path / "config.json"
    values = read_json(path, "give a run folder")
    if isinstance(values, dict) and values.get("head") in FORMER_HEADS:
        values["logits"] = FORMER_HEADS[values.pop("head")]
    return from_dict(TrainOptions, values, path)

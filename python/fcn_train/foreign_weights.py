"""Starts a network from the weights of another network or of other classes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fcn_ext.models.names import renamed
from fcn_ext.models.upsampling import FixedUpsampling, LearnedUpsampling, Upsampling
from fcn_train.errors import UsageError
from fcn_train.heads import Net, head_names
from fcn_train.run import load_run
from fcn_train.weight_files import read_state_dict, some
from fcn_train.words import counted

CAFFE_HEADS = {"semantic": "sem", "geometric": "geo"}  # of the published nets of SIFT Flow

_Heads = dict[str, tuple[str, ...]]  # what the names of a head's layers begin with: its classes


@torch.no_grad()
def from_weights(model: Net, path: Path, class_names: Sequence[Sequence[str]]) -> str:
    """Load every layer of a run folder or a file of weights that ``model`` has, too.

    Score layers and learned upsampling are taken if they have the same classes: the same number,
    and the same names where a run records them. With several heads, there or here, each head takes
    the layers with its classes, whatever the heads are called.

    Args:
        class_names: the classes of each head.

    Returns:
        A sentence on what was taken, what was left out, and what stays at its initial values.

    Raises:
        UsageError: nothing can be read at ``path``, or it is another network's.
    """
    known: _Heads | None = None
    remedy = "give the same --model.width and --model.fc-channels"
    if path.is_dir():
        run = load_run(path)
        if _kinds(run.model) != _kinds(model):
            remedy = f"it is a run of {run.options.model.name}, which has another trunk"
        source: Mapping[str, Tensor] = run.model.state_dict()
        known = _heads(run.model, [classes.names for classes in run.label_sets])
    else:
        names = _caffe_names(model)
        source = {renamed(key, names) or key: value for key, value in read_state_dict(path).items()}
    target = model.state_dict()
    heads = _heads(model, class_names)
    taken: dict[str, Tensor] = {}
    left_out: list[str] = []
    learned: list[str] = []
    for name, value in source.items():
        places = _places(name, known, heads) if of_classes(name) else [name]
        fitting = {
            place: fitted
            for place in places
            if place in target
            and (fitted := _as_learned(model, place, value)).shape == target[place].shape
        }
        if fitting and (known is not None or len(fitting) == 1):
            taken |= fitting
        elif name in target and not of_classes(name):
            raise UsageError(
                f"{path}: is of another network: {name} must have shape "
                f"{tuple(target[name].shape)}, got {tuple(value.shape)}; {remedy}"
            )
        else:
            left_out.append(name)
            if any(_was_learned(model, place, value) for place in places):
                learned.append(name)
    initial = [name for name in target if name not in taken]
    trunk = [name for name in target if not of_classes(name)]
    if 2 * sum(name in taken for name in trunk) <= len(trunk):
        raise UsageError(
            f"{path}: is of another network: it holds {some(source)}, not {some(trunk)}"
        )
    for name, value in taken.items():
        target[name].copy_(value)
    text = f"{path}: {len(taken)} of {counted(len(target), 'tensor')} taken"
    if left_out:
        text += f"; left out: {some(left_out, 12)}"
    if learned:
        text += f" ({some(learned)}: learned, to be taken with --model.upsampling dense)"
    if initial:
        text += f"; at their initial values: {some(initial, 12)}"
    return text


def kind_of(trunk: nn.Module) -> tuple[type, str]:
    """The kind of a trunk; there are two kinds of AlexNet."""
    return type(trunk), getattr(trunk, "variant", "")


def _kinds(model: Net) -> list[tuple[type, str]]:
    return [kind_of(trunk) for trunk in model.trunks.values()]


def of_classes(name: str) -> bool:
    """Whether a tensor depends on the classes: those of score layers and of upsampling do."""
    layer = name.rpartition(".")[0].rpartition(".")[2]
    return layer.startswith(("score_", "upscore"))


def _caffe_names(model: Net) -> dict[str, str]:
    """The names of ``model``'s layers, by their names in Caffe's published nets with several
    streams or heads: conv1_1color, score_fr_sem."""
    here = {path: name for name, path in model.published_names().items()}
    names = {alias: here[path] for alias, path in model.aliases().items()}
    for head, short in CAFFE_HEADS.items():
        ours = {alias for alias in names if alias.endswith(f"_{head}")}
        names |= {alias.removesuffix(head) + short: names[alias] for alias in ours}
    return names


def _heads(model: Net, class_names: Sequence[Sequence[str]]) -> _Heads:
    beginnings = [f"{name}." if name else "" for name in head_names(model)]
    return dict(zip(beginnings, map(tuple, class_names), strict=True))


def _places(name: str, known: _Heads | None, heads: _Heads) -> list[str]:
    """The names of a head's tensor in those of ``heads`` that have its classes.

    Args:
        name: that of the tensor in its source.
        known: the heads of the source; None for a file, which does not record its classes: its
            names are taken as they are, and those of a network with one head for any head.
    """
    if known is None:
        own = any(name.startswith(head) for head in heads if head)
        return [name] if own or "" in heads else [head + name for head in heads]
    for there, classes in known.items():
        if name.startswith(there):
            same = [head for head, names in heads.items() if names == classes]
            layer = name.removeprefix(there)
            return [head + layer for head in ([there] if there in same else same)]
    return []


def _as_learned(model: Net, name: str, value: Tensor) -> Tensor:
    """``value``, in the shape of the learned kernels called ``name`` if it fits."""
    layer = _upsampling(model, name)
    if isinstance(layer, LearnedUpsampling):
        with contextlib.suppress(ValueError):
            return layer.fitting(value)
    return value


def _was_learned(model: Net, name: str, value: Tensor) -> bool:
    """Whether ``value`` holds learned kernels where ``model`` has bilinear ones for its classes."""
    layer = _upsampling(model, name)
    if not isinstance(layer, FixedUpsampling) or len(value) != layer.channels:
        return False
    return layer.difference_from_bilinear(value) is not None


def _upsampling(model: Net, name: str) -> Upsampling | None:
    """The upsampling layer whose tensor ``name`` is, if any."""
    layer = name.removesuffix(".weight")
    return getattr(model, layer) if layer in model.upsampling_layers else None

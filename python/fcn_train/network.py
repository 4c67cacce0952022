"""Builds the network that the options describe, and the normalization of its images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from fcn_ext.models import FCN, MultiHeadFCN, build_model, build_multi_head_model
from fcn_train.by_name import by_name
from fcn_train.classes import Classes
from fcn_train.data import IMAGENET, Normalization
from fcn_train.data.depth import NUM_CHANNELS, STREAMS, Channels
from fcn_train.errors import UsageError
from fcn_train.heads import Net
from fcn_train.model_options import ModelOptions
from fcn_train.words import counted


def normalization_of(options: ModelOptions) -> Normalization:
    """How the network's images are normalized."""
    return IMAGENET if options.input == "imagenet" else Normalization(options.mean, bgr=True)


@overload
def build_network(options: ModelOptions, num_classes: int, channels: Channels = ...) -> FCN: ...
@overload
def build_network(
    options: ModelOptions, num_classes: Mapping[str, int], channels: Channels = ...
) -> MultiHeadFCN: ...
def build_network(
    options: ModelOptions, num_classes: int | Mapping[str, int], channels: Channels = "color"
) -> Net:
    """The network, freshly initialized, on the CPU.

    Args:
        num_classes: outputs of its head, or those of each of several heads by name.
        channels: what its first layer sees, or with late fusion the first layers of its streams.

    Raises:
        UsageError: an option does not apply to this network.
    """
    more: dict[str, Any] = {"in_channels": NUM_CHANNELS[channels]}
    if options.fusion == "late":
        if channels not in STREAMS:
            raise UsageError(
                f"--model.fusion late needs --data.channels {' or '.join(STREAMS)}, got {channels}"
            )
        more = {"streams": STREAMS[channels]}
    if options.fc_channels:
        more["fc_channels"] = options.fc_channels
    if options.skip_scales:
        more["skip_scales"] = options.skip_scales
    more |= {
        "width": options.width,
        "padding": options.padding,
        "batch_norm": options.batch_norm,
        "dropout": options.dropout,
        "upsampling": upsampling_kinds(options.upsampling),
        "context": options.context,
    }
    try:
        if isinstance(num_classes, int):
            if options.head_weights:
                raise UsageError(
                    "--model.head-weights needs several sets of labels (--data.label-folder), "
                    "got one"
                )
            return build_model(options.name, num_classes, **more)
        weights = head_weights(options.head_weights, num_classes)
        heads = {
            name: {"num_classes": number, "loss_weight": weights[name]}
            for name, number in num_classes.items()
        }
        return build_multi_head_model(options.name, heads, **more)
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None


def network_of(options: ModelOptions, sets: Sequence[Classes], channels: Channels = "color") -> Net:
    """``build_network`` for the classes of one set of labels, or of several with a head each."""
    if len(sets) == 1:
        return build_network(options, len(sets[0].names), channels)
    heads = {classes.label_set: len(classes.names) for classes in sets}
    return build_network(options, heads, channels)


def head_weights(text: str, names: Iterable[str]) -> dict[str, float]:
    """Read ``--model.head-weights``: the factor on the loss of each of the heads called ``names``.

    Raises:
        UsageError: ``text`` does not give each a finite number >= 0, or gives all 0.
    """
    names = list(names)
    if not text:
        return dict.fromkeys(names, 1.0)
    given = by_name(text) or {}
    try:
        weights = {name: float(value) for name, value in given.items()}
    except ValueError:
        weights = {}
    numbers = weights.values()
    in_range = all(0 <= value < math.inf for value in numbers) and any(numbers)
    if weights.keys() != set(names) or not in_range:
        example = ",".join(f"{name}=1" for name in names)
        raise UsageError(
            "--model.head-weights must be a finite number >= 0 for each set of labels, not all 0, "
            f"such as {example}, got {text!r}"
        )
    return weights


def upsampling_kinds(text: str) -> Any:
    """Read ``--model.upsampling``: one kind for all layers, or kinds by name.

    Raises:
        UsageError: ``text`` is neither.
    """
    if "=" not in text:
        return text
    kinds = by_name(text)
    if kinds is None:
        raise UsageError(
            "--model.upsampling must be fixed, depthwise or dense, or these by name, such as "
            f"inner=dense,last=fixed, each name once, got {text!r}"
        )
    return kinds


def described(name: str, model: Net) -> str:
    """Name and size of a network, as a training prints them at its start."""
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    everything = sum(parameter.numel() for parameter in parameters)
    some = "" if trained == everything else f", {trained:,} of them trained"
    return f"{name} with {counted(everything, 'parameter', ',')}{some}"

"""From options to a network, and how its images are normalized."""

from __future__ import annotations

from typing import Any

from fcn_ext.models import FCN, build_model
from fcn_train.data import IMAGENET, Normalization
from fcn_train.data.depth import NUM_CHANNELS, STREAMS, Channels
from fcn_train.errors import UsageError
from fcn_train.model_options import ModelOptions


def normalization_of(options: ModelOptions) -> Normalization:
    """How the network's images are normalized."""
    return IMAGENET if options.input == "imagenet" else Normalization(options.mean, bgr=True)


def build_network(options: ModelOptions, num_classes: int, channels: Channels = "color") -> FCN:
    """The network with ``num_classes`` outputs, freshly initialized, on the CPU; its first layer
    sees all ``channels``, or with late fusion that of each stream its own.

    Raises:
        UsageError: an option is of no such network.
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
    try:
        return build_model(
            options.name,
            num_classes=num_classes,
            width=options.width,
            padding=options.padding,
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            upsampling=upsampling_kinds(options.upsampling),
            **more,
        )
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None


def upsampling_kinds(text: str) -> Any:
    """``--model.upsampling``: a kind for all layers, or kinds by name.

    Raises:
        UsageError: ``text`` is neither.
    """
    if "=" not in text:
        return text
    kinds: dict[str, str] = {}
    for item in text.split(","):
        name, _, kind = (part.strip() for part in item.partition("="))
        if not kind or name in kinds:
            raise UsageError(
                "--model.upsampling must be fixed, depthwise or dense, or these by name, such as "
                f"inner=dense,last=fixed, each name once, got {text!r}"
            )
        kinds[name] = kind
    return kinds

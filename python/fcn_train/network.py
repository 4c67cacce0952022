"""From options to a network, and how its images are normalized."""

from __future__ import annotations

from fcn_ext.models import FCN, build_model
from fcn_train.data import IMAGENET, Normalization
from fcn_train.data.depth import NUM_CHANNELS, Channels
from fcn_train.errors import UsageError
from fcn_train.options import ModelOptions


def normalization_of(options: ModelOptions) -> Normalization:
    """How the network's images are normalized."""
    return IMAGENET if options.input == "imagenet" else Normalization(options.mean, bgr=True)


def build_network(options: ModelOptions, num_classes: int, channels: Channels = "color") -> FCN:
    """The network with ``num_classes`` outputs, freshly initialized, on the CPU; its first layer
    sees all ``channels``."""
    fully_connected = {"fc_channels": options.fc_channels} if options.fc_channels else {}
    try:
        return build_model(
            options.name,
            num_classes=num_classes,
            in_channels=NUM_CHANNELS[channels],
            width=options.width,
            padding=options.padding,
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            **fully_connected,
        )
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None

"""From options to a network, and how its images are normalized."""

from __future__ import annotations

from fcn_ext.models import FCN, build_model
from fcn_train.data import CAFFE, IMAGENET
from fcn_train.errors import UsageError
from fcn_train.options import ModelOptions

NORMALIZATIONS = {"imagenet": IMAGENET, "caffe": CAFFE}


def build_network(options: ModelOptions, num_classes: int) -> FCN:
    """The network with ``num_classes`` outputs, freshly initialized, on the CPU."""
    fully_connected = {"fc_channels": options.fc_channels} if options.fc_channels else {}
    try:
        return build_model(
            options.name,
            num_classes=num_classes,
            width=options.width,
            padding=options.padding,
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            **fully_connected,
        )
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None

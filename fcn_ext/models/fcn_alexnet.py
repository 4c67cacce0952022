"""FCN-AlexNet (Long, Shelhamer and Darrell, CVPR 2015)."""

from __future__ import annotations

from .alexnet import AlexNetTrunk, AlexNetVariant
from .fcn import FCN
from .trunk import Padding

__all__ = ["FCNAlexNet"]


class FCNAlexNet(FCN, AlexNetTrunk):
    """FCN-AlexNet: the scores of AlexNet's fc7, upsampled 32 times.

    Args:
        num_classes: channels of the scores.
        in_channels: channels of the images.
        variant: ``"caffe"`` is the published net, on CaffeNet: convolutions in two groups, local
            response normalisation. ``"torchvision"`` is on the AlexNet that torchvision has
            weights of: other channel counts, neither groups nor normalisation.
        width: factor on the channel count of every layer of the trunk, rounded to even numbers.
        padding: ``"published"`` pads the image by 100 pixels. ``"same"`` pads each convolution and
            pooling so that it keeps the image's border. Both accept images of any size and both
            align every score with the centre of the receptive field it was computed from.
        batch_norm: batch normalisation after the five convolutions, in place of the local response
            normalisation.
        fc_channels: channels of fc6 and fc7; by default ``4096 * width``.
        dropout: probability at which an element of fc6 and fc7 is zeroed in training.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    upscores = ("upscore",)
    odd_last_kernel = True

    def __init__(
        self,
        num_classes: int = 21,
        *,
        in_channels: int = 3,
        variant: AlexNetVariant = "caffe",
        width: float = 1.0,
        padding: Padding = "published",
        batch_norm: bool = False,
        fc_channels: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels=in_channels,
            variant=variant,
            width=width,
            padding=padding,
            batch_norm=batch_norm,
            fc_channels=fc_channels,
            dropout=dropout,
        )

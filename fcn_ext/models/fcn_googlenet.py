"""FCN-GoogLeNet (Long, Shelhamer and Darrell, CVPR 2015, section 4.1 and Table 1)."""

from __future__ import annotations

from .fcn import FCN
from .googlenet import GoogLeNetTrunk
from .trunk import Padding

__all__ = ["FCNGoogLeNet"]


class FCNGoogLeNet(FCN, GoogLeNetTrunk):
    """FCN-GoogLeNet: the scores of GoogLeNet's inception_5b, upsampled 32 times.

    The paper reports this net and no definition of it was ever published; what the text leaves
    open follows the published ones: 100 pixels of padding, and for the last upsampling the kernel
    (63) that puts the crop at a whole pixel.

    Args:
        num_classes: channels of the scores.
        in_channels: channels of the images.
        width: factor on the channel count of every layer of the trunk.
        padding: ``"published"`` pads the image by 100 pixels. ``"same"`` pads each convolution and
            pooling so that it keeps the image's border, which takes 43 % fewer operations at
            500x500 pixels. Both accept images of any size and both align every score with the
            centre of the receptive field it was computed from.
        batch_norm: batch normalisation after every convolution of the trunk, in place of the local
            response normalisation.
        dropout: probability at which an element of inception_5b is zeroed in training.

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
        width: float = 1.0,
        padding: Padding = "published",
        batch_norm: bool = False,
        dropout: float = 0.4,
    ) -> None:
        super().__init__(
            num_classes,
            in_channels=in_channels,
            width=width,
            padding=padding,
            batch_norm=batch_norm,
            dropout=dropout,
        )

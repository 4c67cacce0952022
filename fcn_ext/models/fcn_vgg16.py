"""FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer and Darrell, CVPR 2015) on VGG16."""

from __future__ import annotations

from typing import Any

from .fcn import FCN
from .trunk import Padding
from .vgg16 import VGG16Trunk

__all__ = ["VGG16FCN", "FCN8s", "FCN16s", "FCN32s"]

# With padding="same" the upsampled scores reach past the skip map: by r - 1 cells on every side,
# r being how many cells of the skip one cell of score_fr spans, and by up to r - 1 more at the
# end, where pooling rounded the size up. Padding the 1x1 score convolution by 2 (r - 1) holds the
# window of fuse_skip inside for every image size.
_SKIP_PADDING: dict[Padding, dict[str, int]] = {
    "published": {"pool4": 0, "pool3": 0},
    "same": {"pool4": 2, "pool3": 6},
}

# The Scale layers of the published at-once definition.
_AT_ONCE_SCALES = {"pool4": 0.01, "pool3": 0.0001}


class VGG16FCN(FCN, VGG16Trunk):
    """The arguments of :class:`FCN32s`, :class:`FCN16s` and :class:`FCN8s`; use one of these.

    Args:
        num_classes: channels of the scores.
        in_channels: channels of the images.
        width: factor on the channel count of every layer of the trunk.
        padding: ``"published"`` is the net of the paper, its image padded by 100 pixels.
            ``"same"`` pads each convolution so that it keeps the size, which takes 40 % fewer
            operations at 500x500 pixels. Both accept images of any size and both align every
            score with the centre of the receptive field it was computed from. Within half a
            stride of the image's border ``"same"`` interpolates towards a border of zeros, as the
            published FCN-32s does too.
        batch_norm: batch normalisation after the convolutions of the trunk's five stages.
        fc_channels: channels of fc6 and fc7; by default ``4096 * width``.
        dropout: probability at which an element of fc6 and fc7 is zeroed in training.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        num_classes: int = 21,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        padding: Padding = "published",
        batch_norm: bool = False,
        fc_channels: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            num_classes,
            skip_padding=_SKIP_PADDING.get(padding),
            in_channels=in_channels,
            width=width,
            padding=padding,
            batch_norm=batch_norm,
            fc_channels=fc_channels,
            dropout=dropout,
        )


class FCN32s(VGG16FCN):
    """FCN-32s: the scores of fc7, upsampled 32 times. Arguments as :class:`VGG16FCN`."""

    skips = ()
    upscores = ("upscore",)


class FCN16s(VGG16FCN):
    """FCN-16s: fuses the scores of fc7 and pool4. Arguments as :class:`VGG16FCN`."""

    skips = ("pool4",)
    upscores = ("upscore2", "upscore16")


class FCN8s(VGG16FCN):
    """FCN-8s: fuses the scores of fc7, pool4 and pool3. Arguments as :class:`VGG16FCN`, and:

    Args:
        at_once: scale pool4 by 0.01 and pool3 by 0.0001 before they are scored, as the published
            net does that is trained at once and not in the stages 32s, 16s, 8s.
    """

    skips = ("pool4", "pool3")
    upscores = ("upscore2", "upscore_pool4", "upscore8")

    def __init__(self, num_classes: int = 21, *, at_once: bool = False, **options: Any) -> None:
        super().__init__(num_classes, **options)
        if at_once:
            self.skip_scales = dict(_AT_ONCE_SCALES)

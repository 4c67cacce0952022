"""FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer and Darrell, CVPR 2015) on VGG16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import ops
from ..ops import _common
from .geometry import Grid, crop_offset
from .heads import UpsampledScores
from .kernels import drop_bilinear_kernels
from .vgg16 import Padding, VGG16Trunk, count

__all__ = ["FCN", "FCN8s", "FCN16s", "FCN32s", "build_model"]

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


class FCN(UpsampledScores, VGG16Trunk):
    """What the three nets share: the trunk, score_fr, the fused skips, the last upsampling.

    ``model(images)`` are the logits; ``model.loss``, ``model.predict`` and ``model.evaluate``
    (:class:`fcn_ext.models.heads.UpsampledScores`) do without them.

    The scores of fc7 are upsampled by 2 and summed with the scores of a pooling, once for each
    name in ``skips``; the last upsampling brings them to the size of the image. All upsampling is
    fixed and bilinear. The offsets of all crops follow from the layers' geometry
    (:mod:`fcn_ext.models.geometry`). Score layers start from zero, as Caffe leaves them.

    Use :class:`FCN32s`, :class:`FCN16s` or :class:`FCN8s`, whose arguments are these:

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

    Attributes:
        last_stride: the factor of the last upsampling.
        last_offset: where its result is cropped. ``model(images)`` is ``ops.upsample(
            model.scores(images), model.last_stride, offset=model.last_offset,
            output_size=images.shape[-2:])``.
        score_grid: where the cells of ``model.scores(images)`` lie in the image.
        skip_scales: the factor on each skip's map before it is scored.
        skip_offsets: where the scores of each skip are cropped.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    skips: ClassVar[tuple[str, ...]]
    # The published names of the upsampling layers: one for each skip, and the last.
    upscores: ClassVar[tuple[str, ...]]

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
        num_classes = count(num_classes, "num_classes")
        super().__init__(
            in_channels=in_channels,
            width=width,
            padding=padding,
            batch_norm=batch_norm,
            fc_channels=fc_channels,
            dropout=dropout,
        )
        self.num_classes = num_classes
        self.skip_scales = dict.fromkeys(self.skips, 1.0)

        self.score_fr = nn.Conv2d(self.fc_channels, num_classes, 1)
        for skip in self.skips:
            conv = nn.Conv2d(
                self.pool_channels[skip], num_classes, 1, padding=_SKIP_PADDING[padding][skip]
            )
            self.add_module(f"score_{skip}", conv)
        for name in self.score_layers:
            for parameter in getattr(self, name).parameters():
                nn.init.zeros_(parameter)

        grids = self.trunk_grids()
        grid = grids["fc7"].through(self.score_fr)
        self.skip_offsets: dict[str, int] = {}
        for skip in self.skips:
            grid = grid.upsample(2)
            skip_grid = grids[skip].through(getattr(self, f"score_{skip}"))
            self.skip_offsets[skip] = crop_offset(skip_grid, grid)
        self.score_grid = grid
        self.last_stride = int(grid.stride)
        self.last_offset = crop_offset(grid.upsample(self.last_stride), Grid())

    @property
    def score_layers(self) -> tuple[str, ...]:
        """The names of the layers that depend on the classes: score_fr, score_pool4, ..."""
        return ("score_fr", *(f"score_{skip}" for skip in self.skips))

    def scores(self, images: Tensor) -> Tensor:
        """The map of scores before the last upsampling.

        Args:
            images: ``(N, in_channels, H, W)``, floating point, any ``H, W >= 1``.

        Returns:
            ``(N, num_classes, h, w)``, its cells ``last_stride`` pixels apart and placed as
            ``score_grid`` says.

        Raises:
            TypeError: ``images`` is no tensor.
            ValueError: ``images`` has another shape, or is not floating point.
        """
        _common.is_tensor(images, "images")
        if images.dim() != 4 or images.shape[1] != self.in_channels or 0 in images.shape[2:]:
            raise ValueError(
                f"images must have shape (N, {self.in_channels}, H, W) with H, W >= 1, "
                f"got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, got {images.dtype}")
        fc7, pools = self.trunk(images, keep=self.skips)
        score: Tensor = self.score_fr(fc7)
        for skip in self.skips:
            pool, scale = pools[skip], self.skip_scales[skip]
            skip_score = getattr(self, f"score_{skip}")(pool if scale == 1 else pool * scale)
            score = ops.fuse_skip(score, skip_score, self.skip_offsets[skip], stride=2)
        return score

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # Other implementations keep the fixed kernels among their parameters.
        strides = [2] * len(self.skips) + [self.last_stride]
        error_msgs += drop_bilinear_kernels(
            state_dict, prefix, dict(zip(self.upscores, strides, strict=True)), self.num_classes
        )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class FCN32s(FCN):
    """FCN-32s: the scores of fc7, upsampled 32 times. Arguments as :class:`FCN`."""

    skips = ()
    upscores = ("upscore",)


class FCN16s(FCN):
    """FCN-16s: fuses the scores of fc7 and pool4. Arguments as :class:`FCN`."""

    skips = ("pool4",)
    upscores = ("upscore2", "upscore16")


class FCN8s(FCN):
    """FCN-8s: fuses the scores of fc7, pool4 and pool3. Arguments as :class:`FCN`, and:

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


_BUILDERS: dict[str, Callable[..., FCN]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": lambda *args, **options: FCN8s(*args, at_once=True, **options),
}


def build_model(name: str, **options: Any) -> FCN:
    """The net called ``name``: fcn32s, fcn16s, fcn8s or fcn8s-atonce.

    ``options`` are the arguments of its class (:class:`FCN`), ``num_classes`` among them.

    Raises:
        ValueError: ``name`` is none of these, or an option is out of range.
        TypeError: an option is unknown.
    """
    if name not in _BUILDERS:
        raise ValueError(f"name must be one of {', '.join(_BUILDERS)}, got {name!r}")
    return _BUILDERS[name](**options)

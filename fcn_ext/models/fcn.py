"""What all fully convolutional nets of this package share, whatever their trunk."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .. import ops
from ..geometry import Grid, crop_offset
from ..ops import _common
from .heads import UpsampledScores
from .kernels import drop_bilinear_kernels
from .trunk import Trunk, count

__all__ = ["FCN"]


class FCN(UpsampledScores, Trunk):
    """A classifier's trunk, score_fr on it, the fused skips, the last upsampling.

    ``model(images)`` are the logits; ``model.loss``, ``model.predict`` and ``model.evaluate``
    (:class:`fcn_ext.models.heads.UpsampledScores`) do without them.

    The scores of the trunk are upsampled by 2 and summed with the scores of a pooling, once for
    each name in ``skips``; the last upsampling brings them to the size of the image. All upsampling
    is fixed and bilinear. The offsets of all crops follow from the layers' geometry
    (:mod:`fcn_ext.geometry`). Score layers start from zero, as Caffe leaves them.

    A net derives from this class and from its trunk, in this order.

    Args:
        num_classes: channels of the scores.
        skip_padding: of the 1x1 convolution that scores each skip, where it has any.
        trunk: the arguments of the trunk.

    Attributes:
        last_stride: the factor of the last upsampling.
        last_offset: where its result is cropped. ``model(images)`` is ``ops.upsample(
            model.scores(images), model.last_stride, kernel_size=model.last_kernel_size,
            offset=model.last_offset, output_size=images.shape[-2:])``.
        score_grid: where the cells of ``model.scores(images)`` lie in the image.
        skip_scales: the factor on each skip's map before it is scored.
        skip_offsets: where the scores of each skip are cropped.
    """

    skips: ClassVar[tuple[str, ...]] = ()
    # The published names of the upsampling layers: one for each skip, and the last.
    upscores: ClassVar[tuple[str, ...]]
    # 2 * stride - 1 centres on a cell, 2 * stride between two: what the grid of the scores asks
    # for, so that the last crop begins at a whole pixel.
    odd_last_kernel: ClassVar[bool] = False
    last_kernel_size: int

    def __init__(
        self, num_classes: int, *, skip_padding: dict[str, int] | None = None, **trunk: Any
    ) -> None:
        num_classes = count(num_classes, "num_classes")
        super().__init__(**trunk)
        self.num_classes = num_classes
        self.skip_scales = dict.fromkeys(self.skips, 1.0)

        self.score_fr = nn.Conv2d(self.out_channels, num_classes, 1)
        for skip in self.skips:
            padding = (skip_padding or {}).get(skip, 0)
            conv = nn.Conv2d(self.pool_channels[skip], num_classes, 1, padding=padding)
            self.add_module(f"score_{skip}", conv)
        for name in self.score_layers:
            for parameter in getattr(self, name).parameters():
                nn.init.zeros_(parameter)

        grids = self.trunk_grids()
        grid = grids[self.top].through(self.score_fr)
        self.skip_offsets: dict[str, int] = {}
        for skip in self.skips:
            grid = grid.upsample(2)
            skip_grid = grids[skip].through(getattr(self, f"score_{skip}"))
            self.skip_offsets[skip] = crop_offset(skip_grid, grid)
        self.score_grid = grid
        self.last_stride = int(grid.stride)
        self.last_kernel_size = 2 * self.last_stride - self.odd_last_kernel
        last = grid.upsample(self.last_stride, kernel_size=self.last_kernel_size)
        self.last_offset = crop_offset(last, Grid())

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
        top, pools = self.trunk(images, keep=self.skips)
        score: Tensor = self.score_fr(top)
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
        sizes = [4] * len(self.skips) + [self.last_kernel_size]
        error_msgs += drop_bilinear_kernels(
            state_dict, prefix, dict(zip(self.upscores, sizes, strict=True)), self.num_classes
        )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

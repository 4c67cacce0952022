"""What a net makes of its coarse scores: logits, loss, label map, confusion counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor, nn

from .. import ops
from ..metrics import ConfusionMatrix
from ..ops import _common

__all__ = ["UpsampledScores"]

T = TypeVar("T")


class UpsampledScores(nn.Module):
    """A net whose scores lie on a coarse grid and count at the size of the image.

    Bilinear upsampling by ``last_stride``, cropped at ``last_offset`` to the images' height and
    width, makes logits of the scores. ``forward`` writes them out. ``loss``, ``predict`` and
    ``evaluate`` give what their names say of these same logits without ever holding them: all
    four use one geometry, and mix freely.

    None of them switches between training and evaluation: call ``model.eval()`` before
    ``predict`` and ``evaluate``, as before ``forward``. They call the net's layers and not the
    net itself, so that hooks on the net as a whole see ``forward`` alone.

    Attributes:
        num_classes: channels of the scores.
        last_stride: the factor of the last upsampling.
        last_kernel_size: the side of its kernel; None for the one that ``ops.upsample`` takes.
        last_offset: where its result is cropped.
    """

    num_classes: int
    last_stride: int
    last_kernel_size: int | None = None
    last_offset: int

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """The scores ``(N, num_classes, h, w)`` of ``images`` ``(N, channels, H, W)``."""

    def forward(self, images: Tensor) -> Tensor:
        """The logits ``(N, num_classes, H, W)`` of ``images`` ``(N, channels, H, W)``.

        Raises:
            TypeError, ValueError: as :meth:`scores`.
        """
        size = _common.is_tensor(images, "images").shape[-2:]
        return self._at_full_size(ops.upsample, images, output_size=size)

    def loss(
        self,
        images: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """``F.cross_entropy(model(images), target, ...)``, from the scores, with its gradient.

        Args:
            images: as for :meth:`scores`.
            target: labels ``(N, H, W)``, uint8, int16, int32 or int64; ``ignore_index`` is void.
            weight: ``(num_classes,)``, one factor a class.
            ignore_index: label of the pixels that are left out.
            reduction: ``"mean"`` over the valid pixels, weighted by ``weight``, ``"sum"`` or
                ``"none"``.
            label_smoothing: share of the target spread evenly over the classes, in [0, 1].

        Returns:
            ``()``, or ``(N, H, W)`` with ``reduction="none"``; float32 where the scores are
            half-precision.

        Raises:
            TypeError, ValueError: as :meth:`scores` and
                :func:`fcn_ext.ops.upsample_cross_entropy`, or ``target`` has not the batch size,
                height and width of ``images``.
        """
        _check_target(target, images)
        return self._at_full_size(
            ops.upsample_cross_entropy,
            images,
            target,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

    @overload
    def predict(self, images: Tensor, *, return_probability: Literal[False] = ...) -> Tensor: ...
    @overload
    def predict(
        self, images: Tensor, *, return_probability: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    @torch.no_grad()
    def predict(
        self, images: Tensor, *, return_probability: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``model(images).argmax(1)``, from the scores, without a gradient.

        Args:
            images: as for :meth:`scores`.
            return_probability: return the softmax probability of the winners as well.

        Returns:
            Labels ``(N, H, W)``, uint8 up to 256 classes and int16 beyond, the lowest of equal
            classes; with ``return_probability`` also the probability ``(N, H, W)``, float32
            (float64 for scores of float64).

        Raises:
            TypeError, ValueError: as :meth:`scores`.
        """
        size = _common.is_tensor(images, "images").shape[-2:]
        return self._at_full_size(
            ops.upsample_argmax, images, output_size=size, return_probability=return_probability
        )

    @torch.no_grad()
    def evaluate(
        self,
        images: Tensor,
        target: Tensor,
        matrix: ConfusionMatrix | Tensor,
        *,
        ignore_index: int | None = None,
    ) -> None:
        """Adds the counts of (target, predicted class) pairs to ``matrix``, from the scores.

        What ``matrix.update(model(images), target)`` adds. On CUDA nothing waits for the device.

        Args:
            images: as for :meth:`scores`.
            target: labels ``(N, H, W)``, uint8, int16, int32 or int64.
            matrix: a :class:`fcn_ext.metrics.ConfusionMatrix`, which also counts labels out of
                range and refuses to be scored where there are any; or a contiguous int64 tensor
                ``(num_classes, num_classes)``, rows = target, to which such pixels do not add.
            ignore_index: void label for a tensor, by default 255; a ``ConfusionMatrix`` has its
                own.

        Raises:
            TypeError, ValueError: as :meth:`scores` and
                :func:`fcn_ext.ops.upsample_confusion_matrix`, or ``target`` has not the batch
                size, height and width of ``images``, or ``matrix`` counts another number of
                classes, or ``ignore_index`` is given beside a ``ConfusionMatrix``.
        """
        _check_target(target, images)
        if not isinstance(matrix, ConfusionMatrix):
            void = 255 if ignore_index is None else ignore_index
            count = ops.upsample_confusion_matrix
            self._at_full_size(count, images, target, ignore_index=void, out=matrix)
            return
        if ignore_index is not None:
            raise ValueError(
                "ignore_index must be left to the ConfusionMatrix, whose is "
                f"{matrix.ignore_index}, got {ignore_index}"
            )
        if matrix.num_classes != self.num_classes:
            raise ValueError(
                f"matrix must count the net's {self.num_classes} classes, got {matrix.num_classes}"
            )
        self._at_full_size(matrix.update_upsampled, images, target)

    def _at_full_size(
        self, head: Callable[..., T], images: Tensor, *target: Tensor, **options: Any
    ) -> T:
        """``head`` of the scores of ``images``, in the geometry of the last upsampling."""
        return head(
            self.scores(images),
            *target,
            self.last_stride,
            kernel_size=self.last_kernel_size,
            offset=self.last_offset,
            **options,
        )


def _check_target(target: Tensor, images: Tensor) -> None:
    _common.is_tensor(images, "images")
    _common.is_tensor(target, "target")
    # Images of another dimension are left to scores, which refuses them.
    expected = (*images.shape[:1], *images.shape[2:])
    if images.dim() == 4 and tuple(target.shape) != expected:
        raise ValueError(
            f"target must have the images' (N, H, W) = {expected}, got {tuple(target.shape)}"
        )

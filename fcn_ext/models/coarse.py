"""What follows from a net's coarse scores: logits, loss, label map, confusion counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, overload

import torch
import torch.fx
from torch import Tensor, nn

from .. import ops
from ..geometry import Deconvolution, Geometry
from ..metrics import ConfusionMatrix
from ..ops import _common
from ..ops._confusion_matrix import check_out
from .trunk import count

__all__ = [
    "CoarseNet",
    "CoarseScores",
    "check_matrix",
    "check_target",
    "image_size",
    "logits",
]


class CoarseScores(nn.Module):
    """A net that gives scores on a coarse grid, for results at the size of the image.

    ``geometry`` says how scores become logits. ``forward`` returns the logits; ``loss``,
    ``predict`` and ``evaluate`` return what follows from the same logits without storing them.

    A subclass sets the attributes and defines ``scores``; :class:`CoarseNet` wraps any module that
    returns coarse scores.

    None of the methods switches between training and evaluation: call ``model.eval()`` before
    ``predict`` and ``evaluate``, as before ``forward``. They call the net's layers and not the net
    itself, so hooks on the net as a whole see only ``forward``.

    Attributes:
        num_classes: channels of the scores.
        geometry: how the scores reach the size of the image, :class:`fcn_ext.geometry.
            Deconvolution` or :class:`fcn_ext.geometry.Resize`.
        ignore_index: void label of targets, unless a call names another.
    """

    num_classes: int
    geometry: Geometry
    ignore_index: int = 255

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """The scores ``(N, num_classes, h, w)`` of ``images`` ``(N, channels, H, W)``."""

    def forward(self, images: Tensor) -> Tensor:
        """The logits ``(N, num_classes, H, W)`` of ``images`` ``(N, channels, H, W)``.

        Raises:
            TypeError, ValueError: as :meth:`scores`.
        """
        _check_tensor(images)
        return logits(self.scores(images), image_size(images), self.geometry)

    def loss(
        self,
        images: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """``F.cross_entropy(model(images), target, ...)``, from the scores, with its gradient.

        Args:
            images: as for :meth:`scores`.
            target: labels ``(N, H, W)``, uint8, int16, int32 or int64; ``ignore_index`` is void.
            weight: ``(num_classes,)``, one factor per class.
            ignore_index: label of the pixels that are left out; by default the net's.
            reduction: ``"mean"`` over the valid pixels, weighted by ``weight``, ``"sum"`` or
                ``"none"``.
            label_smoothing: share of the target spread evenly over the classes, in [0, 1].

        Returns:
            ``()``, or ``(N, H, W)`` with ``reduction="none"``; float32 if the scores are
            half-precision.

        Raises:
            TypeError, ValueError: as :meth:`scores` and
                :func:`fcn_ext.ops.cross_entropy`, or ``target`` has another batch size,
                height or width than ``images``.
        """
        check_target(target, images)
        return ops.cross_entropy(
            self.scores(images),
            target,
            self.geometry,
            weight=weight,
            ignore_index=self.ignore_index if ignore_index is None else ignore_index,
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
        _common.is_tensor(images, "images")
        _common.flag(return_probability, "return_probability")
        scores = self.scores(images)
        if return_probability:
            return ops.argmax(scores, image_size(images), self.geometry, return_probability=True)
        return ops.argmax(scores, image_size(images), self.geometry)

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
                range and then refuses to compute scores; or an int64 tensor ``(num_classes,
                num_classes)``, rows = target, to which such pixels are not added.
            ignore_index: void label for a tensor, by default the net's; a ``ConfusionMatrix`` has
                its own.

        Raises:
            TypeError, ValueError: as :meth:`scores` and
                :func:`fcn_ext.ops.score_confusion_matrix`, or ``target`` has another batch size,
                height or width than ``images``, or ``matrix`` counts another number of classes, or
                ``ignore_index`` is given beside a ``ConfusionMatrix``.
        """
        check_target(target, images)
        if not isinstance(matrix, ConfusionMatrix):
            if not isinstance(matrix, Tensor):
                raise TypeError(
                    "matrix must be a ConfusionMatrix or a torch.Tensor, "
                    f"got {type(matrix).__name__}"
                )
            check_out(matrix, "matrix", self.num_classes, target)
            ops.score_confusion_matrix(
                self.scores(images),
                target,
                self.geometry,
                ignore_index=self.ignore_index if ignore_index is None else ignore_index,
                out=matrix,
            )
            return
        if ignore_index is not None:
            raise ValueError(
                "ignore_index must be left to the ConfusionMatrix, whose is "
                f"{matrix.ignore_index}, got {ignore_index}"
            )
        check_matrix(matrix, self.num_classes)
        matrix.update_scores(self.scores(images), target, self.geometry)


class CoarseNet(CoarseScores):
    """Any module that returns coarse scores, with ``loss``, ``predict`` and ``evaluate``.

    The state dict has the module's names with the prefix ``module.``.

        >>> module = nn.Conv2d(3, 5, 8, stride=8)
        >>> net = CoarseNet(module, Deconvolution(8, offset=4), num_classes=5)
        >>> net.predict(torch.zeros(1, 3, 64, 48)).shape
        torch.Size([1, 64, 48])

    Args:
        module: from images ``(N, channels, H, W)`` to scores ``(N, num_classes, h, w)``.
        geometry: how they reach the size of the image: ``Resize()`` for ``F.interpolate``, a
            ``Deconvolution`` for a transposed convolution and a crop.
        num_classes: channels of the scores.
        ignore_index: void label of targets.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``num_classes`` is not positive.
    """

    def __init__(
        self, module: nn.Module, geometry: Geometry, num_classes: int, *, ignore_index: int = 255
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        self.module = module
        self.geometry = _common.is_geometry(geometry)
        self.num_classes = count(num_classes, "num_classes")
        self.ignore_index = _common.integer(ignore_index, "ignore_index")

    def scores(self, images: Tensor) -> Tensor:
        """What the module returns.

        Raises:
            TypeError: it is not a tensor.
            ValueError: it does not have the shape ``(N, num_classes, h, w)``.
        """
        return _of_classes(self.module(images), self.num_classes)


# Wrapped, the checks are nodes of what torch.fx.symbolic_trace records: its proxies have no values.
@torch.fx.wrap
def _check_tensor(images: Tensor) -> None:
    _common.is_tensor(images, "images")


@torch.fx.wrap
def _of_classes(scores: Tensor, num_classes: int) -> Tensor:
    """The module's scores, if they are a map of ``num_classes`` channels."""
    _common.is_map(scores, "the module's scores")
    if scores.shape[1] != num_classes:
        raise ValueError(
            f"the module's scores must have num_classes = {num_classes} channels, "
            f"got {tuple(scores.shape)}"
        )
    return scores


def logits(scores: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """The scores ``(N, C, h, w)`` at full ``size``."""
    if isinstance(geometry, Deconvolution):
        return ops.upsample(
            scores,
            geometry.stride,
            kernel_size=geometry.kernel_size,
            offset=geometry.offset,
            output_size=size,
        )
    return ops.interpolate(
        scores,
        size,
        align_corners=geometry.align_corners,
        uncropped_size=geometry.uncropped_size,
        offset=geometry.offset,
    )


def check_matrix(matrix: ConfusionMatrix, num_classes: int) -> None:
    """Raises unless ``matrix`` counts ``num_classes`` classes."""
    if not isinstance(matrix, ConfusionMatrix):
        raise TypeError(f"matrix must be a ConfusionMatrix, got {type(matrix).__name__}")
    if matrix.num_classes != num_classes:
        raise ValueError(
            f"matrix must count the net's classes, {num_classes}, got {matrix.num_classes}"
        )


def check_target(target: Tensor, images: Tensor) -> None:
    """Raises unless ``target`` has a label for each pixel of ``images``."""
    _common.is_tensor(images, "images")
    _common.is_tensor(target, "target")
    # Images of another dimension are left to scores, which refuses them.
    expected = (*images.shape[:1], *images.shape[2:])
    if images.dim() == 4 and tuple(target.shape) != expected:
        raise ValueError(
            f"target must have the images' (N, H, W) = {expected}, got {tuple(target.shape)}"
        )


def image_size(images: Tensor) -> tuple[int, int]:
    """Height and width."""
    height, width = images.shape[-2:]
    return height, width

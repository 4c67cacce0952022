"""Fully convolutional nets with several heads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor

from .. import ops
from ..metrics import ConfusionMatrix
from .coarse import check_matrix, check_target, image_size, logits
from .fcn import TrunksAndHeads

__all__ = ["MultiHeadFCN"]


class MultiHeadFCN(TrunksAndHeads):
    """Several heads on the same trunks, each with its own classes, such as SIFT Flow's semantic and
    geometric ones (Long et al., section 5).

    Arguments and results for each head are dicts by the heads' names.

        >>> from fcn_ext.models import VGG16Trunk
        >>> trunk = VGG16Trunk(width=1 / 32)
        >>> heads = {"semantic": Head(trunk, 33), "geometric": Head(trunk, 3)}
        >>> model = MultiHeadFCN(trunk, heads)
        >>> {name: tuple(map.shape) for name, map in model(torch.zeros(1, 3, 9, 9)).items()}
        {'semantic': (1, 33, 9, 9), 'geometric': (1, 3, 9, 9)}

    Args:
        trunks: one, or several by name.
        heads: made for these trunks, by name.

    Raises:
        TypeError: an argument holds something else.
        ValueError: a head was made for other trunks, or two layers would have one name.
    """

    def scores(self, images: Tensor) -> dict[str, Tensor]:
        """The scores of each head before its last upsampling; as :meth:`FCN.scores`."""
        return self.head_scores(images)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The logits ``(N, num_classes, H, W)`` of each head.

        Raises:
            TypeError, ValueError: as :meth:`FCN.scores`.
        """
        return {
            name: logits(scores, image_size(images), self._heads()[name].geometry)
            for name, scores in self.scores(images).items()
        }

    def loss(
        self,
        images: Tensor,
        target: Mapping[str, Tensor],
        *,
        weight: Mapping[str, Tensor] | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The heads' losses, each times its ``loss_weight``, summed.

        Args:
            target: labels ``(N, H, W)`` for each head; its ``ignore_index`` is void.
            weight: ``(num_classes,)``, one factor per class, for any of the heads.
            images, reduction, label_smoothing: as :meth:`CoarseScores.loss`.

        Raises:
            TypeError, ValueError: as :meth:`CoarseScores.loss`, or ``target`` lacks a head, or
                ``weight`` is for a head that does not exist.
        """
        losses = self.losses(
            images, target, weight=weight, reduction=reduction, label_smoothing=label_smoothing
        )
        weighted = [self._heads()[name].loss_weight * loss for name, loss in losses.items()]
        return torch.stack(weighted).sum(0)

    def losses(
        self,
        images: Tensor,
        target: Mapping[str, Tensor],
        *,
        weight: Mapping[str, Tensor] | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> dict[str, Tensor]:
        """Each head's loss, without its ``loss_weight``; arguments as :meth:`loss`."""
        self._check_given(target, "target")
        for labels in target.values():
            check_target(labels, images)
        weight = {} if weight is None else weight
        if not isinstance(weight, Mapping):
            raise TypeError(f"weight must be a dict by head, got {type(weight).__name__}")
        for name in weight:
            if name not in self._heads():
                raise ValueError(
                    f"weight must be of heads, {', '.join(self.heads)}, got one for {name!r}"
                )
        return {
            name: ops.cross_entropy(
                scores,
                target[name],
                self._heads()[name].geometry,
                weight=weight.get(name),
                ignore_index=self._heads()[name].ignore_index,
                reduction=reduction,
                label_smoothing=label_smoothing,
            )
            for name, scores in self.scores(images).items()
        }

    @torch.no_grad()
    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """The labels of each head, as :meth:`CoarseScores.predict`.

        Raises:
            TypeError, ValueError: as :meth:`FCN.scores`.
        """
        return {
            name: ops.argmax(scores, image_size(images), self._heads()[name].geometry)
            for name, scores in self.scores(images).items()
        }

    @torch.no_grad()
    def evaluate(
        self,
        images: Tensor,
        target: Mapping[str, Tensor],
        matrix: Mapping[str, ConfusionMatrix],
    ) -> None:
        """Adds the counts of each head to its matrix, as :meth:`CoarseScores.evaluate`; to none if
        this raises.

        Raises:
            TypeError, ValueError: as :meth:`CoarseScores.evaluate`, or ``target`` or ``matrix``
                lacks a head.
        """
        self._check_given(target, "target")
        self._check_given(matrix, "matrix")
        for name, head in self._heads().items():
            check_target(target[name], images)
            check_matrix(matrix[name], head.num_classes)
        found = self.scores(images)  # before others have to wait for the counts
        with contextlib.ExitStack() as stack:
            # In one order, however each caller names them: else two threads may wait for each
            # other.
            for counts in sorted(matrix.values(), key=id):
                stack.enter_context(counts.all_or_nothing())
            for name, scores in found.items():
                matrix[name].update_scores(scores, target[name], self._heads()[name].geometry)

    def _check_given(self, values: Mapping[str, object], name: str) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"{name} must be a dict by head, got {type(values).__name__}")
        if values.keys() != self._heads().keys():
            raise ValueError(
                f"{name} must have an entry for each head, {', '.join(self.heads)}, "
                f"got {', '.join(values) or 'none'}"
            )

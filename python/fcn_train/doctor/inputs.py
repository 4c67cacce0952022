"""The inputs with which `fcn doctor` tests every operator, small and with exact results.

Scores are small whole numbers and strides powers of two, so every score at full size is exact in
float32: float32 and float64 then agree on winners and counts to the last pixel, ties included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fcn_ext import losses, ops, reference, reference_losses
from fcn_ext.geometry import Deconvolution, Resize

CLASSES, QUERIES = 21, 4
COARSE, FULL = (11, 9), (88, 72)
DECONVOLUTION = Deconvolution(8, offset=4)


@dataclass(frozen=True, eq=False)
class Check:
    """One call of an operator.

    Attributes:
        name: module and function, ``"ops.upsample"``.
        ours, plain: the operator, and its specification in plain PyTorch.
        arguments, keywords: of both. Gradients are asked for of tensors that require them.
        torch_way: what its speed is compared with, where the specification is not how one would
            write it.
    """

    name: str
    ours: Callable[..., Any]
    plain: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    torch_way: Callable[..., Any] | None = None


def checks(device: torch.device) -> list[Check]:
    """Every function of ``fcn_ext.ops`` and ``fcn_ext.losses``, on ``device``."""
    generator = torch.Generator().manual_seed(0)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def scores(*shape: int) -> Tensor:
        return whole(-4, 5, *shape).to(device, torch.float32).requires_grad_()

    coarse, teacher = scores(1, CLASSES, *COARSE), scores(1, CLASSES, *COARSE).detach()
    skip = scores(1, CLASSES, 2 * COARSE[0] + 8, 2 * COARSE[1] + 7)
    queries = scores(1, QUERIES, *COARSE)
    target = whole(0, CLASSES, 1, *FULL).to(torch.uint8)
    target[:, :9] = 255
    masks = whole(0, 2, 1, QUERIES, *FULL).to(torch.uint8)
    masks[:, :, :, :5] = 255
    target, masks = target.to(device), masks.to(device)
    labels, stranger = whole(0, CLASSES, 1, *FULL).to(device), target.clone()
    stranger[0, 70, 50] = CLASSES
    weight = (0.5 + torch.arange(CLASSES, dtype=torch.float32) / CLASSES).to(device)
    full = whole(-4, 5, 1, CLASSES, *FULL).to(device, torch.float32)

    def op(name: str, *arguments: Any, also: str = "", **keywords: Any) -> Check:
        ours, plain = getattr(ops, name), getattr(reference, name)
        return Check(f"ops.{name}{also}", ours, plain, arguments, keywords)

    def loss(name: str, *arguments: Any, **keywords: Any) -> Check:
        ours, plain = getattr(losses, name), getattr(reference_losses, name)
        return Check(f"losses.{name}", ours, plain, arguments, keywords)

    smoothed: dict[str, Any] = {"weight": weight, "label_smoothing": 0.1}
    probability: dict[str, Any] = {"return_probability": True}
    check_labels = Check(
        "ops.check_labels",
        _message_of(ops.check_labels),
        _message_of(reference.check_labels),
        (stranger, CLASSES),
        torch_way=_any_stranger,
    )
    return [
        op("upsample", coarse, 8, offset=4, output_size=FULL),
        op("interpolate", coarse, FULL),
        op("fuse_skip", coarse, skip, (3, 2)),
        op("cross_entropy", coarse, target, Resize(), **smoothed),
        op("upsample_cross_entropy", coarse, target, 8, offset=4),
        op("interpolate_cross_entropy", coarse, target, reduction="sum"),
        op("argmax", coarse.detach(), FULL, Resize(), **probability),
        op("upsample_argmax", coarse, 8, offset=4, output_size=FULL),
        op("interpolate_argmax", coarse, FULL),
        op("confusion_matrix", labels, target, CLASSES),
        op("confusion_matrix", full, target, CLASSES, also=" (logits)"),
        op("score_confusion_matrix", coarse, target, DECONVOLUTION),
        op("upsample_confusion_matrix", coarse, target, 8, offset=4),
        op("interpolate_confusion_matrix", coarse, target),
        op("region_sums", coarse, target, weight=weight, squared=True, with_loss=True),
        op("sigmoid_loss", queries, masks, torch.rand(queries.shape[1], 8), DECONVOLUTION),
        op("sigmoid_sums", queries, masks, DECONVOLUTION, gamma=2.0, regions=True),
        check_labels,
        loss("cross_entropy", coarse, target, reduction="mean_all"),
        loss("pixel_accuracy", coarse, target),
        loss("focal_loss", coarse, target, alpha=weight),
        loss("ohem_cross_entropy", coarse, target, DECONVOLUTION, threshold=0.7, min_kept=0.25),
        loss("deep_supervision", [(coarse, 1.0), (teacher, 0.4, DECONVOLUTION)], target),
        loss("distillation_loss", coarse, teacher, FULL, temperature=2.0, target=target),
        loss("dice_loss", coarse, target),
        loss("jaccard_loss", coarse, target),
        loss("tversky_loss", coarse, target, alpha=0.3, beta=0.7, gamma=0.75),
        loss("generalized_dice_loss", coarse, target),
        loss("dice_cross_entropy_loss", coarse, target, weight=weight),
        loss("sigmoid_cross_entropy", queries, masks),
        loss("sigmoid_focal_loss", queries, masks),
        loss("sigmoid_dice_loss", queries, masks, DECONVOLUTION),
    ]


def _message_of(check: Callable[..., None]) -> Callable[..., str]:
    def call(target: Tensor, num_classes: int) -> str:
        try:
            check(target, num_classes)
        except ValueError as error:
            return str(error)
        return ""

    return call


def _any_stranger(target: Tensor, num_classes: int) -> bool:
    return bool(((target >= num_classes) & (target != 255)).any())

"""Hugging Face transformers: its registered loss and its post-processing, from coarse scores.

Models that call ``F.interpolate`` and ``F.cross_entropy`` themselves, such as SegFormer, need only
:class:`~fcn_ext.deferred.fused_upsampling` around them. This module is for cases that a context
does not reach: losses that only transformers itself calls, and outputs that are resized later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext import _label_rules, _rules
from fcn_ext.deferred import fused_upsampling
from fcn_ext.geometry import Resize
from fcn_ext.ops import _common
from fcn_ext.prediction._sizes import argmax_sizes, size_of_each

__all__ = ["post_process_semantic_segmentation", "restore_loss", "set_loss"]

_NAME = "ForSemanticSegmentation"
_set: list[tuple[Any, Any]] = []
"""The loss that was registered, and ours in its place."""


def set_loss() -> None:
    """Makes transformers' registered loss for semantic segmentation work on coarse scores.

    Models of that ``loss_type`` call ``LOSS_MAPPING["ForSemanticSegmentation"]``, also for
    auxiliary heads. It is replaced by one that runs in :class:`~fcn_ext.deferred.fused_upsampling`
    and gives the same loss. A second call changes nothing, unless another loss has been registered
    in between. :func:`restore_loss` undoes it.

    Raises:
        ImportError: transformers is not installed, or has no such registry.
    """
    try:
        from transformers.loss.loss_utils import LOSS_MAPPING

        current = LOSS_MAPPING[_NAME]
    except (ImportError, KeyError) as error:
        raise ImportError(
            "set_loss needs transformers with a registry of losses: pip install -U transformers"
        ) from error

    if not _set or current is not _set[0][1]:
        _set[:] = [(current, fused_upsampling()(current))]
        LOSS_MAPPING[_NAME] = _set[0][1]


def restore_loss() -> None:
    """Registers the loss again that :func:`set_loss` replaced. If another loss has been registered
    since, it stays."""
    if _set:
        from transformers.loss.loss_utils import LOSS_MAPPING

        before, ours = _set.pop()
        if LOSS_MAPPING.get(_NAME) is ours:
            LOSS_MAPPING[_NAME] = before


def post_process_semantic_segmentation(
    outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None = None
) -> list[Tensor]:
    """Label maps at each image's own size, as the method of this name of image processors returns.

    :func:`fcn_ext.prediction.argmax_sizes` of the logits: one image after the other, without
    full-size logits.

        >>> from types import SimpleNamespace
        >>> outputs = SimpleNamespace(logits=torch.randn(2, 150, 32, 32))
        >>> maps = post_process_semantic_segmentation(outputs, [(480, 640), (333, 500)])
        >>> [tuple(map.shape) for map in maps]
        [(480, 640), (333, 500)]

    Args:
        outputs: what a model for semantic segmentation returns, with ``logits`` (N, C, h, w).
        target_sizes: (height, width) of each image, a list or a tensor (N, 2); by default the size
            of the logits.

    Returns:
        N label maps, int64, of these sizes.

    Raises:
        TypeError: ``outputs`` has no ``logits``, or these are not a tensor, or a size is not a pair
            of integers.
        ValueError: ``outputs.logits`` is not a floating-point map (N, C, h, w), or there are more
            or fewer sizes than images.
    """
    if not hasattr(outputs, "logits"):
        raise TypeError(f"outputs must have logits, got {type(outputs).__name__} without them")
    logits = _common.is_map(outputs.logits, "outputs.logits")
    _rules.check_map(logits, "outputs.logits")
    _label_rules.check_argmax_classes(logits, "outputs.logits")
    if target_sizes is None:
        return list(logits.argmax(1))
    sizes = size_of_each(target_sizes, len(logits), "target_sizes")
    for image, size in enumerate(sizes):
        _rules.check_axes(Resize().numbers, logits.shape[2:], size, f"target_sizes[{image}]")
    return argmax_sizes(logits, sizes, dtype=torch.int64)

"""Predictions with their probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_ext import ops
from fcn_train.heads import Net, head_list, in_order
from fcn_train.options import Logits
from fcn_train.runtime import Runtime
from fcn_train.views import Views


def sure_labels(
    model: Any, images: Tensor, views: Views, logits: Logits
) -> list[tuple[Tensor, Tensor]]:
    """For each head, labels (N, H, W) and the probability of each."""
    if views.several:
        return [each.argmax(return_probability=True) for each in views.average(model, images)]
    size = (images.shape[2], images.shape[3])
    if logits == "full":
        made = in_order(model(images))
        return [ops.argmax(each, size, return_probability=True) for each in made]
    return [
        ops.argmax(scores, size, head.geometry, return_probability=True)
        for scores, head in zip(in_order(model.scores(images)), head_list(model), strict=True)
    ]


@torch.inference_mode()
def segment_surely(
    model: Net, image: Tensor, runtime: Runtime, views: Views
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each head, class indices (H, W) uint8 of a normalized image (C, H, W), and the softmax
    probability of each, (H, W) float32. ``model`` is in eval mode."""
    with runtime.autocast():
        made = sure_labels(model, runtime.images(image[None]), views, "coarse")
    return [
        (labels[0].cpu().numpy(), probability[0].float().cpu().numpy())
        for labels, probability in made
    ]

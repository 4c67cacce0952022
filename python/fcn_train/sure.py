"""Predictions with their probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.models import MultiHeadFCN
from fcn_train.heads import Net, in_order
from fcn_train.runtime import Runtime
from fcn_train.views import Views


@torch.inference_mode()
def segment_surely(
    model: Net, image: Tensor, runtime: Runtime, views: Views
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Class indices (H, W) uint8 of an image (C, H, W), normalized, and the softmax probability of
    each, (H, W) float32; for each head. ``model`` is in eval mode."""
    images = runtime.images(image[None])
    size = (image.shape[1], image.shape[2])
    heads: Any = model.heads.values() if isinstance(model, MultiHeadFCN) else [model]
    with runtime.autocast():
        if views.several:
            made = [
                average.argmax(return_probability=True) for average in views.average(model, images)
            ]
        else:
            all_scores: list[Tensor] = in_order(model.scores(images))
            made = [
                ops.argmax(scores, size, head.geometry, return_probability=True)
                for scores, head in zip(all_scores, heads, strict=True)
            ]
    return [
        (labels[0].cpu().numpy(), probability[0].float().cpu().numpy())
        for labels, probability in made
    ]

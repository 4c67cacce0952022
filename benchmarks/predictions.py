"""Predictions at full size, and what users would write instead, as functions to measure.

The peers are the code of Hugging Face's ``post_process_semantic_segmentation``, of mmsegmentation's
``slide_inference`` and ``SegTTAModel``, and of models that give masks, each written as fast as
torch allows: in place, without loops over masks or pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.views import VIEWS, own_sizes, windows
from benchmarks.workloads import Workload
from fcn_ext import prediction

Masks = tuple[Tensor, Tensor, Tensor]


def project_masks(w: Workload, scores: Tensor) -> Masks:
    found = prediction.masks(scores, w.case.size, probability=0.5)
    return found.masks, found.area, found.box


def plain_masks(w: Workload, scores: Tensor) -> Masks:
    masks = F.interpolate(scores, w.case.size, mode="bilinear").sigmoid() > 0.5
    return masks, masks.sum((2, 3)), boxes(masks)


def boxes(masks: Tensor) -> Tensor:
    """(x0, y0, x1, y1) of each mask (N, Q, H, W); zeros for an empty one."""
    sides = []
    for seen in (masks.any(2), masks.any(3)):
        first = seen.int().argmax(2)
        past = seen.shape[2] - seen.flip(2).int().argmax(2)
        sides.append((first, torch.where(seen.any(2), past, 0)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 2)


def project_sizes(w: Workload, scores: Tensor) -> list[Tensor]:
    return prediction.argmax_sizes(scores, own_sizes(w.case, len(scores)))


def plain_sizes(w: Workload, scores: Tensor) -> list[Tensor]:
    return [
        F.interpolate(scores[i : i + 1], size, mode="bilinear").argmax(1)[0]
        for i, size in enumerate(own_sizes(w.case, len(scores)))
    ]


def project_windows(w: Workload, *scores: Tensor) -> Tensor:
    average = prediction.CoarseWindows(w.case.size)
    for window, of_window in zip(windows(w.case), scores, strict=True):
        average.add(of_window, window)
    return average.argmax()


def canvas_of_windows(w: Workload, *scores: Tensor) -> Tensor:
    """The averages of all classes."""
    shape = (*scores[0].shape[:2], *w.case.size)
    canvas = scores[0].new_zeros(shape)
    count = scores[0].new_zeros(w.case.size)
    for (top, left, height, width), of_window in zip(windows(w.case), scores, strict=True):
        place = (..., slice(top, top + height), slice(left, left + width))
        full = F.interpolate(of_window, (height, width), mode="bilinear")
        canvas[place] += full.softmax(1)
        count[place] += 1
    return canvas.div_(count)


def plain_windows(w: Workload, *scores: Tensor) -> Tensor:
    return canvas_of_windows(w, *scores).argmax(1)


def project_views(w: Workload, *scores: Tensor) -> Tensor:
    average = prediction.CoarseWindows(w.case.size)
    for (_, flip), of_view in zip(VIEWS, scores, strict=True):
        average.add(of_view, flip=flip)
    return average.argmax()


def canvas_of_views(w: Workload, *scores: Tensor) -> Tensor:
    """The averages of all classes."""
    canvas = scores[0].new_zeros((*scores[0].shape[:2], *w.case.size))
    for (_, flip), of_view in zip(VIEWS, scores, strict=True):
        turned = of_view.flip(3) if flip else of_view
        canvas += F.interpolate(turned, w.case.size, mode="bilinear").softmax(1)
    return canvas.div_(len(scores))


def plain_views(w: Workload, *scores: Tensor) -> Tensor:
    return canvas_of_views(w, *scores).argmax(1)

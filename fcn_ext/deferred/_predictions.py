"""Labels, winners' values and counts, straight from coarse scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcn_ext._label_rules import MOST_CLASSES
from fcn_ext.deferred._layout import CLASSES
from fcn_ext.deferred._memory import step_of
from fcn_ext.deferred._recipe import Logits
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits, handles
from fcn_ext.deferred._told import winners
from fcn_ext.ops import _common
from fcn_ext.prediction import _arguments
from fcn_ext.prediction._cropped import argmax_cropped

__all__ = ["coarse_of", "coarse_over", "scores_of", "scores_over"]

aten = torch.ops.aten
_ops = torch.ops.fcn_ext


def scores_over(tensor: Any, dim: int) -> tuple[Logits, Snapshot, Tensor] | None:
    """The same, if ``dim`` runs over their classes."""
    return None if coarse_over(tensor, dim) is None else scores_of(tensor)


def scores_of(tensor: Any) -> tuple[Logits, Snapshot, Tensor] | None:
    """Recipe of deferred logits, snapshot of their part of the map, and its scores, whichever
    dimension the classes are in. Not of a map that is smaller than its scores."""
    found = coarse_of(tensor)
    if found is None or not found[1].is_larger:
        return None
    recipe, snapshot = found
    part = snapshot.part(recipe.layout)
    return recipe, part, part.scores


def coarse_over(tensor: Any, dim: int) -> tuple[Logits, Snapshot] | None:
    """Recipe and snapshot of deferred logits, if ``dim`` runs over their classes."""
    if not isinstance(tensor, DeferredLogits) or not -tensor.dim() <= dim < tensor.dim():
        return None
    return coarse_of(tensor) if tensor.recipe.layout.class_dim == dim % tensor.dim() else None


def coarse_of(tensor: Any, *, with_parts: bool = False) -> tuple[Logits, Snapshot] | None:
    """Recipe and snapshot of deferred logits, which may be smaller than their scores;
    ``with_parts``, also of some classes of a softmax, which the scores of these do not say."""
    if not isinstance(tensor, DeferredLogits):
        return None
    recipe, snapshot = tensor.recipe, tensor.recipe.snapshot
    if snapshot is None or (recipe.is_part_of_softmax and not with_parts):
        return None
    return (recipe, snapshot) if snapshot.is_finite() else None


def _winners(
    tensor: Any, dim: int, *, with_value: bool
) -> tuple[Logits, Tensor, Tensor | None] | None:
    """Recipe, and the labels and values (N, H, W) of the maximum over the classes."""
    found = coarse_over(tensor, dim)
    if found is None or tensor.shape[dim] > MOST_CLASSES or found[0].kind == "sigmoid":
        return None  # near one, sigmoids of different scores are equal
    recipe, snapshot = found
    if not snapshot.affords(recipe.layout):
        return None
    if with_value and not snapshot.told.tell_winners(recipe.kind, recipe.layout):
        return None
    labels, value = winners(snapshot.part(recipe.layout), recipe.kind, with_value=with_value)
    return recipe, labels, None if value is None else value.to(recipe.twin.dtype)


@handles(aten.argmax.default)
def _argmax(func: Any, self: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    found = None if dim is None else _winners(self, dim, with_value=False)
    if dim is None or found is None:
        return NotImplemented
    recipe, labels, _ = found
    return recipe.layout.from_map(labels, _reduced(self, dim, keepdim))


@handles(aten.max.dim)
def _max(func: Any, self: Any, dim: int, keepdim: bool = False) -> Any:
    return _values_and_labels(self, dim, keepdim)


@handles(aten.topk.default)
def _topk(func: Any, self: Any, k: int, dim: int = -1, *args: Any, **kwargs: Any) -> Any:
    largest = args[0] if args else kwargs.get("largest", True)
    if k != 1 or not largest:
        return NotImplemented
    found = coarse_over(self, dim)
    if found is None or _has_ties(*found):
        return NotImplemented
    return _values_and_labels(self, dim, True)


def _has_ties(recipe: Logits, snapshot: Snapshot) -> bool:
    """Whether classes share the greatest logit of a pixel, of which ``topk`` names none in
    particular: then torch says which. On CUDA it is not asked, as that would wait."""
    classes = recipe.layout.sizes[CLASSES]
    if recipe.device.type != "cpu" or classes > MOST_CLASSES:
        return False
    if not snapshot.affords(recipe.layout):
        return True
    for _, tile in snapshot.part(recipe.layout).tiles():
        first, _ = winners(tile, "logits", with_value=False)
        flipped = tile.of_scores(tile.scores.flip(1))
        last, _ = winners(flipped, "logits", with_value=False)
        if not torch.equal(first, classes - 1 - last):
            return True
    return False


@handles(aten.amax.default)
def _amax(func: Any, self: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    found = _winners(self, dim[0], with_value=True) if len(dim) == 1 else None
    if found is None or found[2] is None:
        return NotImplemented
    return found[0].layout.from_map(found[2], _reduced(self, dim[0], keepdim))


def _values_and_labels(self: Any, dim: int, keepdim: bool) -> Any:
    found = _winners(self, dim, with_value=True)
    if found is None:
        return NotImplemented
    recipe, labels, value = found
    assert value is not None
    shape = _reduced(self, dim, keepdim)
    return recipe.layout.from_map(value, shape), recipe.layout.from_map(labels, shape)


def _reduced(tensor: Tensor, dim: int, keepdim: bool) -> list[int]:
    shape = list(tensor.shape)
    shape[dim] = 1
    if not keepdim:
        del shape[dim]
    return shape


@handles(aten._softmax.default, aten._log_softmax.default)
def _softmax(func: Any, self: Any, dim: int, half_to_float: bool) -> Any:
    found = coarse_over(self, dim)
    if found is None or found[0].kind != "logits":
        return NotImplemented
    recipe = found[0]
    dtype = torch.float32 if half_to_float else recipe.twin.dtype
    carried = recipe.step(
        step_of(func, (dim, half_to_float), {}),
        torch.empty(recipe.twin.shape, dtype=dtype, device="meta"),
        recipe.layout,
        kind="softmax" if func is aten._softmax.default else "log_softmax",
    )
    return NotImplemented if carried is None else DeferredLogits(carried)


def _map_for(prediction: Any, size: tuple[int, ...]) -> tuple[Tensor, Snapshot] | None:
    """Scores and snapshot of a deferred map (N, C, H, W), if (H, W) is ``size``."""
    found = scores_over(prediction, 1) if prediction.dim() == 4 else None
    if found is None or found[0].kind == "sigmoid":
        return None
    recipe, snapshot, scores = found
    return (scores, snapshot) if recipe.layout.is_map and snapshot.size == size else None


@handles(_ops.confusion_matrix_logits.default)
def _count(func: Any, prediction: Any, target: Tensor, ignore_index: int, *counts: Tensor) -> Any:
    labels = _labels_of_parts(prediction, target, counts[0])
    if labels is not None:
        return _ops.confusion_matrix_labels.default(labels, target, ignore_index, *counts)
    found = _map_for(prediction, tuple(target.shape[1:]))
    if found is None:
        return NotImplemented
    scores, snapshot = found
    if type(target) is not Tensor or target.shape[0] != scores.shape[0]:
        return NotImplemented
    return _ops.score_confusion_matrix.default(
        scores, target, snapshot.numbers, ignore_index, *counts
    )


def _labels_of_parts(prediction: Any, target: Any, counts: Tensor) -> Tensor | None:
    """The labels of a map that is resized twice, which the target must fit."""
    found = coarse_over(prediction, 1) if prediction.dim() == 4 else None
    if found is None or not found[1].in_tiles:
        return None
    classes = prediction.shape[1]
    if (
        not found[0].layout.is_map
        or type(target) is not Tensor
        or target.shape != (len(prediction), *prediction.shape[2:])
        or counts.shape != (classes, classes)
    ):
        return None
    winners = _winners(prediction, 1, with_value=False)
    return None if winners is None else winners[1]


@handles(_ops.score_confusion_matrix.default)
def _count_scores(
    func: Any, input: Any, target: Tensor, geometry: list[int], ignore_index: int, *counts: Tensor
) -> Any:
    if len(geometry) != 1:
        return NotImplemented
    found = _count(func, input, target, ignore_index, *counts)
    classes = input.shape[1]
    if (
        found is not NotImplemented
        or type(target) is not Tensor
        or target.dim() != 3
        or len(target) != len(input)
        or counts[0].shape != (classes, classes)
    ):
        return found
    size, dtype = (target.shape[1], target.shape[2]), torch.uint8 if classes <= 256 else torch.int16
    again = _resized_again(input, size, bool(geometry[0]), dtype, False)
    if again is NotImplemented:
        return NotImplemented
    return _ops.confusion_matrix_labels.default(again[0], target, ignore_index, *counts)


@handles(_ops.argmax.default)
def _head_argmax(
    func: Any,
    input: Any,
    height: int,
    width: int,
    geometry: list[int],
    dtype: torch.dtype,
    probability: bool,
) -> Any:
    if len(geometry) != 1:
        return NotImplemented
    found = _map_for(input, (height, width))
    if found is None:
        return _resized_again(input, (height, width), bool(geometry[0]), dtype, probability)
    if probability and input.recipe.kind == "softmax":
        return NotImplemented
    scores, snapshot = found
    winners, value = func(scores, height, width, snapshot.numbers, dtype, probability)
    return winners, value.to(_common.accumulate_dtype(input))


def _resized_again(
    input: Any, size: tuple[int, int], align_corners: bool, dtype: torch.dtype, probability: bool
) -> Any:
    """The labels at another size than the logits have, some rows at a time."""
    found = _map_for(input, tuple(input.shape[2:])) if input.dim() == 4 else None
    if found is None or input.recipe.kind != "logits":
        return NotImplemented
    scores, snapshot = found
    if scores.shape[1] > MOST_CLASSES:
        return NotImplemented
    winners: Any = argmax_cropped(  # type: ignore[call-overload]
        scores,
        snapshot.size,
        (0, 0, *snapshot.size),
        size,
        snapshot.geometry,
        align_corners=align_corners,
        dtype=dtype,
        return_probability=probability,
    )
    if probability:
        return winners
    return winners, scores.new_empty(0, dtype=_common.accumulate_dtype(input))


def _as_coarse(scores: Any, size: tuple[int, int], geometry: Any) -> Any:
    """Scores, size and geometry for the functions of fcn_ext.prediction."""
    # A resize to their own size leaves logits as they are, but not if it crops.
    found = _map_for(scores, size) if isinstance(scores, DeferredLogits) else None
    if found is None or scores.recipe.kind != "logits" or len(geometry.numbers) != 1:
        return NotImplemented
    coarse, snapshot = found
    return coarse, size, snapshot.geometry


FUNCTIONS[_arguments.as_coarse] = _as_coarse

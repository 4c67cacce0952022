"""The divergence of a student's deferred logits from a teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.deferred._losses import is_finite
from fcn_ext.deferred._one_node import OneNode, may_be_one_node
from fcn_ext.deferred._predictions import scores_of
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._tensor import FUNCTIONS, DeferredLogits, ordinary
from fcn_ext.geometry import Geometry
from fcn_ext.losses import _distillation
from fcn_ext.ops import _common


@dataclass(frozen=True)
class _Divergence:
    """The form of :func:`fcn_ext.losses._distillation.divergence`."""

    ignore_index: int | None
    temperature: float
    contiguous_gradient = False

    def plain(self, logits: Tensor, teacher: Any, labels: Any, *rest: Any) -> Tensor:
        dtype = _common.accumulate_dtype(logits)
        ours, theirs = (
            (scores.to(dtype) / self.temperature).log_softmax(1)
            for scores in (logits, ordinary(teacher))
        )
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        if self.ignore_index is not None:
            each = torch.where(labels.to(torch.int64) != self.ignore_index, each, 0)
        return self.temperature**2 * each.sum()

    def coarse(
        self, logits: Any, grad: Tensor, teacher: Any, labels: Any, gradient: Any = None
    ) -> Tensor | None:
        if scores_of(logits) is None or not is_finite(grad):
            return None
        result: Tensor = gradient * grad.to(gradient.dtype)
        return result


def _own(
    student: Any,
    teacher: Any,
    labels: Tensor,
    geometry: Geometry,
    ignore_index: int | None,
    temperature: float,
) -> Any:
    """The divergence of deferred logits that already have the size of the labels."""
    if type(labels) is not Tensor or len(geometry.numbers) != 1:
        return NotImplemented
    size = tuple(labels.shape[1:])
    ours, theirs = _scores(student, size), _scores(teacher, size)
    if ours is None or theirs is None:
        return NotImplemented
    (scores, snapshot), (reference, other) = ours, theirs
    if reference.shape != scores.shape or other.geometry != snapshot.geometry:
        return NotImplemented
    differentiated, possible = may_be_one_node(student)
    if not possible:
        return NotImplemented
    arguments = (reference, labels, snapshot.geometry, ignore_index, temperature)
    if not differentiated:
        with torch.no_grad():
            return _distillation.divergence(scores, *arguments)
    with torch.enable_grad():
        leaf = scores.detach().to(_common.accumulate_dtype(scores)).requires_grad_()
        loss = _distillation.divergence(leaf, *arguments)
        (gradient,) = torch.autograd.grad(loss, leaf)
    form = _Divergence(ignore_index, temperature)
    frozen = teacher.detach().clone()  # still deferred, and safe from changes of the teacher's
    return OneNode.apply(student, form, [frozen, labels, gradient], [loss.detach()])


def _scores(logits: Any, size: tuple[int, ...]) -> tuple[Tensor, Snapshot] | None:
    """Scores and snapshot of a deferred map of that size."""
    if not isinstance(logits, DeferredLogits):
        return None
    recipe = logits.recipe
    if recipe.kind != "logits" or not recipe.layout.is_map:
        return None
    found = scores_of(logits)
    return None if found is None or found[1].size != size else (found[2], found[1])


FUNCTIONS[_distillation.divergence] = _own

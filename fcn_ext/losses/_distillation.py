"""distillation_loss: how far a student's softmax is from a teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import handle_torch_function, has_torch_function

from fcn_ext import _rules, ops
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses import _pixels
from fcn_ext.ops import _common, _observers
from fcn_ext.ops._cross_entropy import _cross_entropy as fused_cross_entropy

# Within these bounds its square, and scores divided by it, fit in float32.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-15, 1e15
# Up to this one its square times float32's rounding is less than 2e-5.
_MOST_IN_FLOAT32 = 16.0
_REDUCTIONS = ("sum", "mean", "batchmean")


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    size: int | Sequence[int] | None = None,
    geometry: Geometry = Resize(),
    *,
    temperature: float = 1.0,
    target: Tensor | None = None,
    ignore_index: int = 255,
    reduction: str = "mean",
) -> Tensor:
    """``T ** 2`` times the divergence KL(teacher || student) of the softmaxes of scores over ``T``
    at full size, straight from the coarse scores of both.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", section 2. Replaces::

        s, t = (F.interpolate(x, size, mode="bilinear") / T for x in (student, teacher))
        loss = T**2 * F.kl_div(s.log_softmax(1), t.softmax(1), reduction="sum") / pixels

    For any labels, the divergence is the amount by which the student's cross-entropy exceeds what
    the teacher's and its gradient predict, ``CE(s) - CE(t) - <dCE(t)/dt, s - t>``: two calls of
    :func:`fcn_ext.ops.cross_entropy`, in memory of the size of the scores. Its rounding errors are
    ``T ** 2`` times those of the cross-entropies, of the labels of ``target`` or, without one, of
    the class that the teacher finds likeliest in each image. Above a temperature of 16, and on the
    CPU where float32 does not suffice for the sums, all are taken in float64.

        >>> import torch
        >>> teacher = torch.zeros(1, 2, 8, 8)
        >>> teacher[:, 0] = 1.0986123                              # 3 to 1
        >>> loss = distillation_loss(torch.zeros(1, 2, 8, 8), teacher, (64, 64))
        >>> round(loss.item(), 4)                                  # ln 2 + .75 ln .75 + .25 ln .25
        0.1308

    Args:
        student: coarse scores (N, C, h, w), float32, float64, float16 or bfloat16, finite.
        teacher: scores of the same shape, without gradient.
        size: rows and columns that both are taken to, one number or (height, width). May be left
            out with a ``target``, and with a ``Deconvolution`` or a ``Resize`` that has an
            ``uncropped_size``, where it is by default all that is left below and right of the
            offset.
        geometry: how both reach that size.
        temperature: what the scores are divided by, from 1e-15 to 1e15.
        target: labels (N, H, W); pixels whose label is void do not count.
        ignore_index: the value of void labels.
        reduction: "sum"; "mean", over the pixels that count, zero if there are none; or
            "batchmean", over images, as ``F.kl_div`` has it.

    Returns:
        () float32, or float64 for float64 scores. Differentiable once with respect to ``student``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """
    _common.is_map(student, "student")
    _common.is_map(teacher, "teacher")
    _common.on_same_device(student, "student", teacher, "teacher")
    _common.is_geometry(geometry)
    if teacher.shape != student.shape:
        raise ValueError(
            "student and teacher must have the same shape, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    for scores, name in ((student, "student"), (teacher, "teacher")):
        _rules.check_map(scores, name)
    _common.one_of(reduction, _REDUCTIONS, "reduction")
    temperature = _common.positive(temperature, "temperature")
    if not LEAST_TEMPERATURE <= temperature <= MOST_TEMPERATURE:
        raise ValueError(
            f"temperature must be from {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}, got "
            f"{_common.number_text(temperature)}"
        )
    labels = _labels(student, size, geometry, target)
    void = None if target is None else _common.integer(ignore_index, "ignore_index")

    total = divergence(student, teacher, labels, geometry, void, temperature)
    if reduction == "sum":
        return total
    if reduction == "batchmean":
        return total / max(1, student.shape[0])
    if void is None:
        return total / max(1, labels.numel())
    return _pixels.over(total, _pixels.not_void(labels, void).sum())


def divergence(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    geometry: Geometry,
    ignore_index: int | None,
    temperature: float,
) -> Tensor:
    """The divergence, summed over the pixels of ``labels`` (N, H, W) that are not void. None as
    ``ignore_index``: over all pixels, whatever their label."""
    arguments = (student, teacher, labels, geometry, ignore_index, temperature)
    if not is_dynamo_compiling() and has_torch_function((student, teacher)):
        found: Tensor = handle_torch_function(divergence, (student, teacher), *arguments)
        return found
    void = -1 if ignore_index is None else ignore_index
    if ignore_index is None and teacher.shape[1] > 0:
        labels = _likely_class(teacher).expand_as(labels)

    def total_in(dtype: torch.dtype) -> Tensor:
        cooled = student.to(dtype) / temperature
        reference = teacher.detach().to(dtype) / temperature
        with torch.no_grad():
            of_teacher, _, slope = fused_cross_entropy(
                reference, labels, geometry.numbers, None, void, 0.0, False, True
            )
        of_student = ops.cross_entropy(cooled, labels, geometry, ignore_index=void, reduction="sum")
        predicted = of_teacher + _pixels.total_of(slope * (cooled - reference))
        return temperature**2 * (of_student - predicted)  # type: ignore[no-any-return]

    own_dtype = _common.accumulate_dtype(student)
    dtype = torch.float64 if temperature > _MOST_IN_FLOAT32 else own_dtype
    total = total_in(dtype)
    if dtype != torch.float64 and _is_beyond(total):
        total = total_in(torch.float64)
    return total.to(own_dtype)


def _likely_class(teacher: Tensor) -> Tensor:
    """The class of each image (N, 1, 1) for which the teacher's cross-entropy is least: one that
    is masked by a score such as -1e9 would leave no digits of the difference."""
    return teacher.detach().mean((2, 3), keepdim=True).argmax(1)


def _is_beyond(total: Tensor) -> bool:
    """Whether a sum was too large for float32. Known on the CPU only, as elsewhere this would wait
    for the device."""
    return total.is_cpu and _observers.has_values(total) and not math.isfinite(total.item())


def _labels(student: Tensor, size: Any, geometry: Geometry, target: Tensor | None) -> Tensor:
    """The labels of ``target``; without one, some class for all pixels, which takes no memory."""
    if size is not None:
        size = _common.pair(size, "size")
    if target is not None:
        _common.is_tensor(target, "target")
        if target.dim() == 3 and size is not None and size != tuple(target.shape[1:]):
            raise ValueError(f"target must be of size {size}, got {tuple(target.shape)}")
        return _common.is_label_map(target, "target")
    if size is None:
        size = _common.size_of(geometry, student, "size or target")
    height, width = size
    _rules.check_forward(student, geometry.numbers, height, width, "size")
    none = torch.zeros((), dtype=torch.uint8, device=student.device)
    return none.expand(student.shape[0], height, width)

"""The tensors of a row, the bytes that it must move, and the float64 truth about its result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import Case, FuseCase, LabelCase, MapCase, Row
from benchmarks.labels import random_labels, region_labels
from benchmarks.scores import trained_scores
from benchmarks.views import VIEWS, own_sizes, score_size, windows
from fcn_ext.reference import bilinear_kernel

# function(workload, *maps) -> a tensor or an array
Function = Callable[..., Any]

# Of more planes than this, only some are compared with the float64 reference: they are independent.
CHECKED_PLANES = 64


@dataclass(eq=False)
class Workload:
    """Inputs of one row. ``grad`` is the gradient that a backward row starts from."""

    row: Row
    maps: tuple[Tensor, ...]
    grad: Tensor | None
    minimal_bytes: int

    @property
    def case(self) -> Any:
        return self.row.case

    @cached_property
    def weight(self) -> Tensor:
        """The frozen weight (C, 1, k, k) of the row's deconvolution."""
        stride = self.case.stride if isinstance(self.case, MapCase) else 2
        taps = bilinear_kernel(2 * stride)
        kernel = torch.outer(taps, taps).to(self.maps[0])
        return kernel.expand(self.maps[0].shape[1], 1, -1, -1).contiguous()

    @cached_property
    def float_masks(self) -> Tensor:
        """The masks of a sigmoid loss as torch's own loss wants them."""
        return self.maps[1].float()

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the skip map that a fusion reads."""
        start, (height, width) = self.case.offset, self.case.size
        return slice(start, start + height), slice(start, start + width)

    def prepare(self, function: Function) -> Callable[[], Any]:
        """What is timed: the forward pass; the backward pass through an existing graph; or a loss
        and its gradient with respect to the scores, as (loss, gradient), followed by what comes
        with the loss."""
        if self.row.loss:
            scores = self.maps[0].detach().requires_grad_()

            def both() -> tuple[Tensor, ...]:
                result = function(self, scores, *self.maps[1:])
                loss, *beside = result if isinstance(result, tuple) else (result,)
                (gradient,) = torch.autograd.grad(loss, scores)
                return loss.detach(), gradient, *beside

            return both
        if not self.row.backward:

            def forward() -> Any:
                with torch.no_grad():
                    return function(self, *self.maps)

            return forward
        leaves = [map.detach().requires_grad_() for map in self.maps]
        output = function(self, *leaves)
        return lambda: torch.autograd.grad(output, leaves, self.grad, retain_graph=True)

    def checked(self, result: Any) -> tuple[Tensor, ...]:
        """The planes of a result that are compared, each tensor as (planes, 1, height, width)."""
        tensors = result if isinstance(result, tuple) else (result,)
        return tuple(_planes(tensor) for tensor in tensors)

    def truth(self, function: Function) -> tuple[Tensor, ...]:
        """``function`` in float64 on the planes that are compared."""
        folded = Workload(
            self.row,
            tuple(_planes(map).double() for map in self.maps),
            None if self.grad is None else _planes(self.grad).double(),
            0,
        )
        return folded.checked(folded.prepare(function)())


def _planes(map: Tensor) -> Tensor:
    n, channels = map.shape[:2]
    count = min(channels, max(2, CHECKED_PLANES // n))
    chosen = torch.linspace(0, channels - 1, count).long().to(map.device)
    return map[:, chosen].reshape(-1, 1, *map.shape[2:]).contiguous()


def build(row: Row, device: torch.device) -> Workload:
    """The workload of a row on a device: random scores, or label maps; the same every time."""
    torch.manual_seed(0)
    batch = row.case.cuda_batch if device.type == "cuda" else row.case.batch
    if isinstance(row.case, LabelCase):
        return _labels(row, row.case, batch, device)
    if row.head or row.prediction:
        assert isinstance(row.case, MapCase)
        return (_head if row.head else _prediction)(row, row.case, batch, device)
    return _maps(row, row.case, batch, device)


def _maps(row: Row, case: MapCase | FuseCase, batch: int, device: torch.device) -> Workload:
    dtype = getattr(torch, row.variant.dtype)
    layout = torch.contiguous_format
    if row.variant.layout == "channels_last":
        layout = torch.channels_last

    def scores(size: tuple[int, int]) -> Tensor:
        map = torch.randn((batch, case.channels, *size), device=device, dtype=dtype)
        return map.contiguous(memory_format=layout)

    sizes = [case.input_size] if isinstance(case, MapCase) else [case.coarse, case.skip]
    maps = tuple(scores(size) for size in sizes)
    # What is read and written once: a forward fusion needs only the window of the skip map, while
    # the gradient of that map is written in full.
    touched = [sizes[0], case.size]
    if isinstance(case, FuseCase):
        touched.append(case.skip if row.backward else case.size)
    pixels = sum(math.prod(size) for size in touched)
    return Workload(
        row,
        maps,
        scores(case.size) if row.backward else None,
        batch * case.channels * pixels * maps[0].element_size(),
    )


def _head(row: Row, case: MapCase, batch: int, device: torch.device) -> Workload:
    """Coarse scores; for losses and counts also int64 targets of regions."""
    shape = (batch, case.channels, *case.input_size)
    trained = row.variant.scores == "trained"
    scores = trained_scores(*shape) if trained else 2 * torch.randn(shape)
    layout = torch.contiguous_format
    if row.variant.layout == "channels_last":
        layout = torch.channels_last
    dtype = getattr(torch, row.variant.dtype)
    scores = scores.to(device, dtype).contiguous(memory_format=layout)
    if row.operator.endswith("_argmax"):
        label_bytes = 1 if case.channels <= 256 else 2
        return Workload(
            row, (scores,), None, scores.nbytes + label_bytes * batch * math.prod(case.size)
        )
    drawn = min(batch, case.batch)
    _, regions = region_labels(drawn, case.channels, *case.size, case.ignore_index)
    target = torch.from_numpy(np.resize(regions, (batch, *case.size))).to(device)
    if row.operator.endswith("sigmoid_cross_entropy"):
        classes = torch.arange(case.channels, device=device).reshape(-1, 1, 1)
        target = (target.unsqueeze(1) == classes).to(torch.uint8)
    # A gradient is written, too.
    minimal_bytes = (2 if row.loss else 1) * scores.nbytes + target.nbytes
    return Workload(row, (scores, target), None, minimal_bytes)


def _prediction(row: Row, case: MapCase, batch: int, device: torch.device) -> Workload:
    """Coarse scores of the images, or of each window or view of them."""
    sizes = [case.input_size]
    if row.operator == "predict_windows":
        sizes = [score_size(window[2:], case.stride) for window in windows(case)]
    elif row.operator == "predict_views":
        sizes = [score_size(case.size, case.stride, scale) for scale, _ in VIEWS]
    maps = []
    for number, size in enumerate(sizes):
        shape = (batch, case.channels, *size)
        # No two windows are alike.
        scores = trained_scores(*shape).roll(3 * number, 3) if row.variant.scores else None
        maps.append((2 * torch.randn(shape) if scores is None else scores).to(device))
    pixels = batch * math.prod(case.size)
    if row.operator == "predict_sizes":
        pixels = sum(math.prod(size) for size in own_sizes(case, batch))
    elif row.operator == "predict_masks":
        pixels *= case.channels
    return Workload(row, tuple(maps), None, sum(map.nbytes for map in maps) + pixels)


def _labels(row: Row, case: LabelCase, batch: int, device: torch.device) -> Workload:
    draw = region_labels if row.variant.labels == "regions" else random_labels
    # A GPU's batch repeats images: drawing them takes longer than counting them.
    drawn = min(batch, case.batch)
    prediction, target = (
        torch.from_numpy(np.resize(labels, (batch, *labels.shape[1:])))
        for labels in draw(drawn, case.num_classes, case.height, case.width, case.ignore_index)
    )
    if row.operator == "confusion_matrix_logits":
        dtype = getattr(torch, row.variant.dtype)
        shape = (batch, case.num_classes, case.height, case.width)
        scores = torch.randn(shape, device=device, dtype=dtype)
        scores.scatter_(1, prediction[:, None].to(device), 6.0)
        maps = (scores, target.to(device))
    else:
        dtype = label_dtype(row.variant.dtype, case)
        maps = (prediction.to(device, dtype), target.to(device, dtype))
    return Workload(row, maps, None, sum(map.nbytes for map in maps))


def label_dtype(name: str, case: Case) -> torch.dtype:
    if name == "small":
        assert isinstance(case, LabelCase)
        name = "uint8" if case.num_classes <= 255 and case.ignore_index >= 0 else "int16"
    dtype: torch.dtype = getattr(torch, name)
    return dtype

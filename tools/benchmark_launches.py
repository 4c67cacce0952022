"""The kernels that a row of the benchmarks launches on a GPU. The emulated library makes the
launches and passes them on instead of running them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import FuseCase, LabelCase, MapCase, Row
from benchmarks.workloads import build
from tests.cuda_emulation.cross_entropy_cases import Case
from tests.cuda_emulation.library import RELEASE, EmulatedLaunch, Emulation
from tests.cuda_emulation.library import build as build_library
from tests.cuda_emulation.maps import Map
from tests.cuda_emulation.region_sums_cases import Case as RegionCase

Take = Callable[[EmulatedLaunch], None]


@dataclass(frozen=True)
class Size:
    """The size of a row's work."""

    pixel_classes: int
    minimal_bytes: int


def emulation() -> Emulation:
    folders = {"emulator": RELEASE, "entry_points": RELEASE}
    return Emulation(build_library("emulation.so", folders, ["-shared"]))


def _map_of(row: Row, case: MapCase) -> Map:
    if row.operator.startswith("upsample"):
        return Map(case.input_size, case.size, case.stride, 2 * case.stride, case.offset)
    return Map(case.input_size, case.size)


class _Launcher:
    def __init__(self, library: Emulation, row: Row, take: Take) -> None:
        self.library = library
        self.row = row
        self.take = take

    def call(self, name: str, *arguments: Any) -> None:
        self.library.take_launches(self.take)
        try:
            self.library.call(name, *arguments)
        finally:
            self.library.take_launches(None)

    def run(self) -> Size:
        row = self.row
        case = row.case
        pixels = math.prod((case.height, case.width) if isinstance(case, LabelCase) else case.size)
        channels = case.num_classes if isinstance(case, LabelCase) else case.channels
        heads = {
            "cross_entropy": self._loss,
            "accuracy_cross_entropy": lambda: self._loss(with_hits=True),
            "dice": lambda: self._regions(with_loss=False),
            "dice_cross_entropy": lambda: self._regions(with_loss=True),
            "sigmoid_cross_entropy": self._masks,
            "argmax": self._argmax,
            "confusion_matrix": self._counts,
        }
        if row.operator.startswith("confusion_matrix"):
            minimal = self._count_labels()
        elif row.head:
            minimal = heads[row.operator.split("_", 1)[1]]()
        else:
            minimal = self._resample()
        return Size(case.cuda_batch * channels * pixels, minimal)

    def _workload(self) -> Any:
        """A GPU's batch, on the host."""
        case = self.row.case
        batch = replace(case, batch=case.cuda_batch)
        if isinstance(case, MapCase) and self.row.head:
            # Images repeat, as they do on a GPU.
            workload = build(replace(self.row, case=replace(case, cuda_batch=case.batch)), CPU)
            times = case.cuda_batch // case.batch
            workload.maps = tuple(_repeated(map, times) for map in workload.maps)
            workload.minimal_bytes *= times
            return workload
        return build(replace(self.row, case=batch), CPU)

    def _loss(self, *, with_hits: bool = False) -> int:
        workload = self._workload()
        scores, target = workload.maps
        gradient = torch.empty_like(scores, dtype=torch.float32)
        case = Case(_map_of(self.row, self.row.case), ignore_index=self.row.case.ignore_index)
        total, loss = torch.zeros(()), torch.zeros(())
        problem = case.problem(scores, target, gradient)
        self.call("cross_entropy", problem, 0.0, 1, scores, target, None, loss, total, gradient)
        if with_hits:
            geometry = case.map.geometry(*scores.shape[:2])
            targets = (target, target.dtype, *target.stride(), self.row.case.ignore_index)
            hits = torch.empty(2, dtype=torch.int64)
            self.call(
                "argmax_hits", scores.dtype, geometry, scores, scores.stride(), *targets, hits
            )
        return int(workload.minimal_bytes)

    def _regions(self, *, with_loss: bool) -> int:
        """Region sums, and the gradient of anything made of them."""
        workload = self._workload()
        scores, target = workload.maps
        gradient = torch.empty_like(scores, dtype=torch.float32)
        case = RegionCase(_map_of(self.row, self.row.case), losses=with_loss)
        images, classes = scores.shape[:2]
        problem = case.problem(scores, target, gradient)
        sums = torch.empty((3, images, classes), dtype=torch.float64)
        losses = torch.empty((2, images), dtype=torch.float64) if with_loss else None
        self.call("region_sums", problem, scores, target, None, sums, losses)
        grad_losses = torch.ones((2, images)) if with_loss else None
        of_sums = (torch.ones((3, images, classes)), grad_losses)
        self.call("region_sums_backward", problem, *of_sums, scores, target, None, gradient)
        return int(workload.minimal_bytes)

    def _masks(self) -> int:
        """A loss, its sums and its gradient in one call."""
        workload = self._workload()
        scores, target = workload.maps
        images, masks = scores.shape[:2]
        gradient = torch.empty_like(scores, dtype=torch.float32)
        sums, loss = torch.empty((images, masks, 8)), torch.empty((images, masks))
        weight = torch.ones((masks, 8))
        self.call(
            "sigmoid_sums_backward",
            *(scores.dtype, _map_of(self.row, self.row.case).geometry(images, masks)),
            *(weight, masks, scores, scores.stride()),
            *(target, target.dtype, target.stride(), self.row.case.ignore_index, None, 0),
            *(gradient, gradient.stride(), sums),
        )
        weighing = (scores.dtype, sums, weight, masks, images * masks, 0, loss)
        self.call("weigh_sums", *weighing)
        return int(workload.minimal_bytes)

    def _argmax(self) -> int:
        workload = self._workload()
        (scores,) = workload.maps
        n, channels = scores.shape[:2]
        dtype = torch.uint8 if channels <= 256 else torch.int16
        labels = torch.empty((n, *self.row.case.size), dtype=dtype)
        geometry = _map_of(self.row, self.row.case).geometry(n, channels)
        self.call(
            "argmax_labels", scores.dtype, geometry, scores, scores.stride(), labels, dtype, None
        )
        return int(workload.minimal_bytes)

    def _counts(self) -> int:
        workload = self._workload()
        scores, target = workload.maps
        n, channels = scores.shape[:2]
        matrix, invalid = (
            torch.zeros((channels, channels), dtype=torch.int64),
            torch.zeros((), dtype=torch.int64),
        )
        geometry = _map_of(self.row, self.row.case).geometry(n, channels)
        targets = (target, target.dtype, *target.stride(), self.row.case.ignore_index)
        self.call(
            "argmax_confusion",
            scores.dtype,
            geometry,
            scores,
            scores.stride(),
            *targets,
            matrix,
            invalid,
        )
        return int(workload.minimal_bytes)

    def _count_labels(self) -> int:
        workload = self._workload()
        prediction, target = workload.maps
        classes = self.row.case.num_classes
        matrix, invalid = (
            torch.zeros((classes, classes), dtype=torch.int64),
            torch.zeros((), dtype=torch.int64),
        )
        targets = (target, target.dtype, *target.stride(), *target.shape)
        results = (self.row.case.ignore_index, matrix, invalid)
        if prediction.dim() == 4:
            self.call(
                "confusion_matrix_logits", prediction, prediction.dtype, classes,
                *prediction.stride(), *targets, *results,
            )  # fmt: skip
        else:
            self.call(
                "confusion_matrix_labels", prediction, prediction.dtype, *prediction.stride(),
                *targets, classes, *results,
            )  # fmt: skip
        return int(workload.minimal_bytes)

    def _resample(self) -> int:
        """Values do not matter here: maps are empty, and only samples touch their memory."""
        row, case = self.row, self.row.case
        dtype = getattr(torch, row.variant.dtype)
        last = row.variant.layout == "channels_last"
        layout = torch.channels_last if last else torch.contiguous_format

        def empty(size: tuple[int, int]) -> Tensor:
            shape = (case.cuda_batch, case.channels, *size)
            return torch.empty(shape, dtype=dtype, memory_format=layout)

        if isinstance(case, FuseCase):
            (h, w), size = case.coarse, case.size
            map, coarse, full = Map((h, w), size, 2, 4), empty(case.coarse), empty(size)
            start = case.offset
            skip = empty(case.skip)[:, :, start : start + size[0], start : start + size[1]]
            pieces = [coarse, full] if row.backward else [coarse, full, full]
        else:
            map, coarse, full = _map_of(row, case), empty(case.input_size), empty(case.size)
            skip, pieces = None, [coarse, full]
        geometry = map.geometry(case.cuda_batch, case.channels)
        if row.backward:
            self.call("bilinear_backward", dtype, geometry, full, full.stride(), coarse, int(last))
        else:
            of_skip = coarse.stride() if skip is None else skip.stride()
            self.call(
                "bilinear_forward",
                dtype,
                geometry,
                coarse,
                coarse.stride(),
                skip,
                of_skip,
                full,
                int(last),
            )
        return sum(piece.nbytes for piece in pieces)


def _repeated(map: Tensor, times: int) -> Tensor:
    """Repeats a batch `times` times, in its layout."""
    repeated = map.repeat(times, *[1] * (map.dim() - 1))
    if map.dim() == 4 and map.is_contiguous(memory_format=torch.channels_last):
        return repeated.contiguous(memory_format=torch.channels_last)
    return repeated


CPU = torch.device("cpu")


def launch_row(library: Emulation, row: Row, take: Take) -> Size:
    """Passes the row's launches to `take`, one after another, while all they point at is alive."""
    return _Launcher(library, row, take).run()

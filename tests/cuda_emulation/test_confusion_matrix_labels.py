"""The confusion matrix's CUDA kernels on labels, emulated, against the plain reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from .confusion_matrix_cases import check, random_labels
from .operands import LABELS, labels_among, laid_out

if TYPE_CHECKING:
    from .library import Emulation


@pytest.mark.parametrize("target_type", LABELS, ids=str)
@pytest.mark.parametrize("prediction_type", LABELS, ids=str)
def test_label_types(
    emulation: Emulation, prediction_type: torch.dtype, target_type: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    emulation.set_device(multiprocessors=1)
    shape = (2, 33, 41)
    prediction = random_labels(generator, shape, 23, prediction_type, 12)
    target = random_labels(generator, shape, 23, target_type, 12)
    target[torch.rand(shape, generator=generator) < 0.05] = 255
    prediction[torch.rand(shape, generator=generator) < 0.02] = 255
    check(emulation, prediction, target, 21)


@pytest.mark.parametrize("run", [1, 7, 100, 100_000])
@pytest.mark.parametrize("num_classes", [1, 2, 21, 150, 847])
def test_classes_and_run_lengths(emulation: Emulation, num_classes: int, run: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    emulation.set_device(multiprocessors=2)
    shape = (1, 61, 67)
    target = random_labels(generator, shape, num_classes, torch.int16, run)
    prediction = random_labels(generator, shape, num_classes, torch.int32, run)
    target[torch.rand(shape, generator=generator) < 0.5 / run] = 255
    check(emulation, prediction, target, num_classes)


def test_large_histogram_in_shared_memory(emulation: Emulation) -> None:
    generator = torch.Generator().manual_seed(2)
    emulation.set_device(multiprocessors=1)
    target = random_labels(generator, (1, 151, 151), 150, torch.uint8, 9)
    prediction = random_labels(generator, (1, 151, 151), 151, torch.uint8, 9)
    check(emulation, prediction, target, 150)
    emulation.set_device(multiprocessors=1, shared_bytes_per_block=90_003)  # one byte too little
    check(emulation, prediction, target, 150)


@pytest.mark.parametrize("seed", range(4))
def test_order_of_threads_does_not_matter(emulation: Emulation, seed: int) -> None:
    generator = torch.Generator().manual_seed(3)
    emulation.set_device(multiprocessors=1)
    emulation.set_seed(seed)
    target = random_labels(generator, (1, 50, 60), 5, torch.uint8, 20)
    prediction = random_labels(generator, (1, 50, 60), 5, torch.uint8, 20)
    check(emulation, prediction, target, 5)


def test_all_pixels_alike_make_one_addition_a_warp(emulation: Emulation) -> None:
    emulation.set_device(multiprocessors=1, shared_bytes_per_block=0)  # directly to the matrix
    labels = torch.full((1, 16, 128), 3, dtype=torch.uint8)
    emulation.take_traffic()
    check(emulation, labels, labels, 4)
    traffic = emulation.take_traffic()
    assert traffic["vector_loads"] == 2 * labels.numel() // 16
    assert traffic["stored"] == labels.numel() // 512 * 8


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("ignore_index", [255, 0, 3, -1, -2, 32768, 2**31 - 1, -(2**31), 2**40])
def test_ignored_and_invalid_values(
    emulation: Emulation, dtype: torch.dtype, ignore_index: int
) -> None:
    generator = torch.Generator().manual_seed(4)
    emulation.set_device(multiprocessors=1)
    values = [0, 1, 2, 3, 4, 5, 254, 255, -1, -2, torch.iinfo(dtype).min + 1, ignore_index]
    values += [32767, 32768, 65535, 2**31 - 1, 2**31, -(2**31), 2**32 + 1, 2**40]
    target, prediction = (labels_among(generator, (1, 31, 33), values, dtype) for _ in range(2))
    check(emulation, prediction, target, 5, ignore_index)


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 31, 511, 512, 513, 1040])
def test_widths(emulation: Emulation, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    emulation.set_device(multiprocessors=1)
    target = random_labels(generator, (1, 1, width), 3, torch.uint8, 10)
    prediction = random_labels(generator, (1, 1, width), 3, torch.int64, 10)
    check(emulation, prediction, target, 3)


@pytest.mark.parametrize("types", [(0, 0), (0, 3), (3, 0), (1, 2)], ids=str)
@pytest.mark.parametrize("start", [(0, 1), (1, 0), (3, 3), (5, 14), (8, 16)], ids=str)
def test_unaligned_starts(
    emulation: Emulation, types: tuple[int, int], start: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(5)
    emulation.set_device(multiprocessors=1)
    prediction, target = (
        random_labels(generator, (1100,), 4, LABELS[index], 30)[first : first + 1024]
        for index, first in zip(types, start, strict=True)
    )
    check(emulation, prediction.view(2, 4, 128), target.view(2, 4, 128), 4)


LAYOUTS = ["contiguous", "window", "transposed", "every other column", "batch last"]


@pytest.mark.parametrize("target_layout", LAYOUTS)
@pytest.mark.parametrize("prediction_layout", LAYOUTS)
def test_strides(emulation: Emulation, prediction_layout: str, target_layout: str) -> None:
    generator = torch.Generator().manual_seed(6)
    emulation.set_device(multiprocessors=1)
    target = random_labels(generator, (3, 9, 37), 6, torch.uint8, 9)
    prediction = random_labels(generator, (3, 9, 37), 6, torch.int32, 9)
    check(emulation, laid_out(prediction, prediction_layout), laid_out(target, target_layout), 6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 1), (5, 1, 1), (5, 1, 3), (5, 7, 1)], ids=str)
def test_axes_of_one_pixel(emulation: Emulation, shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(7)
    n, h, w = shape
    target = random_labels(generator, (n, h + 1, w + 1), 3, torch.uint8, 3)[:, 1:, 1:]
    prediction = random_labels(generator, shape, 3, torch.uint8, 3)
    check(emulation, prediction, target, 3)


def test_broadcast_target(emulation: Emulation) -> None:
    generator = torch.Generator().manual_seed(8)
    prediction = random_labels(generator, (2, 20, 30), 4, torch.uint8, 3)
    target = random_labels(generator, (1, 1, 30), 4, torch.uint8, 3).expand(2, 20, 30)
    check(emulation, prediction, target, 4)


def test_rows_that_overlap(emulation: Emulation) -> None:
    """Every other label, in rows 20 elements apart, so that they cannot be joined into one."""
    generator = torch.Generator().manual_seed(12)
    prediction, target = (
        random_labels(generator, (200,), 4, torch.uint8, 3).as_strided((1, 6, 20), (0, 20, 2))
        for _ in range(2)
    )
    check(emulation, prediction, target, 4)

"""The confusion matrix's CUDA kernels, emulated, against the plain reference."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from fcn_ext import reference

if TYPE_CHECKING:
    from .conftest import Emulation

LABELS = [torch.uint8, torch.int16, torch.int32, torch.int64]
SCORES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def random_labels(
    generator: torch.Generator, shape: tuple[int, ...], high: int, dtype: torch.dtype, run: int
) -> torch.Tensor:
    """Labels in [0, high), in runs of about ``run`` pixels."""
    pixels = torch.Size(shape).numel()
    starts = torch.rand(pixels, generator=generator) * run < 1
    values = torch.randint(0, high, (pixels,), generator=generator)
    return values[starts.cumsum(0).clamp(max=pixels - 1)].to(dtype).reshape(shape)


def count(
    emulation: Emulation,
    prediction: torch.Tensor,
    target: torch.Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> tuple[torch.Tensor, int]:
    """The matrix and the number of invalid pixels, each added to what was there."""
    matrix = torch.full((num_classes, num_classes), 5)
    invalid = torch.full((), 7)
    label_arguments = (target, LABELS.index(target.dtype), *target.stride(), *target.shape)
    if prediction.dim() == 4:
        arguments = (
            *(prediction, SCORES.index(prediction.dtype), num_classes, *prediction.stride()),
            *(*label_arguments, ignore_index, matrix, invalid),
        )
        emulation.call("confusion_matrix_logits", *arguments)
    else:
        arguments = (
            *(prediction, LABELS.index(prediction.dtype), *prediction.stride()),
            *(*label_arguments, num_classes, ignore_index, matrix, invalid),
        )
        emulation.call("confusion_matrix_labels", *arguments)
    return matrix - 5, int(invalid) - 7


def check(
    emulation: Emulation,
    prediction: torch.Tensor,
    target: torch.Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> None:
    matrix, invalid = count(emulation, prediction, target, num_classes, ignore_index)
    expected, expected_invalid = reference.confusion_matrix(
        prediction, target, num_classes, ignore_index=ignore_index
    )
    assert invalid == expected_invalid
    assert torch.equal(matrix, expected)


# ---------------------------------------------------------------- labels


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
    emulation.set_device(multiprocessors=1, shared_bytes_per_block=0)  # straight to the matrix
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
    limits = torch.iinfo(dtype)
    values = [0, 1, 2, 3, 4, 5, 254, 255, -1, -2, limits.min, limits.min + 1, limits.max]
    values += [32767, 32768, 65535, 2**31 - 1, 2**31, -(2**31), 2**32 + 1, 2**40, ignore_index]
    kept = torch.tensor([v for v in values if limits.min <= v <= limits.max])
    target, prediction = (
        kept[torch.randint(0, len(kept), (1, 31, 33), generator=generator)].to(dtype)
        for _ in range(2)
    )
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


def strided(labels: torch.Tensor, layout: str) -> torch.Tensor:
    """The same labels, laid out otherwise."""
    n, h, w = labels.shape
    if layout == "window":
        whole = labels.new_full((n, h + 5, w + 7), 99)
        window = whole[:, 2 : 2 + h, 3 : 3 + w]
        return window.copy_(labels)
    if layout == "transposed":
        return labels.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "every other":
        return labels.repeat_interleave(2, dim=2)[:, :, ::2]
    if layout == "batch last":
        return labels.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return labels.contiguous()


LAYOUTS = ["contiguous", "window", "transposed", "every other", "batch last"]


@pytest.mark.parametrize("target_layout", LAYOUTS)
@pytest.mark.parametrize("prediction_layout", LAYOUTS)
def test_strides(emulation: Emulation, prediction_layout: str, target_layout: str) -> None:
    generator = torch.Generator().manual_seed(6)
    emulation.set_device(multiprocessors=1)
    target = random_labels(generator, (3, 9, 37), 6, torch.uint8, 9)
    prediction = random_labels(generator, (3, 9, 37), 6, torch.int32, 9)
    check(emulation, strided(prediction, prediction_layout), strided(target, target_layout), 6)


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
    """Every other label, in rows as far apart as they have pixels: no longer row can be made."""
    generator = torch.Generator().manual_seed(12)
    prediction, target = (
        random_labels(generator, (200,), 4, torch.uint8, 3).as_strided((1, 6, 20), (0, 20, 2))
        for _ in range(2)
    )
    check(emulation, prediction, target, 4)


# ---------------------------------------------------------------- logits


def random_logits(
    generator: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype, levels: int = 4
) -> torch.Tensor:
    """Scores of few levels, so that there are ties, with some NaN and infinities."""
    scores = torch.randint(0, levels, shape, generator=generator) - levels // 2
    logits = scores.to(dtype) * 0.5
    special = torch.rand(shape, generator=generator)
    logits[special < 0.02] = float("nan")
    logits[(special > 0.02) & (special < 0.04)] = float("inf")
    logits[(special > 0.04) & (special < 0.2)] = -float("inf")
    logits[(special > 0.2) & (special < 0.3)] = -0.0
    return logits


def laid_out(logits: torch.Tensor, layout: str) -> torch.Tensor:
    n, c, h, w = logits.shape
    if layout == "channels last":
        return logits.contiguous(memory_format=torch.channels_last)
    if layout == "window":
        return logits.new_full((n, c, h + 3, w + 5), 9)[:, :, 1 : 1 + h, 3 : 3 + w].copy_(logits)
    if layout == "channels last window":
        whole = logits.new_full((n, h + 3, w + 5, c + 1), 9)
        return whole[:, 1 : 1 + h, 3 : 3 + w, 1:].permute(0, 3, 1, 2).copy_(logits)
    if layout == "transposed":
        return logits.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "batch last":
        return logits.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    return logits.contiguous()


@pytest.mark.parametrize("dtype", SCORES, ids=str)
@pytest.mark.parametrize(
    "layout",
    [
        *("contiguous", "channels last", "window", "channels last window"),
        *("transposed", "batch last"),
    ],
)
@pytest.mark.parametrize(("num_classes", "width"), [(1, 16), (3, 23), (21, 32), (40, 13), (70, 8)])
def test_logits(
    emulation: Emulation, dtype: torch.dtype, layout: str, num_classes: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    emulation.set_device(multiprocessors=1)
    shape = (2, num_classes, 7, width)
    logits = laid_out(random_logits(generator, shape, dtype), layout)
    target = random_labels(generator, (2, 7, width), num_classes + 1, torch.uint8, 4)
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    check(emulation, logits, target, num_classes)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("target_type", LABELS, ids=str)
def test_logits_with_every_label_type(
    emulation: Emulation, layout: str, target_type: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(9)
    emulation.set_device(multiprocessors=1)
    logits = laid_out(random_logits(generator, (1, 150, 12, 20), torch.float32, 1000), layout)
    target = random_labels(generator, (1, 12, 20), 150, target_type, 5)
    check(emulation, logits, target, 150)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_logits_of_many_classes(emulation: Emulation, layout: str) -> None:
    generator = torch.Generator().manual_seed(10)
    logits = laid_out(random_logits(generator, (1, 847, 4, 8), torch.float16, 2000), layout)
    target = random_labels(generator, (1, 4, 8), 847, torch.int16, 5)
    check(emulation, logits, target, 847)


def test_unaligned_logits(emulation: Emulation) -> None:
    generator = torch.Generator().manual_seed(11)
    flat = random_logits(generator, (2 + 2 * 3 * 16 * 12,), torch.float32)
    target = random_labels(generator, (2, 16, 12), 3, torch.uint8, 4)
    for start in range(3):
        logits = flat[start : start + 2 * 3 * 16 * 12].view(2, 3, 16, 12)
        check(emulation, logits, target, 3)


def test_lowest_of_equal_classes_wins_and_the_first_nan(emulation: Emulation) -> None:
    nan, inf = float("nan"), float("inf")
    pixels = torch.tensor(
        [
            *([0.0, -0.0, 0.0], [-inf, -inf, -inf], [-inf, nan, nan], [nan, inf, nan]),
            *([1.0, 2.0, 2.0], [inf, nan, inf], [-0.0, 0.0, 0.0], [3.0, 3.0, nan]),
        ]
    )
    winners = torch.tensor([0, 0, 1, 0, 1, 1, 0, 2])
    assert torch.equal(pixels.argmax(1), winners)
    target = torch.arange(8, dtype=torch.uint8).view(1, 2, 4)
    logits = torch.full((1, 8, 2, 4), -inf)
    logits[0, :3] = pixels.T.reshape(3, 2, 4)
    for layout in ("contiguous", "channels last"):
        matrix, invalid = count(emulation, laid_out(logits, layout), target, 8)
        assert invalid == 0
        assert torch.equal(matrix.nonzero(), torch.stack([torch.arange(8), winners], 1))


def test_kernels_stay_in_bounds(sanitized_program: Path) -> None:
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    command = [sanitized_program, "confusion_matrix"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr

"""The confusion matrix's CUDA kernels on logits, emulated, against the plain reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from .confusion_matrix_cases import check, count, random_labels
from .operands import INF, LABELS, NAN, SCORES, laid_out

if TYPE_CHECKING:
    from .library import Emulation


def random_logits(
    generator: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype, levels: int = 4
) -> torch.Tensor:
    """Scores of a few levels, so that there are ties, with some NaN and infinities."""
    scores = torch.randint(0, levels, shape, generator=generator) - levels // 2
    logits = scores.to(dtype) * 0.5
    special = torch.rand(shape, generator=generator)
    logits[special < 0.02] = NAN
    logits[(special > 0.02) & (special < 0.04)] = INF
    logits[(special > 0.04) & (special < 0.2)] = -INF
    logits[(special > 0.2) & (special < 0.3)] = -0.0
    return logits


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
    nan, inf = NAN, INF
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

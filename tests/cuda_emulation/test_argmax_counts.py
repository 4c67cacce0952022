"""The CUDA kernels that count confusions and hits from coarse scores, emulated, against counts of
labels."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch

from .argmax_cases import argmax, check_confusion, confusion, hits, scores, targets
from .maps import Map
from .operands import LABELS, labels_among, laid_out

if TYPE_CHECKING:
    from .library import Emulation


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("kind", ["random", "trained"])
def test_counts(emulation: Emulation, dtype: torch.dtype, kind: str) -> None:
    for seed, (channels, scale, map) in enumerate(
        [
            (21, torch.float32, Map((4, 40), (31, 313), 8, 16, (5, 3))),
            (5, torch.float64, Map((4, 9), (32, 72))),
            (19, torch.float16, Map((5, 20), (20, 80))),
            (9, torch.float32, Map((20, 30), (7, 11))),
            (7, torch.bfloat16, Map((3, 3), (91, 93))),
        ]
    ):
        emulation.set_device(1 + seed % 2)
        input = scores(seed, (2, channels, *map.input_size), scale, kind)
        check_confusion(
            emulation, map, input, targets(seed, (2, *map.output_size), channels, dtype)
        )


@pytest.mark.parametrize("channels", [1, 2, 150, 230])
@pytest.mark.parametrize("shared_bytes", [232448, 100 << 10])
def test_counts_of_many_classes(emulation: Emulation, channels: int, shared_bytes: int) -> None:
    emulation.set_device(1, shared_bytes)
    for map in (Map((5, 10), (160, 320)), Map((4, 9), (16, 36))):
        input = scores(channels, (1, channels, *map.input_size), torch.float32, "trained")
        target = targets(channels, (1, *map.output_size), channels, torch.int16)
        check_confusion(emulation, map, input, target)


@pytest.mark.parametrize("ignore_index", [255, 0, -1, 3, 2**40])
def test_ignored_and_invalid_labels(emulation: Emulation, ignore_index: int) -> None:
    generator = torch.Generator().manual_seed(16)
    for dtype, map in itertools.product(LABELS, (Map((4, 9), (32, 70)), Map((40, 9), (32, 70)))):
        values = [0, 1, 2, 3, 4, 5, 255, -1, -2, 32768, 65535, 2**32 + 1]
        target = labels_among(generator, (1, 32, 70), values, dtype)
        check_confusion(emulation, map, scores(17, (1, 5, *map.input_size)), target, ignore_index)


@pytest.mark.parametrize("layout", ["window", "transposed", "every other column", "expanded"])
def test_targets_of_any_strides(emulation: Emulation, layout: str) -> None:
    for size in ((4, 9), (40, 9)):
        map = Map(size, (31, 70))
        target = targets(18, (3, 31, 70), 6, torch.uint8)
        if layout == "expanded":
            target = target[:1, :, :1].expand(3, 31, 70)
        else:
            target = laid_out(target, layout)
        check_confusion(emulation, map, scores(19, (3, 6, *size), kind="trained"), target)


def test_nothing_to_do(emulation: Emulation) -> None:
    map = Map((4, 9), (32, 72))
    assert argmax(emulation, map, torch.empty(0, 5, 4, 9)).shape == (0, 32, 72)
    nothing = (torch.empty(0, 5, 4, 9), torch.empty(0, 32, 72, dtype=torch.uint8))
    matrix, invalid = confusion(emulation, map, *nothing)
    assert int(matrix.abs().sum()) == 0
    assert invalid == 0
    assert hits(emulation, map, *nothing).tolist() == [0, 0]

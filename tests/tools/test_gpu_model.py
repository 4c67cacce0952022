"""What the model makes of launches, and which launches a row of the benchmarks makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks.cases import Row, rows

CROSS_ENTROPY = ["clear_arrivals_kernel", "cross_entropy_tile_kernel", "scale_kernel"]


@pytest.fixture(scope="session")
def library() -> Any:
    from benchmark_launches import emulation

    return emulation()


@pytest.fixture
def launches_of(library: Any) -> Callable[[Row], list[Any]]:
    def launches(row: Row) -> list[Any]:
        from benchmark_launches import launch_row

        taken: list[Any] = []
        size = launch_row(library, row, taken.append)
        assert size.minimal_bytes > 0
        assert size.pixel_classes > 0
        return taken

    return launches


@pytest.mark.parametrize(
    ("pattern", "kernels"),
    [
        ("upsample_cross_entropy/voc-s8/float32", CROSS_ENTROPY),
        ("interpolate_cross_entropy/ade20k-s4/bfloat16", CROSS_ENTROPY),
        ("interpolate_argmax/voc-s8/float32-trained", ["argmax_tiles_kernel"]),
        ("interpolate_confusion_matrix/voc-s8/float32-trained", ["argmax_tiles_kernel"]),
        ("upsample/voc-s8/float32-channels_last", ["bilinear_forward_kernel"]),
        ("upsample_backward/voc-s8/bfloat16", ["bilinear_backward_kernel"]),
        ("fuse_skip/voc-pool3/float32", ["bilinear_forward_kernel"]),
        ("confusion_matrix/voc/int64-random", ["count_labels_kernel"]),
        ("confusion_matrix_logits/voc/float32-regions", ["count_planar_scores_kernel"]),
    ],
)
def test_a_row_makes_these_launches(
    launches_of: Callable[[Row], list[Any]], pattern: str, kernels: list[str]
) -> None:
    """A loss with its gradient is three: with the backward pass, four."""
    from gpu_model import short_name

    (row,) = (row.shrunk() for row in rows() if row.name == pattern)
    assert [short_name(launch.kernel) for launch in launches_of(row)] == kernels


def test_the_grid_is_that_of_a_gpu_batch(launches_of: Callable[[Row], list[Any]]) -> None:
    (row,) = (row for row in rows() if row.name == "upsample_cross_entropy/voc-s32/float32")
    tiles = launches_of(row)[1]
    # 17 x 17 cells of 32 pixels, 2 x 4 to a block, 20 images.
    assert tiles.grid == (9 * 5 * 20, 1, 1)
    assert tiles.block == (128, 1, 1)


def test_batches_repeat_in_their_layout() -> None:
    import torch
    from benchmark_launches import _repeated

    last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    for map in (last, last.contiguous(), torch.arange(12).reshape(1, 3, 4)):
        repeated = _repeated(map, 3)
        assert torch.equal(repeated, torch.cat([map] * 3))
        assert repeated[: len(map)].stride()[1:] == map.stride()[1:]


@pytest.mark.parametrize(("blocks", "count"), [(3, 24), (24, 24), (100, 24), (10**6, 24), (50, 1)])
def test_samples_are_blocks_of_the_grid(blocks: int, count: int) -> None:
    from gpu_model import sampled

    chosen = sampled(blocks, count, 7)
    assert chosen == sorted(set(chosen)) == sampled(blocks, count, 7)
    assert chosen[0] >= 0
    assert chosen[-1] < blocks
    assert len(chosen) == min(blocks, count)


def test_the_error_of_a_sample_counts_runs_of_neighbors() -> None:
    """Neighbors that are alike say nothing new, and nothing is uncertain where all blocks ran."""
    from gpu_model import error_of_mean

    runs = np.random.default_rng(1).normal(100, 10, 64)
    alike = np.repeat(runs, 4)
    expected = runs.std(ddof=1) / 8 * math.sqrt(1 - 256 / 1024)
    assert math.isclose(error_of_mean(alike, 1024), expected)
    assert error_of_mean(alike, 256) == 0


class Kernels:
    """What stands for a compiled library: a kernel of known machine code."""

    registers: ClassVar = {"kernel": 40}

    def machine(self, launch: Any, blocks: Any) -> Any:
        from sass.machine import Machine

        from .programs import assembled

        text = "S2R R0, SR_TID.X\nFADD R1, R0, R0\nFADD R1, R0, R0\nMUFU.EX2 R1, R1\nEXIT"
        return Machine(assembled(text), launch, blocks)


def test_time_is_that_of_the_fullest_multiprocessor() -> None:
    from gpu_model import Model

    from tests.cuda_emulation.library import EmulatedLaunch

    launch = EmulatedLaunch("kernel", (133, 1, 1), (256, 1, 1), 20000, b"")
    modeled = Model(Kernels(), 16).run(launch)  # type: ignore[arg-type]
    assert modeled.blocks == 133
    assert modeled.slots == 133 * 8 * 5
    assert modeled.slots_error == 0
    # Two blocks of 8 warps of 5 instructions for 4 schedulers, at 1.75 GHz.
    assert modeled.issue_us == pytest.approx(2 * 8 * 5 / 4 / 1750)
    assert (modeled.busiest, modeled.busiest_us) == (
        "conversions",
        pytest.approx(2 * 8 * 8 / 4 / 1750),
    )
    # 40 registers a thread hold 6 blocks, 228 KiB of shared memory 11.
    assert modeled.resident == 6
    assert modeled.floor_us == modeled.busiest_us


def test_lines_that_slots_come_from() -> None:
    """Of nvdisasm's text: the line, then where its function was inlined, and so on."""
    from gpu_model import lines_of
    from sass.lines import parsed

    from .programs import machine_for

    text = """
.text.kernel:
\t//## File "/src/inner.cuh", line 7 inlined at "/src/kernel.cuh", line 20
\t//## File "/src/kernel.cuh", line 20
        /*0000*/                   NOP ;
        /*0010*/                   NOP ;
\t//## File "/src/kernel.cuh", line 21
        /*0020*/                   NOP ;
.text.other:
        /*0000*/                   EXIT ;
"""
    places = parsed(text)
    inlined = (("inner.cuh", 7), ("kernel.cuh", 20))
    assert places["kernel"] == {0: inlined, 16: inlined, 32: (("kernel.cuh", 21),)}
    assert places["other"] == {0: ()}
    machine = machine_for("NOP\nNOP\nNOP\nEXIT", threads=64, blocks=2)
    machine.run()
    assert [line.split() for line in lines_of(machine, places)] == [
        ["50.0%", "4", "kernel.cuh:20", ">", "inner.cuh:7"],
        ["25.0%", "2", "kernel.cuh:21"],
        ["25.0%", "2", "no", "line", "is", "known"],
    ]


def test_the_same_blocks_are_run_whatever_the_addresses() -> None:
    from gpu_model import Model

    from tests.cuda_emulation.library import EmulatedLaunch

    seen: list[list[int]] = []
    model = Model(Kernels(), 8, lambda machine: seen.append(list(machine.blocks)))  # type: ignore[arg-type]
    for parameters in (b"1" * 64, b"2" * 64):
        model.run(EmulatedLaunch("kernel", (1000, 1, 1), (32, 1, 1), 0, parameters))
    assert seen[0] == seen[1]

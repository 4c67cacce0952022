"""The emulation of CUDA itself: it runs correct kernels and reports what is wrong with others."""

from __future__ import annotations

import pytest
import torch

from .library import Emulation, EmulationError

# The cases of entry_points/self_test.cpp.
REVERSE, REVERSE_WITHOUT_BARRIER, DIVERGENT_BARRIER, EARLY_RETURN, EXITED_LANE = range(5)
UNNAMED_LANE, STRAY_LANE, MISALIGNED, SHARED_OVERRUN, UNINITIALIZED = range(5, 10)
WARP, HISTOGRAM, RACING, EMPTY, EMPTY_WITH_SHARED = range(10, 15)
COPY, COPY_WITHOUT_WAIT, REFUSAL, OTHER_ERROR = range(15, 19)


@pytest.fixture
def emulation(plain: Emulation) -> Emulation:
    """Always the plain library: the race checker would report the planted mistakes."""
    return plain


def run(emulation: Emulation, case: int, blocks: int = 1, threads: int = 32) -> torch.Tensor:
    """Runs one case on 0, 1, 2, ... and returns its output."""
    values = torch.arange(blocks * threads, dtype=torch.int32)
    out = torch.zeros(max(values.numel(), 256), dtype=torch.int32)
    emulation.call("self_test", case, blocks, threads, values, out)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_barrier_orders_shared_memory(emulation: Emulation, seed: int) -> None:
    emulation.set_seed(seed)
    expected = torch.arange(3 * 96, dtype=torch.int32).reshape(3, 96).flip(1).flatten()
    assert torch.equal(run(emulation, REVERSE, 3, 96)[: 3 * 96], expected)


def test_missing_barrier_shows_and_depends_on_the_seed(emulation: Emulation) -> None:
    expected = torch.arange(64, dtype=torch.int32).flip(0)
    results = []
    for seed in range(4):
        emulation.set_seed(seed)
        results.append(run(emulation, REVERSE_WITHOUT_BARRIER, 1, 64)[:64])
    assert all(not torch.equal(result, expected) for result in results)
    assert not torch.equal(results[0], results[1])


def test_same_seed_repeats(emulation: Emulation) -> None:
    results = []
    for _ in range(2):
        emulation.set_seed(5)
        results.append(run(emulation, REVERSE_WITHOUT_BARRIER, 2, 64))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("case", "threads", "message"),
    [
        (
            DIVERGENT_BARRIER,
            64,
            r"barrier divergence: .* at self_test.cpp:\d+, another at",
        ),
        (EARLY_RETURN, 64, "waits at .* while 1 threads of the block have returned"),
        (EXITED_LANE, 32, "warp divergence: .* lane 3 has returned"),
        (UNNAMED_LANE, 16, "reads lane 20, which its mask does not name"),
        (STRAY_LANE, 32, "its mask does not name it"),
        (MISALIGNED, 1, "misaligned access: .* must be a multiple of 16"),
        (SHARED_OVERRUN, 32, "wrote behind its 128 bytes of shared memory"),
    ],
)
def test_mistake_is_reported(emulation: Emulation, case: int, threads: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(emulation, case, 1, threads)
    run(emulation, REVERSE)  # and the emulation goes on working


def test_full_warp_mask_in_a_partial_warp_is_reported(emulation: Emulation) -> None:
    with pytest.raises(RuntimeError, match="lane 31 has returned"):
        run(emulation, WARP, 1, 24)


def test_shared_memory_starts_as_nan(emulation: Emulation) -> None:
    run(emulation, REVERSE)
    assert torch.isnan(run(emulation, UNINITIALIZED)[:32].view(torch.float32)).all()


@pytest.mark.parametrize("seed", range(3))
def test_asynchronous_copies_may_be_late(emulation: Emulation, seed: int) -> None:
    emulation.set_seed(seed)
    expected = torch.arange(2 * 64, dtype=torch.int32)
    assert torch.equal(run(emulation, COPY, 2, 64)[:128], expected)
    there = run(emulation, COPY_WITHOUT_WAIT, 2, 64)[:128] == expected
    assert 0 < there.sum() < 128


@pytest.mark.parametrize("seed", range(3))
def test_warp_functions(emulation: Emulation, seed: int) -> None:
    emulation.set_seed(seed)
    up, xor, ballot, match, votes = run(emulation, WARP)[:160].reshape(5, 32)
    lanes = torch.arange(32, dtype=torch.int32)
    assert torch.equal(up, torch.where(lanes % 8 == 0, lanes, lanes - 1))
    assert torch.equal(xor, lanes ^ 5)
    assert (ballot == 0x55555555).all()
    for lane in range(32):
        assert int(match[lane]) & 0xFFFFFFFF == sum(1 << i for i in range(lane % 3, 32, 3))
    assert (votes == 3).all()


def test_atomics_lose_nothing_and_plain_updates_do(emulation: Emulation) -> None:
    bins = torch.zeros(4 * 64, dtype=torch.int32)
    counts = torch.zeros(1, dtype=torch.int64)
    emulation.call("self_test", HISTOGRAM, 4, 64, bins, counts)
    assert counts.item() == 2 * bins.numel()
    counts.zero_()
    emulation.call("self_test", RACING, 4, 64, bins, counts)
    assert counts.item() < bins.numel()


@pytest.mark.parametrize(
    ("case", "blocks", "threads", "message"),
    [
        (EMPTY, 65536, 32, "grid must be in"),
        (EMPTY, 1, 1056, "at most 1024 threads"),
        (EMPTY_WITH_SHARED, 228, 32, "shared memory must be at most 232448 bytes"),
    ],
)
def test_launch_limits(
    emulation: Emulation, case: int, blocks: int, threads: int, message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(emulation, case, blocks, threads)


def test_empty_grid_launches_nothing(emulation: Emulation) -> None:
    run(emulation, EARLY_RETURN, 0)


def test_errors_but_refusals_say_what_the_operators_are_built_with(emulation: Emulation) -> None:
    """A refusal is about an argument, which another build would refuse, too."""
    built = r" \(fcn_ext's CUDA operators are built with CUDA 12\.9\)"
    for case, message in ((REFUSAL, "input must not"), (OTHER_ERROR, f"no memory{built}")):
        with pytest.raises(EmulationError, match=f"^{message}$"):
            run(emulation, case)

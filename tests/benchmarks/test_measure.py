"""The race is fair, and memory is measured, not guessed."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from benchmarks.cases import rows
from benchmarks.measure import Call, Contestant, HostClock, copy_call, race, warm_up
from benchmarks.memory import CLEAR_REFS, measure_host

HEAD = "interpolate_cross_entropy"


class LogClock:
    """Tells fixed times and remembers who was called when."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def sample(self, call: Call, calls: int) -> float:
        self.log.append(call())
        return 1.0


def contestants(names: str) -> list[Contestant]:
    return [Contestant(name, lambda name=name: name) for name in names]


def test_every_round_has_everyone() -> None:
    clock = LogClock()
    race(contestants("abc"), clock, seconds=60, at_least=2, at_most=10)
    rounds = [clock.log[i : i + 3] for i in range(0, len(clock.log), 3)]
    assert len(rounds) == 10
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_two_samples_when_time_is_up() -> None:
    clock = LogClock()
    race(contestants("abc"), clock, seconds=60, at_least=4, at_most=4)
    assert len(clock.log) == 12
    clock.log.clear()
    race(contestants("abc"), clock, seconds=0, at_least=4, at_most=10)
    assert len(clock.log) == 6


def test_slow_ones_rest_and_the_last_two_do_not_run_alone() -> None:
    slow = [Contestant(name, lambda: time.sleep(0.02)) for name in "st"]
    fast = [Contestant(name, lambda: None) for name in "ab"]
    race([*slow, *fast], HostClock(), seconds=0.4, at_least=2, at_most=10_000)
    assert all(contestant.minimum >= 0.02 for contestant in slow)
    # A share is 0.1 s.
    rounds = max(len(contestant.seconds) for contestant in slow)
    assert 2 <= rounds <= 6
    assert all(2 <= len(contestant.seconds) <= rounds for contestant in fast)


def test_warm_up_makes_samples_long_enough() -> None:
    quick, slow = Contestant("q", lambda: None), Contestant("s", lambda: time.sleep(0.002))
    warm_up(quick, HostClock())
    warm_up(slow, HostClock())
    assert quick.calls > 100
    assert slow.calls == 1


def test_copy_moves_the_bytes_asked_for() -> None:
    copied = copy_call(1000, torch.device("cpu"))()
    assert 2 * copied.nbytes == 1000
    assert copied.unique().tolist() == [1.0]


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the kernel does not tell peak memory")
def test_peak_memory_of_a_row() -> None:
    row, head = (next(rows((f"{name}/voc-s32/float32",))) for name in ("upsample", HEAD))
    peaks = measure_host([row, head], torch.get_num_threads())
    result = 21 * 500 * 500 * 4
    assert {name for _, name in peaks} >= {"fcn_ext", "reference", "F.interpolate"}
    assert result - 2**19 < peaks[row.name, "fcn_ext"] < result + 2**21
    assert peaks[row.name, "reference"] > result
    # Logits, their log-softmax and its gradient against a gradient of coarse scores.
    eager = peaks[head.name, "F.interpolate + F.cross_entropy"]
    assert eager > 2 * result
    assert peaks[head.name, "fcn_ext"] <= eager / 16
    assert "torch" in sys.modules  # this process stays as it was

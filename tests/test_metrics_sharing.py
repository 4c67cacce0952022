"""One confusion matrix for several threads, or summed over several processes."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fcn_ext import metrics
from fcn_ext.boundary import BoundaryIoU
from fcn_ext.calibration import Calibration
from fcn_ext.geometry import Deconvolution
from fcn_ext.integrations.torchmetrics import JaccardIndex, MeanIoU
from fcn_ext.metrics import ConfusionMatrix

LABELS = torch.arange(3, dtype=torch.uint8).repeat(1, 4, 1)
ELSEWHERE = torch.zeros(1, 4, 3, dtype=torch.uint8, device="meta")


@pytest.fixture
def busy_interpreter() -> Iterator[None]:
    """Threads take turns as often as they can, so that a race is lost."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_interpreter")
@pytest.mark.parametrize("kind", ["labels", "logits", "scores"])
@pytest.mark.parametrize("num_threads", [2, 4, 16])
def test_threads_lose_no_count(kind: str, num_threads: int, device: torch.device) -> None:
    """Of the first update, which makes the matrix, and of pixels out of range."""
    target = torch.tensor([[[0, 1, 7], [2, 255, 1]]], device=device)
    prediction = target.clamp(max=2)
    scores = torch.nn.functional.one_hot(prediction, 3).movedim(-1, 1).float()
    updates: dict[str, Callable[[ConfusionMatrix], None]] = {
        "labels": lambda m: m.update(prediction, target),
        "logits": lambda m: m.update(scores, target),
        "scores": lambda m: m.update_scores(scores, target, Deconvolution(1)),
    }
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(20):
            matrix, start = ConfusionMatrix(3), threading.Barrier(num_threads)

            def work(matrix: ConfusionMatrix = matrix, start: threading.Barrier = start) -> None:
                start.wait()
                for _ in range(10):
                    updates[kind](matrix)

            for done in [pool.submit(work) for _ in range(num_threads)]:
                done.result()
            times = 10 * num_threads
            assert (matrix.matrix.cpu() == times * torch.diag(torch.tensor([1, 2, 1]))).all()
            assert int(matrix.invalid) == times


@pytest.mark.usefixtures("busy_interpreter")
def test_threads_see_whole_updates_only() -> None:
    """Reading, copying, and forgetting while others count: never half an update."""
    target = torch.tensor([[[0, 1, 7], [2, 255, 1]]])
    prediction = target.clamp(max=2)
    whole = torch.diag(torch.tensor([1, 2, 1]))
    matrix, over = ConfusionMatrix(3), threading.Event()

    def count() -> None:
        while not over.is_set():
            matrix.update(prediction, target)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(count) for _ in range(4)]
        try:
            for turn in range(300):
                held = copy.deepcopy(matrix)
                times = int(held.invalid)
                assert (held.matrix == times * whole).all()
                assert matrix.compute(on_invalid="drop").num_pixels % 4 == 0
                if turn % 3 == 0:
                    matrix.reset()
        finally:
            over.set()
        for done in running:
            done.result()
    assert (matrix.matrix == int(matrix.invalid) * whole).all()


def test_a_compiled_step_counts() -> None:
    matrix = ConfusionMatrix(3)
    step = torch.compile(
        lambda labels: matrix.update(labels, labels), fullgraph=True, backend="eager"
    )
    for _ in range(3):
        step(LABELS)
    assert matrix.compute().num_pixels == 36


def _share(rank: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=3
    )
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(7, 4, 9, 9, generator=generator)
    target = torch.randint(0, 4, (7, 9, 9), generator=generator)
    target[0, 0, :5] = 77
    matrix, idle, pair = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    matrix.update(logits[rank::3], target[rank::3])
    matrix.all_reduce()
    # The last process has no batch, then one, on another device than the group's.
    if rank < 2:
        idle.update(logits[rank::2], target[rank::2])
    idle.all_reduce()
    torch.save((matrix.matrix, matrix.invalid), f"{folder}/every{rank}.pt")
    torch.save((idle.matrix, idle.invalid), f"{folder}/idle{rank}.pt")
    if rank == 2:
        assert "device=None" in repr(idle)
        again = copy.deepcopy(idle)
        again.update(ELSEWHERE, ELSEWHERE)
        assert again.matrix.device.type == "meta"
        idle.update(logits[:1], target[:1])
        assert idle.matrix.sum() == 8 * 81 - 10
    # A group that the last process is not in.
    group = dist.new_group([0, 1])
    pair.update(logits[:1], target[:1])
    pair.all_reduce(group if rank < 2 else dist.GroupMember.NON_GROUP_MEMBER)
    assert pair.matrix.sum() == 76 * (2 if rank < 2 else 1)
    _refuse_other_sizes(rank)
    dist.destroy_process_group()


def _refuse_other_sizes(rank: int) -> None:
    """Not the end of a process, as in Gloo, nor sums of what does not belong together."""
    others = {
        "num_classes": (ConfusionMatrix, BoundaryIoU, JaccardIndex, MeanIoU),
        "num_bins": (lambda size: Calibration(4, num_bins=size),),
    }
    for name, metrics_of_size in others.items():
        for make in metrics_of_size:
            metric = make((4, 4, 6)[rank])
            with pytest.raises(ValueError, match=f"^{name} must be the same in all processes"):
                metric.all_reduce()


def test_all_reduce_is_exact(tmp_path: Path) -> None:
    """Three processes, seven images, one process without any: the integers of one process."""
    mp.spawn(_share, args=(str(tmp_path),), nprocs=3)
    generator = torch.Generator().manual_seed(5)
    whole = ConfusionMatrix(4)
    logits = torch.randn(7, 4, 9, 9, generator=generator)
    target = torch.randint(0, 4, (7, 9, 9), generator=generator)
    target[0, 0, :5] = 77
    whole.update(logits, target)
    for rank in range(3):
        for name in ("every", "idle"):
            matrix, invalid = torch.load(tmp_path / f"{name}{rank}.pt")
            assert torch.equal(matrix, whole.matrix)
            assert torch.equal(invalid, whole.invalid)


@pytest.mark.parametrize(
    ("backends", "own", "expected"),
    [
        ("cpu:gloo,cuda:gloo", "cpu", "cpu"),
        ("cpu:gloo,cuda:gloo", "cuda:1", "cpu"),
        ("cpu:gloo,cuda:nccl", "cuda:1", "cpu"),
        ("cpu:gloo", "cpu", "cpu"),
        ("cuda:nccl", "cpu", "cuda"),
        ("cuda:nccl", "cuda:1", "cuda:1"),
        ("xpu:xccl", "cpu", "xpu"),
    ],
)
def test_counts_are_summed_where_the_group_can(
    backends: str, own: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "get_backend_config", lambda group: backends)
    assert metrics.device_of(None, torch.device(own)) == torch.device(expected)


def test_a_reduction_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(total: torch.Tensor, **options: object) -> None:
        total += 1
        raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda group: 0)
    monkeypatch.setattr(dist, "get_backend_config", lambda group: "cpu:gloo")
    monkeypatch.setattr(dist, "all_reduce", broken)
    for begun in (False, True):
        matrix = ConfusionMatrix(3)
        if begun:
            matrix.update(LABELS, LABELS)
        before = repr(matrix)
        with pytest.raises(RuntimeError, match="connection closed"):
            matrix.all_reduce()
        assert repr(matrix) == before
        assert matrix.compute().num_pixels == 12 * begun


@pytest.mark.cuda
def test_all_reduce_over_nccl_without_a_batch(tmp_path: Path) -> None:
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        for matrix in (ConfusionMatrix(3), ConfusionMatrix(3, device="cuda")):
            matrix.all_reduce()
            matrix.update(LABELS.cuda(), LABELS.cuda())
            matrix.all_reduce()
            assert matrix.compute().num_pixels == 12
        on_host = ConfusionMatrix(3)
        on_host.update(LABELS, LABELS)
        on_host.all_reduce()
        on_host.update(LABELS, LABELS)
        assert on_host.compute().num_pixels == 24
    finally:
        dist.destroy_process_group()

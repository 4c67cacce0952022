from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fcn_ext import metrics, ops
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.metrics import ConfusionMatrix, Scores, scores_from_matrix


def score_py(hist: np.ndarray) -> dict[str, float]:
    """The rules of the paper's reference implementation: NaN classes out of the means."""
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = np.diag(hist) / hist.sum(1)
        iu = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
        frequency = hist.sum(1) / hist.sum()
        return {
            "pixel_accuracy": np.diag(hist).sum() / hist.sum(),
            "mean_accuracy": np.nanmean(accuracy),
            "mean_iu": np.nanmean(iu),
            "frequency_weighted_iu": (frequency[frequency > 0] * iu[frequency > 0]).sum(),
        }


def test_known_values() -> None:
    scores = scores_from_matrix(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert scores.pixel_accuracy == 7 / 8
    assert scores.mean_accuracy == (3 / 4 + 1) / 2
    assert scores.mean_iu == (3 / 4 + 4 / 5) / 2
    assert scores.frequency_weighted_iu == (3 / 4 + 4 / 5) / 2
    assert np.isnan(scores.class_iu[2])
    assert scores.num_pixels == 8


def test_absent_classes() -> None:
    """Class 2 is predicted though absent: IU 0 in the mean, left out of the mean over present."""
    scores = scores_from_matrix(np.array([[2, 0, 2], [0, 4, 0], [0, 0, 0]]))
    assert scores.mean_iu == (2 / 4 + 1 + 0) / 3
    assert scores.mean_iu_present == (2 / 4 + 1) / 2
    assert np.isnan(scores.class_accuracy[2])
    assert scores.class_iu[2] == 0


@pytest.mark.parametrize("absent", [(), (0,), (3, 7), tuple(range(1, 21))])
def test_agrees_with_the_reference_rules_to_the_last_digit(absent: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        hist = generator.integers(0, 10**6, (21, 21))
        hist[list(absent)] = 0
        scores = scores_from_matrix(hist)
        for name, value in score_py(hist.astype(np.float64)).items():
            assert getattr(scores, name) == pytest.approx(value, rel=1e-15, abs=0)


def test_nothing_counted_is_nan() -> None:
    scores = scores_from_matrix(np.zeros((4, 4), dtype=np.int64))
    assert np.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.mean_iu)
    assert scores.as_dict()["mean_iu"] is None
    assert scores.as_dict()["class_iu"] == [None] * 4


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), dtype=np.int64), r"square \(num_classes, num_classes\), got \(2, 3\)"),
        (np.zeros((2, 2)), "must hold counts, integers >= 0, got float64"),
        (np.array([[1, -1], [0, 0]]), "must hold counts"),
    ],
)
def test_rejects_matrix(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores_from_matrix(matrix)


def test_accumulates_batches(device: torch.device) -> None:
    logits = torch.randn(4, 5, 20, 30, device=device)
    target = torch.randint(0, 5, (4, 20, 30), device=device)
    target[0] = 255
    whole, parts = ConfusionMatrix(5), ConfusionMatrix(5, device=device)
    whole.update(logits, target)
    for image in range(4):
        parts.update(logits[image : image + 1].argmax(1), target[image : image + 1].to(torch.uint8))
    assert torch.equal(whole.matrix, parts.matrix)
    assert whole.compute().num_pixels == 3 * 600
    parts.reset()
    assert int(parts.matrix.sum()) == 0


def test_accumulates_coarse_scores(device: torch.device) -> None:
    """As the upsampled scores are counted; whole numbers, so that ties are the same ties."""
    scores = torch.randint(-3, 4, (4, 5, 5, 6), device=device).float()
    target = torch.randint(0, 5, (4, 20, 24), device=device)
    target[0] = 255
    plain, fused = ConfusionMatrix(5), ConfusionMatrix(5)
    logits = ops.upsample(scores, 4, offset=(1, 2), output_size=(20, 24))
    plain.update(logits, target)
    fused.update_upsampled(scores, target, 4, offset=(1, 2))
    assert torch.equal(plain.matrix, fused.matrix)
    plain.update(ops.interpolate(scores, (20, 24)), target)
    fused.update_interpolated(scores, target)
    assert fused.compute().num_pixels == 2 * 3 * 480
    assert torch.equal(plain.matrix, fused.matrix)
    faces, whole = fused, ConfusionMatrix(5)
    whole.update_scores(scores, target, Deconvolution(4, offset=(1, 2)))
    whole.update_scores(scores, target)
    assert torch.equal(whole.matrix, faces.matrix)
    whole.update_scores(scores, target, Resize(align_corners=True))
    faces.update_interpolated(scores, target, align_corners=True)
    assert torch.equal(whole.matrix, faces.matrix)


def test_invalid_labels_are_named() -> None:
    matrix = ConfusionMatrix(3)
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 0, :2] = 7
    matrix.update(torch.zeros(1, 4, 4, dtype=torch.int64), target)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\).* got 2 pixels that are not"):
        matrix.compute()
    assert matrix.compute(on_invalid="drop").num_pixels == 14
    with pytest.raises(ValueError, match="on_invalid must be"):
        matrix.compute(on_invalid="hope")
    matrix.reset()
    assert np.isnan(matrix.compute().mean_iu)


def test_rejects() -> None:
    with pytest.raises(ValueError, match="num_classes must be in"):
        ConfusionMatrix(0)
    with pytest.raises(ValueError, match="class_names must have num_classes = 3 names, got 2"):
        ConfusionMatrix(3, class_names=["a", "b"])


LABELS = torch.arange(3, dtype=torch.uint8).repeat(1, 4, 1)
SCORES = torch.zeros(1, 3, 2, 2)
ELSEWHERE = torch.zeros(1, 4, 3, dtype=torch.uint8, device="meta")

REFUSED: dict[str, tuple[Callable[[ConfusionMatrix], None], str]] = {
    "shapes": (lambda m: m.update(LABELS, LABELS[:, :2]), "must have the same shape"),
    "dtype": (lambda m: m.update(LABELS, LABELS.float()), "target labels must be uint8"),
    "two devices": (lambda m: m.update(LABELS, ELSEWHERE), "must be on the same device"),
    "logits": (lambda m: m.update(torch.zeros(1, 2, 4, 3), LABELS), "must have num_classes = 3"),
    "no target": (lambda m: m.update(LABELS, None), "target must be a torch.Tensor"),
    "no scores": (lambda m: m.update_scores(None, LABELS), "scores must be a torch.Tensor"),
    "classes": (
        lambda m: m.update_scores(SCORES[:, :2], LABELS),
        r"scores must have num_classes = 3 channels, got \(1, 2, 2, 2\)",
    ),
    "batch": (lambda m: m.update_scores(SCORES, LABELS.repeat(2, 1, 1)), "batch size of input"),
    "geometry": (lambda m: m.update_scores(SCORES, LABELS, 8), "geometry must be"),
    "offset": (lambda m: m.update_upsampled(SCORES, LABELS, 4, offset=99), "offset must be below"),
    "corners": (
        lambda m: m.update_interpolated(SCORES, LABELS, align_corners=1),
        "align_corners must be a bool",
    ),
    "on_invalid": (lambda m: m.compute(on_invalid="hope"), "on_invalid must be"),
}
READINGS: dict[str, Callable[[ConfusionMatrix], object]] = {
    "matrix": lambda m: m.matrix.add_(1),
    "invalid": lambda m: m.invalid.add_(1),
    "compute": lambda m: m.compute(),
    "repr": repr,
    "reset": lambda m: m.reset(),
    "all_reduce": lambda m: m.all_reduce(),
    "copy": copy.deepcopy,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_call_changes_nothing(reason: str, begun: bool) -> None:
    matrix = ConfusionMatrix(3)
    if begun:
        matrix.update(LABELS, LABELS)
    call, message = REFUSED[reason]
    before = (repr(matrix), matrix.matrix, matrix.invalid)
    with pytest.raises((TypeError, ValueError), match=message):
        call(matrix)
    assert repr(matrix) == before[0]
    assert torch.equal(matrix.matrix, before[1])
    assert torch.equal(matrix.invalid, before[2])


@pytest.mark.parametrize("reading", READINGS)
def test_reading_binds_no_device_and_changes_no_count(reading: str) -> None:
    matrix = ConfusionMatrix(3)
    assert repr(matrix) == "ConfusionMatrix(num_classes=3, ignore_index=255, device=None)"
    READINGS[reading](matrix)
    assert "device=None" in repr(matrix)
    assert int(matrix.matrix.sum()) == 0
    # A device that is not the host stands for a GPU: the first update still decides.
    matrix.update(ELSEWHERE, ELSEWHERE)
    assert matrix.matrix.device.type == "meta"
    if reading != "reset":
        begun = ConfusionMatrix(3)
        begun.update(LABELS, LABELS)
        READINGS[reading](begun)
        assert begun.matrix.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
        assert int(begun.invalid) == 0


def test_a_device_that_was_asked_for_stays() -> None:
    matrix = ConfusionMatrix(3, device="cpu")
    with pytest.raises(ValueError, match="same device, got meta and cpu"):
        matrix.update(ELSEWHERE, ELSEWHERE)
    matrix.reset()
    assert "device='cpu'" in repr(matrix)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_copies_go_on_by_themselves(
    again: Callable[[ConfusionMatrix], ConfusionMatrix], begun: bool
) -> None:
    matrix = ConfusionMatrix(3, ignore_index=1, class_names=["a", "b", "c"])
    if begun:
        matrix.update(LABELS, LABELS)
    with torch.inference_mode():
        copied = again(matrix)
    assert repr(copied) == repr(matrix)
    assert copied.class_names == ("a", "b", "c")
    copied.update(LABELS, LABELS)
    assert matrix.compute().num_pixels == 8 * begun
    assert copied.compute().num_pixels == 8 * (1 + begun)
    copied.reset()
    assert matrix.compute().num_pixels == 8 * begun


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
    dist.destroy_process_group()


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
    assert metrics._device_of(None, torch.device(own)) == torch.device(expected)


def test_a_reduction_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(total: torch.Tensor, group: object) -> None:
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


def test_counts_begun_in_inference_mode_are_counts() -> None:
    labels = torch.zeros(1, 2, 3, dtype=torch.uint8)
    matrix = ConfusionMatrix(2)
    with torch.inference_mode():
        matrix.update(labels, labels)
    matrix.update(labels, labels)
    assert matrix.compute().num_pixels == 12
    matrix.reset()
    assert matrix.compute().num_pixels == 0


HUGE = 2**63


@pytest.mark.parametrize("value", [HUGE, -HUGE - 1, 2**70])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("num_classes", ConfusionMatrix),
        ("ignore_index", lambda value: ConfusionMatrix(3, ignore_index=value)),
        ("stride", lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, value)),
        (
            "kernel_size",
            lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, 2, kernel_size=value),
        ),
        (
            "offset",
            lambda value: ConfusionMatrix(3).update_upsampled(SCORES, LABELS, 2, offset=value),
        ),
    ],
)
def test_numbers_beyond_64_bits_are_refused_by_name(
    name: str, call: Callable[[int], object], value: int
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must fit in 64 bits, got {value}$"):
        call(value)


def test_equal_scores_have_equal_numbers() -> None:
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    scores = scores_from_matrix(counts)
    assert np.isnan(scores.class_iu).any()
    for same in (scores, scores_from_matrix(torch.from_numpy(counts)), copy.deepcopy(scores)):
        assert scores == same
        assert not scores != same  # noqa: SIM202
    nothing = scores_from_matrix(np.zeros((3, 3), dtype=np.int64))
    assert nothing == scores_from_matrix(np.zeros((3, 3), dtype=np.int32))
    others = [
        nothing,
        scores_from_matrix(counts[:2, :2]),
        scores_from_matrix(counts * 2),
        scores_from_matrix(counts.T),
        *(
            dataclasses.replace(scores, **{field.name: getattr(nothing, field.name)})
            for field in dataclasses.fields(Scores)
        ),
        None,
        scores.as_dict(),
    ]
    for other in others:
        assert scores != other
        assert not scores == other  # noqa: SIM201
    assert scores in [nothing, scores]


def test_scores_are_no_keys() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'Scores'"):
        hash(scores_from_matrix(np.eye(3, dtype=np.int64)))

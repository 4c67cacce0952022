"""The truth about the heads is true, and heads that are wrong are found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import exact, heads, regions
from benchmarks.accuracy import Accuracy
from benchmarks.cases import HEADS, SWEEP, Row, rows
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.workloads import Workload, build
from fcn_ext import reference, reference_losses

CPU = torch.device("cpu")


def workload(name: str) -> Workload:
    return build(next(rows((name,))).shrunk(), CPU)


def logits(w: Workload) -> torch.Tensor:
    scores = w.maps[0].double()
    if w.row.operator.startswith("upsample"):
        return reference.upsample(
            scores, w.case.stride, offset=w.case.offset, output_size=w.case.size
        )
    return reference.interpolate(scores, w.case.size)


@pytest.mark.parametrize("band_bytes", [2**13, 2**16, exact.BAND_BYTES])
@pytest.mark.parametrize("operator", ["interpolate", "upsample"])
def test_truth_of_the_loss(operator: str, band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(exact, "BAND_COLUMNS", 24)
    w = workload(f"{operator}_cross_entropy/voc-s8/float32")
    w.maps = (w.maps[0].double().requires_grad_(), w.maps[1])
    loss = F.cross_entropy(logits(w), w.maps[1], ignore_index=w.case.ignore_index)
    (gradient,) = torch.autograd.grad(loss, w.maps[0])
    w.maps = (w.maps[0].detach(), w.maps[1])
    found = exact.loss_and_gradient(w)
    torch.testing.assert_close(found[0], loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], gradient, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("operator", ["interpolate_dice", "interpolate_dice_cross_entropy"])
def test_truth_of_dice(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BAND_BYTES", 2**13)
    monkeypatch.setattr(exact, "BAND_COLUMNS", 24)
    w = workload(f"{operator}/voc-s8/float32")
    scores = w.maps[0].double().requires_grad_()
    plain = getattr(reference_losses, operator.removeprefix("interpolate_") + "_loss")
    loss = plain(scores, w.maps[1], convention=regions.CONVENTION)
    (gradient,) = torch.autograd.grad(loss, scores)
    w.maps = (scores.detach(), w.maps[1])
    found = exact.dice_and_gradient(w)
    torch.testing.assert_close(found[0], loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], gradient, rtol=1e-9, atol=1e-15)


def test_truth_of_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BAND_BYTES", 2**16)
    w = workload("interpolate_argmax/voc-s8/float32-random")
    labels, gaps = exact.labels_and_gaps(w)
    best = logits(w).topk(2, dim=1).values
    assert torch.equal(labels, logits(w).argmax(dim=1))
    torch.testing.assert_close(gaps, best[:, 0] - best[:, 1], rtol=0, atol=1e-12)


def check(w: Workload, function: Any, kind: Any = "project") -> dict[str, Any]:
    implementation = Implementation("changed", function, kind)
    return Accuracy(w).check(implementation, implementation.prepare(w)())


def test_a_wrong_loss_is_found() -> None:
    w = workload("interpolate_cross_entropy/voc-s8/float32")

    def scaled(w: Workload, *maps: torch.Tensor) -> torch.Tensor:
        return heads.project_interpolate_loss(w, *maps) * (1 + 3e-5)

    found = check(w, scaled)
    assert not found["correct"]
    assert found["loss_error"] == pytest.approx(3e-5, rel=0.1)
    # A float32 sum over millions of pixels may be as far off as that: shown, and no failure.
    assert check(w, scaled, "peer")["correct"]

    def void_counted(w: Workload, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return heads.interpolate_loss(w, scores, torch.where(target == 255, 0, target))

    assert not check(w, void_counted, "peer")["correct"]
    assert not check(w, lambda w, *m: heads.interpolate_loss(w, *m) * torch.nan)["correct"]


def test_a_wrong_accuracy_is_found() -> None:
    w = workload("interpolate_accuracy_cross_entropy/voc-s8/float32-trained")
    pixels = int((w.maps[1] != w.case.ignore_index).sum())

    def more(number: float) -> Any:
        def changed(w: Workload, *maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            loss, accuracy = heads.project_accuracy(w, *maps)
            return loss, accuracy + number / pixels

        return changed

    assert check(w, more(0))["wrong_hits"] == 0
    found = check(w, more(3))
    assert found["wrong_hits"] >= 1
    assert not found["correct"]
    assert not check(w, more(torch.nan))["correct"]


def test_wrong_labels_and_counts_are_found() -> None:
    w = workload("interpolate_argmax/voc-s8/float32-random")

    def shifted(w: Workload, scores: torch.Tensor) -> torch.Tensor:
        return heads.project_argmax(w, scores).roll(1, dims=2)

    found = check(w, shifted)
    assert found["wrong_labels"] > 0
    assert not found["correct"]
    w = workload("interpolate_confusion_matrix/voc-s8/float32-random")

    def one_more(w: Workload, *maps: torch.Tensor) -> torch.Tensor:
        counts = heads.project_counts(w, *maps)
        counts[0, 0] += 1
        return counts

    def one_moved(w: Workload, *maps: torch.Tensor) -> torch.Tensor:
        counts = one_more(w, *maps)
        counts[tuple((counts > 0).nonzero()[-1])] -= 1
        return counts

    for function in (one_more, one_moved):
        for kind in ("project", "peer"):
            found = check(w, function, kind)
            assert found["wrong_counts"] > 0
            assert not found["correct"]


def test_a_close_call_may_go_either_way() -> None:
    w = workload("interpolate_argmax/voc-s8/float32-trained")
    w.maps = (torch.zeros_like(w.maps[0]),)
    found = check(w, lambda w, scores: torch.ones(len(scores), *w.case.size, dtype=torch.uint8))
    assert found["wrong_labels"] == 0
    assert found["close_calls"] == 2 * w.case.height * w.case.width


def test_what_is_run() -> None:
    row = Row("interpolate_cross_entropy", *_first("ade-full-s4"))
    assert row.case.ignore_index == -1  # type: ignore[union-attr]
    w = workload("interpolate_cross_entropy/voc-s8/float32-channels_last")
    assert w.maps[0].is_contiguous(memory_format=torch.channels_last)
    assert w.maps[1].dtype == torch.int64
    assert 255 in w.maps[1]
    _, gradient = IMPLEMENTATIONS[w.row.operator][0].prepare(w)()
    assert gradient.shape == w.maps[0].shape
    trained, random = (
        workload(f"interpolate_argmax/voc-s8/float32-{kind}").maps[0]
        for kind in ("trained", "random")
    )
    assert not torch.equal(trained, random)
    assert random.std() == pytest.approx(2, rel=0.2)
    assert {row.case.name for row in rows() if row.head and row.compiled} == {"voc-s8", "ade20k-s8"}
    assert set(SWEEP) <= set(HEADS)


def _first(case: str) -> tuple[Any, Any]:
    row = next(rows((f"interpolate_cross_entropy/{case}/float32",)))
    return row.case, row.variant

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fcn_ext import ops
from fcn_ext.metrics import ConfusionMatrix, scores_from_matrix


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
    with pytest.raises(ValueError, match="out must have shape"):
        ConfusionMatrix(4).update_upsampled(scores, target, 4)


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


def _share(rank: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=3
    )
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(7, 4, 9, 9, generator=generator)
    target = torch.randint(0, 4, (7, 9, 9), generator=generator)
    matrix = ConfusionMatrix(4)
    matrix.update(logits[rank::3], target[rank::3])
    matrix.all_reduce()
    torch.save(matrix.matrix, f"{folder}/matrix{rank}.pt")
    dist.destroy_process_group()


def test_all_reduce_is_exact(tmp_path: object) -> None:
    """Three processes, seven images: the same integers as one process."""
    mp.spawn(_share, args=(str(tmp_path),), nprocs=3)
    generator = torch.Generator().manual_seed(5)
    whole = ConfusionMatrix(4)
    logits = torch.randn(7, 4, 9, 9, generator=generator)
    whole.update(logits, torch.randint(0, 4, (7, 9, 9), generator=generator))
    for rank in range(3):
        assert torch.equal(torch.load(f"{tmp_path}/matrix{rank}.pt"), whole.matrix)


def test_counts_begun_in_inference_mode_are_counts() -> None:
    labels = torch.zeros(1, 2, 3, dtype=torch.uint8)
    matrix = ConfusionMatrix(2)
    with torch.inference_mode():
        matrix.update(labels, labels)
    matrix.update(labels, labels)
    assert matrix.compute().num_pixels == 12
    matrix.reset()
    assert matrix.compute().num_pixels == 0

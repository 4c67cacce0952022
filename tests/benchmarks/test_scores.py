"""The stored scores look trained, and fill maps of any size and number of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import scores
from benchmarks.scores import FILE, trained_scores


def test_shape_and_repetition() -> None:
    for shape in ((1, 3, 5, 7), (2, 21, 63, 63), (1, 150, 20, 30), (1, 847, 20, 30)):
        first = trained_scores(*shape)
        assert first.shape == shape
        assert first.dtype == torch.float32
        assert first.is_contiguous()
        assert torch.equal(first, trained_scores(*shape))
    assert FILE.stat().st_size <= 300_000


def test_images_side_by_side() -> None:
    map = trained_scores(2, 21, 30, 40)
    tiles = scores._tiles()
    height, width = tiles.shape[2:]
    assert torch.equal(map[0, :, :height, :width], tiles[0])
    assert torch.equal(map[0, :, :height, width : 2 * width], tiles[1])
    assert not torch.equal(map[0], map[1])


@pytest.mark.parametrize(("channels", "extra_wins"), [(21, 0), (150, 0.2), (847, 0.3)])
def test_few_classes_compete(channels: int, extra_wins: float) -> None:
    map = trained_scores(1, channels, 64, 64)
    winner = map.argmax(dim=1)
    assert (winner >= 21).float().mean() <= extra_wins
    # Neighbors agree, and more than one class is found.
    assert (winner[:, :, 1:] == winner[:, :, :-1]).float().mean() > 0.6
    assert len(winner.unique()) >= 15
    assert torch.equal(map[:, :21], trained_scores(1, 21, 64, 64))


def test_extra_classes_lost_elsewhere() -> None:
    map = trained_scores(1, 23, 24, 32)
    ranked = map[:, :21].sort(dim=1, descending=True).values
    for extra in (0, 1):
        assert torch.equal(map[:, 21 + extra], ranked[:, 1 + extra].roll(scores.SHIFT, (1, 2)))


def test_saved_from_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tyro")
    from fcn_train import run
    from fcn_train.data import write_sample_dataset
    from fcn_train.network import build_network
    from fcn_train.options import ModelOptions, TrainOptions

    data = tmp_path / "data"
    write_sample_dataset(data, train=2, val=5)
    classes = run.Classes(("",) * 21, np.zeros((256, 3), dtype=np.uint8))
    options = TrainOptions(model=ModelOptions(width=1 / 16, fc_channels=8))
    model = build_network(options.model, 21).eval()
    trained = run.TrainedRun(tmp_path, options, classes, model)
    monkeypatch.setattr(run, "load_run", lambda path: trained)
    saved = scores.save_scores(tmp_path, tmp_path / "scores.npz", data)
    # Images of the commoner of two sizes, their cells alone.
    assert 3 <= len(saved) <= 5
    assert set(saved.shape[2:]) == {12, 16}
    assert saved.dtype == torch.float16
    assert saved.isfinite().all()
    assert (tmp_path / "scores.npz").stat().st_size > 0
    assert scores.main([]) == 2
    assert "RUN_FOLDER" in capsys.readouterr().err

"""Training and scoring with several sets of labels, each with a head."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fcn_ext.models import MultiHeadFCN
from fcn_train.config import load_config
from fcn_train.options import TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train
from tests.train.pages import Page
from tests.train.running import assert_same_run, killed

pytestmark = pytest.mark.usefixtures("no_pictures")

Command = Callable[..., tuple[int, str, str]]
SETS = ["semantic", "geometric"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_scores_each_set(both: Path) -> None:
    metrics = json.loads((both / "metrics.json").read_text())
    assert list(metrics["label_sets"]) == SETS
    assert [len(metrics["label_sets"][name]["classes"]) for name in SETS] == [33, 3]
    last = table(both / "evaluations.csv")[-1]
    for name in SETS:
        scores = metrics["label_sets"][name]
        for score in ("pixel_accuracy", "mean_iu"):
            assert float(last[f"{name}_{score}"]) == pytest.approx(scores[score])
        counts = table(both / f"confusion_matrix-{name}.csv")
        pixels = sum(int(value) for row in counts for key, value in row.items() if "\\" not in key)
        assert pixels == scores["num_pixels"] > 0
        assert len(table(both / f"per_class-{name}.csv")) == len(scores["classes"])
    page = (both / "report.html").read_text()
    for name in SETS:
        assert f"<h2>Scores: {name}</h2>" in page
        assert (both / f"overlays-{name}.png").is_file()
        assert f"Predictions: {name}" in page
    assert isinstance(load_run(both).model, MultiHeadFCN)
    assert [classes.label_set for classes in load_run(both).label_sets] == SETS


def test_runs_of_two_sets_side_by_side(
    both: Path, semantic: Path, command: Command, tmp_path: Path
) -> None:
    """Tables and images of each set; a run of one of them has no table in common."""
    copy = Path(shutil.copytree(both, tmp_path / "copy"))
    output = tmp_path / "page.html"
    flags = ("--images", "1", "--threads", "1", "--output", output)
    code, out, err = command("compare", both, copy, *flags)
    assert (code, err) == (0, "")
    page = Page(output.read_text())
    for name in SETS:
        assert f"scores, {name}" in out
        assert f"Images that differ most: {name}" in page.text
    assert len(page.images) == 1 + 2 * 4
    code, _, err = command("compare", both, semantic, *flags)
    assert code == 0
    assert "semantic has other classes (33) than both (33 and 3)" in err
    assert "no images are compared" in err


@pytest.mark.parametrize("step", [1, 4])
def test_a_killed_run_continues_bit_for_bit(
    step: int, both: Path, options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = killed(options, tmp_path / "run", step, monkeypatch)
    train(load_config(run), run)
    assert_same_run(run, both)


def test_a_head_without_weight_changes_nothing_for_the_other(
    semantic: Path, options: TrainOptions, tmp_path: Path
) -> None:
    """Bit for bit: the first head learns as it does alone."""
    model = replace(options.model, head_weights="semantic=1,geometric=0")
    run = train(replace(options, model=model, output=tmp_path / "run"))
    alone, together = (load_file(folder / "last.safetensors") for folder in (semantic, run))
    assert not together["geometric.score_fr.weight"].any()
    assert alone["score_fr.weight"].any()
    for name, value in alone.items():
        key = name if name in together else f"semantic.{name}"
        assert torch.equal(together[key], value), name
    expected = table(semantic / "evaluations.csv")
    for row, wanted in zip(table(run / "evaluations.csv"), expected, strict=True):
        assert row["semantic_mean_iu"] == wanted["mean_iu"]
    expected = table(semantic / "training.csv")
    for row in (found := table(run / "training.csv")):
        assert row.pop("loss_semantic") == row["loss"]
        assert float(row.pop("loss_geometric")) > 0
    assert found == expected


def test_the_best_weights_are_those_of_the_first_set(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The semantic score falls while the geometric one rises: the first evaluation is the best."""
    from fcn_train import training

    scored = training.scores_of
    calls = 0

    def scores_of(counts: Any) -> Any:
        nonlocal calls
        calls += 1
        first, second = scored(counts).values()
        mean_iu = {"mean_iu": 1 / calls}, {"mean_iu": calls / 10}
        pairs = zip(SETS, (first, second), mean_iu, strict=True)
        return {name: replace(scores, **changed) for name, scores, changed in pairs}

    monkeypatch.setattr(training, "scores_of", scores_of)
    saved: list[str] = []
    save = training.save_weights
    monkeypatch.setattr(
        training,
        "save_weights",
        lambda path, weights: (saved.append(path.name), save(path, weights)),
    )
    train(replace(options, patience=1, output=tmp_path / "run"))
    assert saved == ["best.safetensors", "last.safetensors"]
    assert [row["step"] for row in table(tmp_path / "run" / "evaluations.csv")] == ["2", "4"]


def test_a_run_is_scored_again_either_way(both: Path, command: Command, tmp_path: Path) -> None:
    trained = json.loads((both / "metrics.json").read_text())["label_sets"]
    for logits in ("coarse", "full"):
        folder = tmp_path / logits
        flags = ("--run", both, "--logits", logits, "--batch", "2", "--output", folder)
        code, out, err = command("evaluate", *flags)
        assert code == 0, err
        assert "2 images of SIFT Flow, test: semantic: mean IU" in out
        assert "; geometric: mean IU" in out
        assert json.loads((folder / "metrics.json").read_text())["label_sets"] == trained


def test_full_logits_train_the_same_way(both: Path, options: TrainOptions, tmp_path: Path) -> None:
    run = train(replace(options, logits="full", output=tmp_path / "run"))
    losses = [float(row["loss"]) for row in table(run / "training.csv")]
    expected = [float(row["loss"]) for row in table(both / "training.csv")]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


def test_prediction_writes_a_map_for_each_head(
    both: Path, semantic: Path, command: Command, root: Path, tmp_path: Path
) -> None:
    image = next((root / "Images").rglob("val*.jpg"))
    given = ("predict", image, "--run", both, "--output")
    assert command(*given, tmp_path / "out")[0] == 0
    assert command(*given, tmp_path / "one", "--label-set", "geometric")[0] == 0
    names = [f"{image.stem}.png", f"{image.stem}-overlay.png"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(names)
    run = load_run(both)
    for classes in run.label_sets:
        folder = tmp_path / "out" / classes.label_set
        with Image.open(folder / names[0]) as picture:
            labels = np.array(picture)
            assert picture.getpalette() == classes.palette.ravel().tolist()
        assert labels.max() < len(classes.names)
        assert (folder / names[1]).is_file()
    assert (tmp_path / "one" / names[0]).read_bytes() == (folder / names[0]).read_bytes()
    code, _, err = command(*given, tmp_path / "two", "--label-set", "depth")
    assert (code, err) == (
        2,
        f"fcn: --label-set must be one that {both} learned, semantic or geometric, got 'depth'\n",
    )
    flags = ("--run", semantic, "--output", tmp_path / "two", "--label-set", "semantic")
    code, _, err = command("predict", image, *flags)
    assert code == 2
    assert err == f"fcn: --label-set has no meaning for {semantic}, which learned one set\n"
    assert not (tmp_path / "two").exists()


def test_images_are_no_results_of_an_earlier_prediction(
    both: Path, command: Command, root: Path, tmp_path: Path
) -> None:
    shutil.copy(next((root / "Images").rglob("val*.jpg")), tmp_path / "a.jpg")
    given = ("predict", tmp_path, "--run", both, "--output", tmp_path / "out")
    for _ in range(2):
        code, out, _ = command(*given)
        assert code == 0
        assert "1 of 1 image segmented" in out
    Image.new("RGB", (9, 9)).save(tmp_path / "out" / "geometric" / "b.png")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    code, _, err = command(
        *given[:1], tmp_path / "out" / "geometric" / "b.png", tmp_path / "b.jpg", *given[2:]
    )
    assert code == 2
    assert "its result would replace that of" in err

"""Several sets of labels, each with a head: from `fcn train` to `fcn predict`."""

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
from fcn_train.data import write_sample_dataset
from fcn_train.options import DataOptions, ModelOptions, OptimOptions, TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train

from .pages import Page
from .running import assert_same_run, killed

pytestmark = pytest.mark.usefixtures("no_pictures")

Command = Callable[..., tuple[int, str, str]]
SETS = ["semantic", "geometric"]
BOTH = ("--data.label-folder", "SemanticLabels,GeoLabels")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sift-flow"
    return write_sample_dataset(folder, layout="sift-flow", train=4, val=2, size=48)


@pytest.fixture(scope="module")
def options(root: Path) -> TrainOptions:
    """Four steps with everything that draws random numbers switched on."""
    return TrainOptions(
        data=DataOptions(
            kind="sift-flow",
            root=root,
            label_folder="SemanticLabels,GeoLabels",
            train_split="trainval",
            val_split="test",
            crop=32,
            scale=(0.8, 1.2),
        ),
        model=ModelOptions(width=0.05, fc_channels=16),
        optim=OptimOptions(batch=1, accumulate=2, lr=0.05, steps=4),
        evaluate_every=1.0,
        checkpoint_every=2,
        threads=1,
    )


@pytest.fixture
def flags(root: Path, tmp_path: Path) -> tuple[object, ...]:
    """Of a tiny run in tmp_path / "run"."""
    return (
        *("--data.kind", "sift-flow", "--data.root", root, "--data.crop", "32"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--threads", "1"),
        *("--optim.batch", "2", "--optim.steps", "1", "--output", tmp_path / "run"),
    )


@pytest.fixture(scope="module")
def both(options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two sets of labels, without its pictures."""
    torch.set_num_threads(1)
    return train(replace(options, output=tmp_path_factory.mktemp("run") / "both"))


@pytest.fixture(scope="module")
def semantic(options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `both`, of the semantic labels alone."""
    data = replace(options.data, label_folder="SemanticLabels")
    output = tmp_path_factory.mktemp("run") / "semantic"
    return train(replace(options, data=data, output=output))


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
        assert "1 of 1 images segmented" in out
    Image.new("RGB", (9, 9)).save(tmp_path / "out" / "geometric" / "b.png")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    code, _, err = command(
        *given[:1], tmp_path / "out" / "geometric" / "b.png", tmp_path / "b.jpg", *given[2:]
    )
    assert code == 2
    assert "its result would replace that of" in err


def test_the_chain_of_coarser_runs(options: TrainOptions, tmp_path: Path) -> None:
    """32s to 16s to 8s, each with both heads."""
    optim = replace(options.optim, steps=1, lr=1e-9)
    before: Path | None = None
    for name in ("fcn32s", "fcn16s", "fcn8s"):
        model = replace(options.model, name=name)  # type: ignore[arg-type]
        output = tmp_path / name
        lr = 0.05 if before is None else 1e-9
        finer = replace(options, model=model, optim=replace(optim, lr=lr), output=output)
        run = train(replace(finer, init_coarser=before))
        if before is not None:
            weights = load_file(before / "last.safetensors")
            for key, value in load_file(run / "last.safetensors").items():
                if key in weights and "running" not in key and "num_batches" not in key:
                    torch.testing.assert_close(value, weights[key], atol=1e-6, rtol=1e-6)
        before = run


def test_a_net_of_two_heads_starts_from_one_of_one(
    semantic: Path,
    both: Path,
    options: TrainOptions,
    flags: tuple[object, ...],
    command: Command,
    tmp_path: Path,
) -> None:
    """The head of the same classes takes its score layers, the other starts from zero; and back."""
    small = (*flags, "--optim.lr", "1e-9", "--optim.warmup", "0")
    code, out, err = command("train", *small, *BOTH, "--init-weights", semantic)
    assert code == 0, err
    assert f"{semantic}: " in out
    assert "at their initial values: geometric.score_fr.weight" in out
    known = load_file(semantic / "last.safetensors")
    found = load_file(tmp_path / "run" / "last.safetensors")
    torch.testing.assert_close(
        found["semantic.score_fr.weight"], known["score_fr.weight"], atol=1e-6, rtol=1e-5
    )
    assert found["geometric.score_fr.weight"].abs().max() < 1e-6
    one = (*small[:-1], "0", "--output", tmp_path / "one", "--init-weights", both)
    code, out, err = command("train", *one, "--data.label-folder", "GeoLabels")
    assert code == 0, err
    assert "left out: semantic.score_fr.weight" in out
    torch.testing.assert_close(
        load_file(tmp_path / "one" / "last.safetensors")["score_fr.weight"],
        load_file(both / "last.safetensors")["geometric.score_fr.weight"],
        atol=1e-6,
        rtol=1e-5,
    )


def test_three_sets_of_a_folder(command: Command, tmp_path: Path) -> None:
    """Any number of heads; the classes of each in a file."""
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=3, val=1, size=48)
    shutil.copytree(root / "geometry", root / "third")
    (root / "classes-third.txt").write_text("a\nb\nc\nd\n")
    run = tmp_path / "run"
    code, _, err = command(
        *("train", "--model", "fcn-squeezenet", "--data.kind", "folder", "--data.root", root),
        *("--data.label-folder", "labels,geometry,third", "--model.width", "0.1"),
        *("--model.head-weights", "third=0.25,labels=1,geometry=0.5", "--data.crop", "32"),
        *("--optim.class-weights", "labels=none,geometry=median-frequency,third=none"),
        *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1", "--output", run),
    )
    assert code == 0, err
    model = load_run(run).model
    assert {name: head.num_classes for name, head in model.heads.items()} == {
        "labels": 21,
        "geometry": 3,
        "third": 4,
    }
    assert [head.loss_weight for head in model.heads.values()] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            (*BOTH, "--model.head-weights", "semantic=1"),
            "--model.head-weights must be a finite number >= 0 for each set of labels, not all 0, "
            "such as semantic=1,geometric=1, got 'semantic=1'",
        ),
        ((*BOTH, "--model.head-weights", "semantic=1,geometric=-1"), "got 'semantic=1,geometric=-"),
        ((*BOTH, "--model.head-weights", "semantic=0,geometric=0"), "not all 0"),
        ((*BOTH, "--model.head-weights", "semantic=inf,geometric=0"), "a finite number"),
        ((*BOTH, "--model.head-weights", "semantic=one,geometric=0"), "a finite number"),
        (
            ("--model.head-weights", "semantic=1"),
            "--model.head-weights needs several sets of labels (--data.label-folder), got one",
        ),
        (
            (*BOTH, "--optim.class-weights", "weights.txt"),
            "a file for each, such as semantic=weights.txt,geometric=none, got 'weights.txt'",
        ),
        (
            (*BOTH, "--optim.class-weights", "semantic=none,geometric=absent.txt"),
            "absent.txt: class weights cannot be read",
        ),
        (("--data.label-folder", "SemanticLabels,Depth"), "holds no labels of SIFT Flow; give"),
    ],
)
def test_bad_options_end_in_one_line(
    more: tuple[str, ...], message: str, flags: tuple[object, ...], command: Command, tmp_path: Path
) -> None:
    code, _, err = command("train", *flags, *more)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1 + err.count("warning: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["keys", "a.b", "a b", "main"])
def test_folders_that_can_name_no_head(name: str, command: Command, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=2, val=1, size=32)
    (root / "geometry").rename(root / name)
    (root / "classes-geometry.txt").rename(root / f"classes-{name}.txt")
    code, _, err = command(
        *("train", "--data.kind", "folder", "--data.root", root, "--output", tmp_path / "run"),
        *("--data.label-folder", f"labels,{name}"),
    )
    assert code == 2
    assert f"none can be called {name!r} (letters," in err


def test_runs_of_other_sets_are_refused(
    both: Path,
    semantic: Path,
    flags: tuple[object, ...],
    root: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    code, _, err = command("train", *flags, *BOTH, "--model", "fcn8s", "--init-coarser", semantic)
    assert code == 2
    assert f"{semantic}: was trained on one set of labels, SIFT Flow has 2 sets; give" in err
    data = ("--data-kind", "sift-flow", "--data-root", root)
    code, _, err = command("evaluate", "--run", both, *data)
    assert code == 2
    assert f"{both}: was trained on 2 sets of labels, SIFT Flow has one set; give a run" in err
    turned = ("--data.label-folder", "GeoLabels,SemanticLabels")
    code, _, err = command("train", "--resume", both, "--optim.steps", "5", *turned)
    assert code == 2
    assert "was started with data.label_folder = 'SemanticLabels,GeoLabels'" in err
    other = ("--data.val-kind", "sift-flow", "--data.val-root", root)
    code, _, err = command("train", *flags, *BOTH, *other)
    assert code == 2
    assert "SIFT Flow has 33 classes and SIFT Flow, which is trained on, 33 and 3, or other" in err


def test_a_renamed_class_of_the_second_set_ends_the_run(command: Command, tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=4, val=1, size=48)
    run = tmp_path / "run"
    flags = (
        *("--data.kind", "folder", "--data.root", root, "--data.label-folder", "labels,geometry"),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
        *("--optim.batch", "2", "--optim.steps", "1", "--threads", "1"),
    )
    assert command("train", *flags, "--output", run)[0] == 0
    (root / "classes-geometry.txt").write_text("sky\nflat\nvertical\n")
    code, _, err = command("train", "--resume", run, "--optim.steps", "2")
    assert code == 2
    assert "was 'horizontal', now 'flat'); restore them to continue" in err

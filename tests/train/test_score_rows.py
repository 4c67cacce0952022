"""``--init-scores``: scores that start from rows of the classifier's last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fcn_ext.models import build_classifier, classifier_state_dict
from fcn_train.data import open_dataset
from fcn_train.errors import UsageError
from fcn_train.initialize import initial_network
from fcn_train.network import build_network
from fcn_train.options import ModelOptions, TrainOptions
from fcn_train.score_rows import parse_rows, scores_from_classifier
from fcn_train.train import train

from .running import assert_same_run, killed

Command = Callable[..., tuple[int, str, str]]
NAMES = ("sky", "cat", "dog=wolf", "7")
WIDTH = 1 / 16
NARROW = ModelOptions(name="fcn-squeezenet-8s", width=WIDTH, fc_channels=0, batch_norm=False)


@pytest.fixture(scope="module")
def state() -> Mapping[str, Tensor]:
    torch.manual_seed(2)
    return classifier_state_dict(build_classifier("squeezenet", 12, width=WIDTH))


@pytest.fixture
def weights(state: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(state, tmp_path / "squeezenet.safetensors")
    return tmp_path / "squeezenet.safetensors"


@pytest.mark.parametrize(
    ("text", "rows", "rest"),
    [
        ("3=cat", {1: [3]}, None),
        ("281-283+7=cat, 0=sky,9=cat", {1: [281, 282, 283, 7, 9], 0: [0]}, None),
        ("4=dog=wolf", {2: [4]}, None),
        ("4=2,5=7", {2: [4], 3: [5]}, None),
        ("99999-99999=0", {0: [99999]}, None),
        ("3=cat,rest=sky", {1: [3]}, 0),
        ("rest=3", {}, 3),
    ],
)
def test_rows_are_read(text: str, rows: dict[int, list[int]], rest: int | None) -> None:
    assert parse_rows(text, NAMES) == (rows, rest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat=3", "must be ROWS=CLASS pairs as 281-285=cat,345.*, got 'cat=3'"),
        (",", "must be ROWS=CLASS pairs"),
        ("3=", "got '3='"),
        ("-3=cat", "got '-3=cat'"),
        ("3-=cat", "got '3-=cat'"),
        ("3+=cat", r"got '3\+=cat'"),
        ("3+rest=cat", r"got '3\+rest=cat'"),
        ("0-4000000000=cat", "got '0-4000000000=cat'"),
        ("1+9-3=cat", "must have ranges from low to high, got '9-3'"),
        ("3=horse", "must name classes of the data set, sky, cat, dog=wolf, 7, got 'horse'"),
        ("3=4", "must name classes of the data set, .*got '4'"),
        ("rest=sky,rest=cat", "must give the rest to one class, got 'rest=cat' too"),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rows(text, NAMES)


def test_network_starts_from_the_rows(
    weights: Path, state: Mapping[str, Tensor], tiny_options: TrainOptions, sample_root: Path
) -> None:
    train_set = open_dataset("sample", sample_root, "train")
    name = train_set.class_names[2]
    options = replace(tiny_options, model=NARROW, init_classifier=weights)
    without = initial_network(options, train_set, True, print, print).state_dict()
    assert not without["score_fr.weight"].any()
    given = initial_network(
        replace(options, init_scores=f"3-5={name},rest=background", init_scores_scale=0.5),
        train_set,
        True,
        print,
        print,
    ).state_dict()
    rows, found = state["conv10.weight"].flatten(1), given["score_fr.weight"].flatten(1)
    others = [row for row in range(12) if row not in (3, 4, 5)]
    torch.testing.assert_close(2 * found[2], rows[3:6].mean(0) - rows.mean(0))
    torch.testing.assert_close(2 * found[0], rows[others].mean(0) - rows.mean(0))
    assert not found[[index for index in range(len(found)) if index not in (0, 2)]].any()
    assert all(torch.equal(given[key], without[key]) for key in given if "score_fr" not in key)


def test_several_sets_of_labels_are_refused(weights: Path, state: Mapping[str, Tensor]) -> None:
    model = build_network(NARROW, {"semantic": 3, "geometric": 2})
    with pytest.raises(UsageError, match="--init-scores is for one set of labels, got 2"):
        scores_from_classifier(model, weights, state, "3=sky", 1.0, [NAMES[:3], NAMES[:2]])


@pytest.mark.parametrize(
    ("scores", "without", "message"),
    [
        ("12=background", "", r"squeezenet.safetensors: rows must lie in \[0, 12\), as conv10 has"),
        ("3=0,rest=0", "", "safetensors: rest must be a class that rows leaves out, got 0"),
        ("3=camel", "", "--init-scores must name classes of the data set, background, .*'camel'"),
        ("3=background", "conv10", "safetensors: must hold the last layer of squeezenet, conv10"),
    ],
)
def test_mistakes_end_in_one_line(
    scores: str,
    without: str,
    message: str,
    state: Mapping[str, Tensor],
    command: Command,
    sample_root: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "squeezenet.safetensors"
    kept = {key: value for key, value in state.items() if not without or without not in key}
    save_file(kept, path)
    code, _, err = command(
        *("train", "--data.root", sample_root, "--output", tmp_path / "run"),
        *("--init-classifier", path, "--init-scores", scores, "--model", NARROW.name),
        *("--model.no-batch-norm", "--model.width", str(WIDTH), "--model.fc-channels", "0"),
    )
    assert (code, err.count("\n")) == (2, 1), err
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert not (tmp_path / "run").exists()


def test_rows_without_a_classifier_are_refused(command: Command, tmp_path: Path) -> None:
    code, _, err = command("train", "--init-scores", "3=cat", "--output", tmp_path / "run")
    assert (code, err) == (
        2,
        "fcn: --init-scores names rows of the classifier that --init-classifier gives, which is "
        "missing\n",
    )


@pytest.mark.usefixtures("no_pictures")
def test_interrupted_run_continues_bit_equal(
    weights: Path,
    tiny_options: TrainOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its scores are the checkpoint's: the classifier, gone by then, is not read again."""
    options = replace(
        tiny_options,
        model=NARROW,
        optim=replace(tiny_options.optim, steps=4),
        init_classifier=weights,
        init_scores="0-2=background",
    )
    expected = train(replace(options, output=tmp_path / "expected"))
    run = killed(options, tmp_path / "run", 3, monkeypatch)
    weights.unlink()
    train(replace(options, output=run), run)
    assert_same_run(run, expected)

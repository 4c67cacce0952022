"""Options that a program has made: what the command line would refuse is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn_train.config import load_config, of_types
from fcn_train.data import IMAGENET, image_to_tensor, open_dataset
from fcn_train.errors import UsageError
from fcn_train.evaluate import evaluate_run
from fcn_train.options import EvaluateOptions, PredictOptions, TrainOptions
from fcn_train.predict import predict
from fcn_train.train import train

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("", "amp", "fp8", "amp must be one of none, bf16, fp16, got 'fp8'"),
        ("", "logits", "huh", "logits must be one of coarse, full, got 'huh'"),
        ("", "threads", "2", "threads must be of type int, got '2'"),
        ("", "patience", True, "patience must be of type int, got True"),
        ("", "compile", 1, "compile must be of type bool, got 1"),
        ("", "output", 3, "output must be of type Path, got 3"),
        ("data", "kind", "nonsense", "data.kind must be one of sample, voc, "),
        ("data", "mask", "x", "data.mask must be one of none, "),
        ("data", "sampling", "x", "data.sampling must be one of shuffle, replacement, got 'x'"),
        ("data", "transfer", "x", "data.transfer must be one of "),
        ("data", "scale", 1.0, "data.scale must be a list of 2 values, got 1.0"),
        ("data", "scale", (0.5, "a"), "data.scale must be of type float, got 'a'"),
        ("data", "root", "", "data.root must be a path or null, got ''"),
        ("model", "name", "fcn9s", "model.name must be one of fcn32s, "),
        ("model", "input", "x", "model.input must be one of imagenet, caffe, got 'x'"),
        ("model", "skip_scales", 1.0, "model.skip_scales must be a list, got 1.0"),
        ("optim", "batch", 2.0, "optim.batch must be of type int, got 2.0"),
        ("optim", "steps", "8", "optim.steps must be of type int, got '8'"),
        ("optim", "lr", None, "optim.lr must be of type float, got None"),
        ("optim", "schedule", "step", "optim.schedule must be one of poly, cosine, fixed, got"),
        ("optim", "method", "rmsprop", "optim.method must be one of sgd, adamw, got 'rmsprop'"),
        ("optim", "loss", "max", "optim.loss must be one of mean, sum, got 'max'"),
    ],
)
def test_values_of_training_are_those_of_the_command_line(
    group: str, name: str, value: Any, said: str, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    options: Any = replace(tiny_options, output=tmp_path / "run")
    changed: dict[str, Any] = {name: value}
    if group:
        changed = {group: replace(getattr(options, group), **changed)}
    with pytest.raises(UsageError) as raised:
        train(replace(options, **changed))
    assert str(raised.value).startswith(f"TrainOptions: {said}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [None, {"amp": "none"}, EvaluateOptions()])
def test_other_things_than_options_are_refused(options: Any) -> None:
    said = f"options must be TrainOptions, got {type(options).__name__}"
    with pytest.raises(UsageError, match=said):
        train(options)


def test_paths_may_be_text_and_pairs_lists(
    tiny_options: TrainOptions, sample_root: Path, tmp_path: Path
) -> None:
    data: Any = {"root": str(sample_root), "scale": [0.8, 1.2]}
    output: Any = str(tmp_path / "run")
    options = replace(tiny_options, data=replace(tiny_options.data, **data), output=output)
    run: Any = str(train(options))
    assert load_config(Path(run)) == tiny_options
    assert train(options, run) == tmp_path / "run"  # is finished
    report: Any = str(tmp_path / "report")
    evaluate_run(EvaluateOptions(folder=run, output=report, threads=1))
    assert (tmp_path / "report" / "metrics.json").exists()
    images: Any = [run, str(sample_root / "JPEGImages")]
    maps: Any = str(tmp_path / "maps")
    assert predict(PredictOptions(images=images, output=maps, threads=1)) == 0


def test_values_of_scores_and_predictions(finished_run: Path, tmp_path: Path) -> None:
    wrong: Any = "worst"
    with pytest.raises(UsageError, match=r"EvaluateOptions: weights must be one of last, best"):
        evaluate_run(EvaluateOptions(folder=finished_run, weights=wrong))
    with pytest.raises(UsageError, match=r"EvaluateOptions: logits must be one of coarse, full"):
        evaluate_run(EvaluateOptions(folder=finished_run, logits=wrong))
    with pytest.raises(UsageError, match=r"PredictOptions: images must be a list, got 'worst'"):
        predict(PredictOptions(images=wrong, output=tmp_path / "maps"))
    tile: Any = "512"
    with pytest.raises(UsageError, match=r"PredictOptions: tile must be of type int, got '512'"):
        predict(PredictOptions(images=(finished_run,), output=tmp_path / "maps", tile=tile))


@pytest.mark.parametrize("name", ["resume", "config"])
@pytest.mark.parametrize("value", ["run", "auto"])
def test_options_that_only_the_command_line_reads_are_refused(
    name: str, value: str, tiny_options: TrainOptions, tmp_path: Path
) -> None:
    """They had no effect: another run was begun in place of the one to continue."""
    options = replace(tiny_options, output=tmp_path / "run", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"TrainOptions: {name} is read by the command line alone"):
        train(options)
    assert not (tmp_path / "run").exists()


def test_options_stay_as_they_are(tiny_options: TrainOptions, tmp_path: Path) -> None:
    options = replace(tiny_options, output=tmp_path, resume="auto", profile=True)
    assert of_types(options, TrainOptions) == options


@pytest.mark.parametrize(
    ("image", "normalization", "error", "said"),
    [
        ("a.png", IMAGENET, TypeError, "image must be an array, got str"),
        (np.zeros((3, 3)), IMAGENET, ValueError, r"image must be \(H, W, 3\) uint8, got \(3, 3\)"),
        (np.zeros((3, 3, 4), np.uint8), IMAGENET, ValueError, r"got \(3, 3, 4\) uint8"),
        (np.zeros((3, 3, 3)), IMAGENET, ValueError, r"got \(3, 3, 3\) float64"),
        (np.zeros((3, 3, 3), np.uint8), "imagenet", TypeError, "normalization must be one as IM"),
    ],
)
def test_images_that_are_none(
    image: Any, normalization: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        image_to_tensor(image, normalization)


def test_data_sets_of_other_things(sample_root: Path) -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="root must be a path, got NoneType"):
        open_dataset("sample", nothing, "train")
    with pytest.raises(TypeError, match="split must be the name or path of a list, or '', got No"):
        open_dataset("sample", sample_root, nothing)
    with pytest.raises(TypeError, match="num_classes must be an integer, got '2'"):
        open_dataset("folder", sample_root, "train", num_classes="2")
    for name, value in (("channels", "colour"), ("channels", ""), ("exif", "up"), ("exif", None)):
        with pytest.raises(ValueError, match=f"{name} must be one of [a-z, -]+, got {value!r}"):
            open_dataset("folder", sample_root, "train", strict=False, **{name: value})
    for name, value, said in (
        ("coding", "voc", "coding must be a LabelCoding, got 'voc'"),
        ("class_names", "abc", "class_names must be a list of names, got 'abc'"),
        (
            "label_folder",
            ("a", "b"),
            r"label_folder must be a text, several as 'labels,parts'",
        ),
        ("label_suffix", None, "label_suffix must be a text, got None"),
        ("image_folder", 3, "image_folder must be a text, got 3"),
    ):
        with pytest.raises(TypeError, match=said):
            open_dataset("folder", sample_root, "train", strict=False, **{name: value})
    folders: Any = {"image_folder": Path("JPEGImages"), "label_folder": Path("SegmentationClass")}
    assert len(open_dataset("folder", sample_root, "", **folders)) == 9
    listed = sample_root / "ImageSets" / "Segmentation" / "val.txt"
    assert len(open_dataset("sample", sample_root, listed)) == 3  # type: ignore[arg-type]

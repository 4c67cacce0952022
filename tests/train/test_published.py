"""Each published experiment has a recipe, with the published settings, and it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcn_ext.models import classifier_state_dict
from fcn_train.command_line import train_defaults
from fcn_train.config import from_dict
from fcn_train.data import write_sample_dataset
from fcn_train.errors import UsageError
from fcn_train.experiment_file import Start
from fcn_train.network import build_network
from fcn_train.option_rules import check
from fcn_train.options import TrainOptions
from fcn_train.published import EXPERIMENTS, check_start, experiment_options
from fcn_train.recipes import recipe_options

Command = Callable[..., tuple[int, str, str]]


class Solver(NamedTuple):
    """A row of the published solvers."""

    rate: float
    momentum: float
    images: int
    loss: str
    start: Start
    steps: int


VGG16, ALEXNET, GOOGLENET = Start("VGG16"), Start("AlexNet"), Start("GoogLeNet")


def after(recipe: str) -> Start:
    return Start(coarser=recipe)


# base_lr, momentum, iter_size and normalize of solver.prototxt and net.py, and the weights and the
# number of steps of solve.py, of shelhamer/fcn.berkeleyvision.org: max_iter does not count, since
# solver.step() ignores it. The runs of color and HHA that late fusion starts from are its own.
SOLVERS = {
    "voc-fcn32s-heavy": Solver(1e-10, 0.99, 1, "sum", VGG16, 100_000),
    "voc-fcn16s-heavy": Solver(1e-12, 0.99, 1, "sum", after("voc-fcn32s-heavy"), 100_000),
    "voc-fcn8s-heavy": Solver(1e-14, 0.99, 1, "sum", after("voc-fcn16s-heavy"), 100_000),
    "voc-fcn8s-atonce-heavy": Solver(1e-10, 0.99, 1, "sum", VGG16, 300_000),
    "voc-fcn-alexnet": Solver(1e-4, 0.9, 20, "mean", ALEXNET, 100_000),
    "nyud-fcn32s-color": Solver(1e-10, 0.99, 1, "sum", VGG16, 100_000),
    "nyud-fcn32s-hha": Solver(1e-10, 0.99, 1, "sum", VGG16, 100_000),
    "nyud-fcn32s-color-d": Solver(1e-10, 0.99, 1, "sum", VGG16, 100_000),
    "nyud-fcn32s-color-hha": Solver(
        1e-12,
        0.99,
        1,
        "sum",
        Start(streams={"color": "nyud-fcn32s-color", "hha": "nyud-fcn32s-hha"}),
        100_000,
    ),
    "siftflow-fcn32s": Solver(1e-10, 0.99, 1, "sum", VGG16, 100_000),
    "siftflow-fcn16s": Solver(1e-12, 0.99, 1, "sum", after("siftflow-fcn32s"), 100_000),
    "siftflow-fcn8s": Solver(1e-12, 0.99, 1, "sum", after("siftflow-fcn16s"), 100_000),
    "pascal-context-fcn32s": Solver(1e-10, 0.99, 1, "sum", VGG16, 400_000),
    "pascal-context-fcn16s": Solver(1e-12, 0.99, 1, "sum", after("pascal-context-fcn32s"), 400_000),
    "pascal-context-fcn8s": Solver(1e-14, 0.99, 1, "sum", after("pascal-context-fcn16s"), 400_000),
}

# The text of CVPR 2015 (arXiv 1411.4038v2): a step of 20 images with momentum 0.9 for 175 epochs;
# 1e-3, 1e-4 and 5e-5 for AlexNet, VGG16 and GoogLeNet (section 4.3), a hundredth of it with each
# skip (section 4.2). Mean IU of Tables 1, 2 and 4.
PAPER: dict[str, tuple[float, Start, float]] = {
    "voc-fcn32s-paper": (1e-4, VGG16, 59.4),
    "voc-fcn16s-paper": (1e-6, after("voc-fcn32s-paper"), 62.4),
    "voc-fcn8s-paper": (1e-8, after("voc-fcn16s-paper"), 62.7),
    "voc-fcn32s-fixed-paper": (1e-4, VGG16, 45.4),
    "voc11-fcn32s-paper": (1e-4, VGG16, 56.0),
    "voc11-fcn-alexnet-paper": (1e-3, ALEXNET, 39.8),
    "voc11-fcn-googlenet-paper": (5e-5, GOOGLENET, 42.5),
    "nyud-fcn16s-color-hha-paper": (1e-6, after("nyud-fcn32s-color-hha"), 34.0),
}

# The README of the repository (VOC, seg11valid), and Tables 4, 5 and 6 of arXiv 1411.4038v2.
MEAN_IU = {
    "voc-fcn32s-heavy": 63.6,
    "voc-fcn16s-heavy": 65.0,
    "voc-fcn8s-heavy": 65.5,
    "voc-fcn8s-atonce-heavy": 65.4,
    "voc-fcn-alexnet": 48.0,
    "nyud-fcn32s-color": 29.2,
    "nyud-fcn32s-hha": 24.2,
    "nyud-fcn32s-color-d": 30.5,
    "nyud-fcn32s-color-hha": 32.8,
    "siftflow-fcn32s": None,
    "siftflow-fcn16s": 39.5,
    "siftflow-fcn8s": None,
    "pascal-context-fcn32s": 31.8,
    "pascal-context-fcn16s": 34.8,
    "pascal-context-fcn8s": 35.1,
}

# Splits and mean colors (B, G, R) of the data layers; NYUDv2 as was meant, scored on its test.
DATA = {
    "voc": ("sbd", "train", "voc", "seg11valid", (104.00699, 116.66877, 122.67892)),
    "voc11": ("voc", "train", None, "val", (104.00699, 116.66877, 122.67892)),
    "nyud": ("nyud", "trainval", None, "test", (116.190, 97.203, 92.318)),
    "siftflow": ("sift-flow", "trainval", None, "test", (114.578, 115.294, 108.353)),
    "pascal": ("pascal-context", "train", None, "val", (104.00699, 116.66877, 122.67892)),
}


def test_every_experiment_is_listed() -> None:
    assert set(EXPERIMENTS) == set(SOLVERS) | set(PAPER)
    assert set(MEAN_IU) == set(SOLVERS)


@pytest.mark.parametrize("name", SOLVERS)
def test_settings_are_those_of_the_published_solver(name: str) -> None:
    solver, options = SOLVERS[name], experiment_options(name)
    optim = options.optim
    assert (optim.lr, optim.momentum, optim.loss) == (solver.rate, solver.momentum, solver.loss)
    assert (optim.batch, optim.accumulate, optim.steps) == (1, solver.images, solver.steps)
    assert (optim.schedule, optim.warmup, optim.weight_decay) == ("fixed", 0, 5e-4)
    # AlexNet's convolutions say nothing of their biases, which learn as weights then.
    biases = (1.0, 1.0) if name == "voc-fcn-alexnet" else (2.0, 0.0)
    assert (optim.bias_lr, optim.bias_decay) == biases
    assert (optim.layers, optim.class_weights) == ("all", "none")
    assert options.data.sampling == "replacement"
    assert EXPERIMENTS[name].start == solver.start
    assert EXPERIMENTS[name].published.mean_iu == MEAN_IU[name]
    assert (options.model.upsampling, options.model.head_weights) == ("fixed", "")


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_those_of_the_paper(name: str) -> None:
    rate, start, mean_iu = PAPER[name]
    options, experiment = experiment_options(name), EXPERIMENTS[name]
    optim = options.optim
    assert (optim.lr, optim.momentum, optim.loss) == (rate, 0.9, "mean")
    assert (optim.batch * optim.accumulate, optim.epochs, optim.steps) == (20, 175.0, 0)
    assert (optim.schedule, optim.weight_decay) == ("fixed", 5e-4)
    assert (optim.bias_lr, optim.bias_decay) == (2.0, 0.0)
    assert (experiment.start, experiment.published.mean_iu) == (start, mean_iu)
    assert optim.layers == ("scores" if "fixed" in name else "all")
    # Upsampling between scores is learned, the last one is not (section 4.3).
    skips = "16s" in name or "8s" in name
    assert options.model.upsampling == ("inner=dense" if skips else "fixed")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_data_and_network_are_the_published_ones(name: str) -> None:
    options = experiment_options(name)
    check(options)
    assert options.recipe == name
    data, model = options.data, options.model
    kind, train_split, val_kind, val_split, mean = DATA[name.split("-")[0]]
    assert (data.kind, data.train_split, data.val_kind) == (kind, train_split, val_kind)
    assert data.val_split == val_split
    assert (data.crop, data.scale, data.mirror) == (0, (1.0, 1.0), False)
    assert (model.input, model.mean) == ("caffe", mean[::-1])
    assert (model.width, model.padding, model.batch_norm) == (1.0, "published", False)
    assert (model.fc_channels, model.skip_scales) == (0, ())
    net = "-".join(part for part in name.split("-") if part.startswith(("fcn", "atonce", "alex")))
    expected = "fcn-googlenet" if "googlenet" in name else net
    assert model.name == expected
    both = "SemanticLabels,GeoLabels" if kind == "sift-flow" else ""
    assert data.label_folder == both
    channels = {"-hha": "hha", "-color-hha": "color-hha", "-color-d": "color-depth"}
    rest = name.partition("fcn32s")[2] or name.partition("fcn16s")[2].removesuffix("-paper")
    assert data.channels == (channels.get(rest, "color") if kind == "nyud" else "color")
    assert model.fusion == ("late" if data.channels == "color-hha" else "early")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated set in the layouts of the published ones, in folders called as their kinds."""
    root = tmp_path_factory.mktemp("data")
    for layout in ("voc", "sbd", "nyud", "sift-flow", "pascal-context"):
        write_sample_dataset(root / layout, layout=layout, train=3, val=2, size=40)
    (root / "voc" / "classes.txt").unlink()  # VOC's own, as SBD's
    lists = root / "voc" / "ImageSets" / "Segmentation"
    shutil.copy(lists / "val.txt", lists / "seg11valid.txt")
    return root


TOY = (
    *("--model.width", "0.02", "--optim.steps", "1", "--optim.accumulate", "1"),
    *("--evaluate-every", "0", "--threads", "1"),
)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs of one step, each once, and those that it starts from before it."""
    from fcn_train.cli import main

    folder = tmp_path_factory.mktemp("runs")
    runs: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in runs:
            experiment, options = EXPERIMENTS[name], experiment_options(name)
            root = data / options.data.kind
            flags: list[Any] = ["train", "--recipe", name, "--data.root", root]
            if options.data.val_kind:
                flags += ["--data.val-root", data / options.data.val_kind]
            start = experiment.start
            if start.streams:
                parts = [f"{stream}={run(one)}" for stream, one in start.streams.items()]
                flags += ["--init-streams", ",".join(parts)]
            elif start.coarser:
                flags += ["--init-coarser", run(start.coarser)]
            else:
                file = folder / f"{options.model.name}.safetensors"
                torch.manual_seed(1)
                toy = build_network(replace(options.model, width=0.02), 5)
                save_file(classifier_state_dict(toy), file)
                flags += ["--init-classifier", file]
            runs[name] = folder / name
            assert main([str(flag) for flag in (*flags, *TOY, "--output", runs[name])]) == 0
        return runs[name]

    return run


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs(name: str, trained: Callable[..., Path]) -> None:
    """One step of a narrow net on generated pictures, from what it is to start from."""
    run = trained(name)
    saved = json.loads((run / "config.json").read_text())
    expected = experiment_options(name)
    options = from_dict(TrainOptions, saved, run)
    assert options.optim == replace(expected.optim, steps=1, accumulate=1)
    assert options.recipe == name
    weights = load_file(run / "last.safetensors")
    start = EXPERIMENTS[name].start
    before_it = start.streams or ({"": start.coarser} if start.coarser else {})
    for stream, before in before_it.items():
        for key, value in load_file(trained(before) / "last.safetensors").items():
            own = f"{stream}.{key}" if stream else key
            torch.testing.assert_close(weights[own], value, rtol=1e-3, atol=1e-4)


def test_other_data_take_their_own_splits_and_color(data: Path) -> None:
    flags = ("--recipe", "voc-fcn32s-heavy", "--data.kind", "nyud", "--data.root", str(data))
    defaults, _ = train_defaults(["train", *flags])
    assert defaults.data.val_kind is None
    assert (defaults.data.train_split, defaults.data.val_split) == ("trainval", "test")
    assert defaults.model.mean == recipe_options("heavy", "fcn32s", "nyud").model.mean
    assert defaults.optim == experiment_options("voc-fcn32s-heavy").optim
    both = train_defaults(["train", "--recipe", "siftflow-fcn32s", "--data.kind", "camvid"])[0]
    assert both.data.label_folder == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--recipe", "voc-fcn16s"),
            "--recipe: there is no 'voc-fcn16s'; did you mean voc-fcn16s-",
        ),
        (("--recipe", "resnet"), "--recipe: there is no 'resnet'; fcn recipes lists all"),
        (
            ("--recipe", "voc-fcn32s-heavy"),
            "--recipe voc-fcn32s-heavy starts from VGG16 trained on ImageNet; give its weights, "
            "such as --init-classifier vgg16.pth",
        ),
        (
            ("--recipe", "siftflow-fcn16s"),
            "--recipe siftflow-fcn16s starts from siftflow-fcn32s; train it first (fcn train "
            "--recipe siftflow-fcn32s), then give --init-coarser runs/siftflow-fcn32s-001",
        ),
        (
            ("--recipe", "nyud-fcn32s-color-hha"),
            "starts from nyud-fcn32s-color and nyud-fcn32s-hha; train these first (fcn train "
            "--recipe nyud-fcn32s-color), then give --init-streams "
            "color=runs/nyud-fcn32s-color-001,hha=runs/nyud-fcn32s-hha-001",
        ),
        (
            ("--recipe", "voc-fcn32s-heavy", "--init-classifier", "vgg16.pth"),
            "--data.kind sbd needs --data.root, the folder it lies in; fcn data get sbd downloads",
        ),
        (
            ("--recipe", "nyud-fcn32s-color", "--init-classifier", "a.pth", "--data.root", "none"),
            "none",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    flags: tuple[str, ...], message: str, command: Command, in_folder: Path
) -> None:
    code, _, err = command("train", *flags)
    assert code == 2
    assert err.startswith("fcn: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(in_folder.iterdir())


def test_runs_are_called_by_their_recipe(
    data: Path, trained: Callable[..., Path], command: Command, in_folder: Path, no_pictures: None
) -> None:
    flags = ("--recipe", "siftflow-fcn16s", "--data.root", data / "sift-flow", *TOY)
    code, _, err = command("train", *flags, "--init-coarser", trained("siftflow-fcn32s"))
    assert code == 0, err
    assert [path.name for path in (in_folder / "runs").iterdir()] == ["siftflow-fcn16s-001"]
    code, _, err = command("train", "--resume", "runs/siftflow-fcn16s-001", "--optim.steps", "2")
    assert code == 0, err


def test_weights_of_any_kind_are_a_start() -> None:
    options = experiment_options("voc-fcn16s-heavy")
    for name in ("init_classifier", "init_coarser", "init_weights"):
        check_start(replace(options, **{name: Path("x")}))
    check_start(replace(options, init_streams="color=a,hha=b"))
    check_start(TrainOptions(recipe="heavy"))
    with pytest.raises(UsageError, match="starts from voc-fcn32s-heavy"):
        check_start(options)

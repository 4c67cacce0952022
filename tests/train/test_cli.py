"""What a mistake looks like: one line that names the file or option, and exit code 2."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.checkpoint import checkpoints, load_checkpoint
from fcn_train.cli import main
from fcn_train.data import write_sample_dataset
from fcn_train.processes import Processes

from .running import HANGS, assert_one_line

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def voc(sample_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_root, tmp_path / "voc"))


def label_of(voc: Path, index: int = 0) -> Path:
    name = (voc / "ImageSets" / "Segmentation" / "train.txt").read_text().split()[index]
    return voc / "SegmentationClass" / f"{name}.png"


def train_on(command: Command, root: Path, *more: str | Path) -> tuple[int, str, str]:
    flags = ("--data.kind", "voc", "--data.root", root, "--output", root.parent / "run")
    tiny = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    return command("train", *flags, *tiny, "--optim.steps", "9", "--threads", "1", *more)


def test_missing_folder(command: Command, tmp_path: Path) -> None:
    assert_one_line(train_on(command, tmp_path / "absent"), tmp_path / "absent", "missing")


def test_several_processes_of_a_command_for_one(
    command: Command, one_of_two: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("fcn_train.processes.joined", lambda: one_of_two)
    result = command("predict", tmp_path, "--output", tmp_path / "out")
    assert_one_line(result, "fcn predict works in one process, got 2; start it without torchrun")


def test_kind_without_root(command: Command) -> None:
    result = command("train", "--data.kind", "camvid")
    assert_one_line(result, "--data.kind camvid needs --data.root")


def test_unknown_split(command: Command, voc: Path) -> None:
    result = train_on(command, voc, "--data.train-split", "trian")
    assert_one_line(result, "trian.txt", "train, trainval, val")


def test_empty_list(command: Command, voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("\n")
    assert_one_line(train_on(command, voc), "train.txt", "names no image")


def test_unreadable_image(command: Command, voc: Path) -> None:
    image = voc / "JPEGImages" / f"{label_of(voc).stem}.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert_one_line(train_on(command, voc), image, "cannot be decoded", "replace the file")


def test_label_of_another_size(command: Command, voc: Path) -> None:
    Image.new("P", (5, 4)).save(label_of(voc))
    assert_one_line(train_on(command, voc), label_of(voc), "is 5 x 4 pixels but its image")


def test_label_out_of_range(command: Command, voc: Path) -> None:
    with Image.open(label_of(voc)) as label:
        wrong = np.array(label)
    wrong[1, 2] = 77
    Image.fromarray(wrong).save(label_of(voc))
    result = train_on(command, voc)
    assert_one_line(result, label_of(voc), "77 in 1 pixel, the first at row 1, column 2")


def test_mistake_is_met_in_a_loader_process_too(command: Command, voc: Path) -> None:
    label_of(voc).unlink()
    result = train_on(command, voc, "--data.workers", "1")
    assert_one_line(result, label_of(voc), "label is missing")


def test_traceback_on_request(command: Command, voc: Path) -> None:
    label_of(voc).unlink()
    code, _, err = train_on(command, voc, "--traceback")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("fcn: ")


def test_output_that_holds_a_run(command: Command, finished_run: Path, sample_root: Path) -> None:
    result = command("train", "--data.root", sample_root, "--output", finished_run)
    assert_one_line(result, finished_run, "holds a run already", "--resume auto")


def test_output_that_cannot_be_made(command: Command, sample_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = command("train", "--data.root", sample_root, "--output", tmp_path / "file" / "run")
    assert_one_line(result, tmp_path / "file", "Not a directory")


# The words of each command, its option of an output and what is written there, and its work.
STATS = ("data", "stats", "--kind", "voc", "--root", "DATA")
WORKS = [
    (("train",), "--output", "run", "train.Splits"),
    (("evaluate", "RUN"), "--output", "report", "evaluator.Evaluator.count"),
    (("predict", "RUN", "DATA/JPEGImages"), "--output", "maps", "predict.load_run"),
    (("export", "RUN"), "--file", "net.onnx", "export.command.write_and_check"),
    (
        ("export", "RUN", "--format", "torch-export"),
        "--file",
        "n.pt2",
        "export.command.write_and_check",
    ),
    (("compare", "RUN", "RUN"), "--output", "page.html", "compare.command.read_records"),
    (("describe", "fcn8s"), "--output", "layers.json", "describe.fields"),
    (("describe", "fcn8s"), "--picture", "layers.png", "describe.fields"),
    (("study", "staging"), "--output", "study", "study.comparison.train_all"),
    (STATS, "--output", "counts.json", "data_commands.dataset_statistics"),
    (("data", "hha", "--depth", "DATA"), "--output", "hha", "data_commands.image_files"),
]


@pytest.mark.parametrize(("words", "option", "name", "work"), WORKS, ids=str)
@pytest.mark.parametrize(
    "place", ["/proc/absent/{}", "file/{}", "link/{}", "taken/{}", "{x:x>300}"]
)
def test_outputs_that_cannot_be_written_are_found_before_the_work(
    words: tuple[str, ...],
    option: str,
    name: str,
    work: str,
    place: str,
    command: Command,
    finished_run: Path,
    sample_root: Path,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever their folder or their name: not to be made, a file, a link to nothing, too long."""

    def started(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(f"fcn_train.{work}", started)
    (in_folder / "file").touch()
    (in_folder / "link").symlink_to("absent")
    path = Path(place.format(name, x="x") + Path(name).suffix * ("{}" not in place))
    if place == "taken/{}":
        kind = Path.touch if "." not in name else Path.mkdir
        (in_folder / "taken").mkdir()
        kind(in_folder / path)
    before = sorted(in_folder.rglob("*"))
    given = [{"RUN": str(finished_run)}.get(w, w.replace("DATA", str(sample_root))) for w in words]
    result = command(*given, option, path)
    assert_one_line(result, path, "; give a ")
    assert sorted(in_folder.rglob("*")) == before


def test_run_that_is_none(command: Command, tmp_path: Path) -> None:
    assert_one_line(command("evaluate", "--run", tmp_path), tmp_path, "cannot be read")
    result = command("predict", "a.png", "--run", tmp_path, "--output", tmp_path)
    assert_one_line(result, tmp_path, "give a run folder")


def test_weights_of_another_network(command: Command, finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"width": 0.05', '"width": 0.1'))
    result = command("evaluate", "--run", run)
    assert_one_line(result, run / "last.safetensors", "does not fit the network", "conv1_1.weight")


def test_weights_that_are_not_there_yet(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / "best.safetensors").unlink()
    result = command("evaluate", "--run", run, "--weights", "best")
    assert_one_line(result, run, "was not evaluated yet")


def test_bad_option_values_of_evaluation(command: Command, finished_run: Path) -> None:
    evaluate = ("evaluate", "--run", finished_run)
    assert_one_line(command(*evaluate, "--batch", "0"), "--batch must be >= 1, got 0")
    assert_one_line(command(*evaluate, "--threads", "-1"), "--threads must be in [0, 1024], got -1")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--optim.epochs", "inf"),
        ("--optim.epochs", "1e300"),
        ("--optim.steps", "1000000001"),
        ("--optim.lr", "inf"),
        ("--optim.power", "-1"),
        ("--evaluate-every", "inf"),
        ("--seed", str(2**63)),
    ],
)
def test_numbers_that_no_run_can_have(command: Command, option: str, value: str) -> None:
    assert_one_line(command("train", option, value), f"{option} must be ", "got ")


def test_bad_option_values(command: Command) -> None:
    assert_one_line(
        command("train", "--optim.lr", "-1"), "--optim.lr must be > 0 and finite, got -1.0"
    )
    assert_one_line(command("train", "--device", "abacus"), "--device must be auto, cpu, cuda")
    assert_one_line(command("train", "--config", "absent.json"), "absent.json: cannot be read")
    assert_one_line(command("train", "--resume", "absent"), "absent: is no run folder")
    assert_one_line(command("train", "--recipe", "heavy", "--config", "x.json"), "--recipe")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_sets_the_exit_code(
    signum: int, code: int, voc: Path, command: Command
) -> None:
    """A real process, a real signal, and the command that continues it."""
    run = voc.parent / "run"
    arguments = [
        *("train", "--data.kind", "voc", "--data.root", str(voc), "--output", str(run)),
        *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
        *("--optim.steps", "3000", "--threads", "1", "--checkpoint-every", "1"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn_train", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=voc.parent,
    )
    while not checkpoints(run / "checkpoints") and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signum)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == code, err
    saved = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert err.splitlines()[-1] == (
        f"fcn: stopped after step {saved.step}; continue with: fcn train --resume {run}"
    )
    again = command(*arguments, "--resume", "auto", "--optim.lr", "0.2")
    assert_one_line(again, "was started with optim.lr = 0.05, not 0.2")


def test_full_command_line(
    command: Command, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a root, the sample data set is written below runs/, and the run beside it."""
    smaller = functools.partial(write_sample_dataset, train=4, val=2, size=48)
    monkeypatch.setattr("fcn_train.data.opening.write_sample_dataset", smaller)
    code, out, err = command(
        *("train", "--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
        *("--optim.steps", "2", "--threads", "1", "--optim.batch", "2"),
    )
    assert code == 0, err
    assert (in_folder / "runs" / "sample-data" / "ImageSets").is_dir()
    assert (in_folder / "runs" / "sample-fcn8s-001" / "report.html").is_file()
    assert "step 2/2: mean IU" in out
    assert "report.html" in out.splitlines()[-1]


def test_reader_that_goes_away_is_no_error(in_folder: Path) -> None:
    command = f"{sys.executable} -m fcn_train train --help | head -c 10"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=HANGS
    )
    assert "Traceback" not in done.stderr


def test_main_takes_the_arguments_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fcn", "--help"])
    assert main() == 0


def test_a_setting_of_the_environment_that_means_nothing(tmp_path: Path) -> None:
    """fcn_ext refuses it when it is imported: one line, and nothing is begun."""
    done = subprocess.run(
        [sys.executable, "-m", "fcn_train", "train"],
        cwd=tmp_path,
        env={**os.environ, "FCN_EXT_CPU_CAPABILITY": "sse"},
        capture_output=True,
        text=True,
        check=False,
    )
    result = done.returncode, done.stdout, done.stderr
    assert_one_line(result, "FCN_EXT_CPU_CAPABILITY", "'sse'")
    assert not list(tmp_path.iterdir())

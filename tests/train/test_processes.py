"""Several processes train and score as one does, and end together."""

from __future__ import annotations

import csv
import errno
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fcn_train import checkpoint, named_losses
from fcn_train.cli import main
from fcn_train.data import DataError, EvaluationLoader, SegmentationDataset
from fcn_train.data.problems import Problem
from fcn_train.evaluator import Evaluator
from fcn_train.processes import joined

from .running import HANGS, during_step
from .several import Ended, Launcher

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def flags(sample_root: Path) -> list[str]:
    """A few steps of three images with everything that draws random numbers switched on; without
    batch normalization, which talks to others in every layer."""
    return [
        *("train", "--data.root", str(sample_root), "--data.crop", "32"),
        *("--data.scale", "0.8", "1.2", "--model.width", "0.05", "--model.fc-channels", "16"),
        *("--optim.batch", "3", "--optim.steps", "4", "--optim.schedule", "fixed"),
        *("--threads", "1", "--log-every", "1", "--checkpoint-every", "2", "--model.no-batch-norm"),
    ]


def losses(run: Path) -> list[float]:
    with (run / "training.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def assert_only_the_first_speaks(ended: list[Ended]) -> None:
    assert [end.code for end in ended] == [0] * len(ended), ended
    assert all((end.out, end.err) == ("", "") for end in ended[1:]), ended


def test_any_number_of_processes_trains_alike(flags: list[str], tmp_path: Path) -> None:
    """And a run may go on with another number: that of three is finished by two."""
    flags = [*flags, "--model.batch-norm", "--optim.steps", "3"]
    for name, size in (("1", 1), ("2", 2), ("3", 3), ("apart", 2)):
        given = [*flags, "--output", str(tmp_path / name)]
        given += ["--optim.steps", "2"] if size == 3 else []
        given += ["--no-sync-batch-norm"] if name == "apart" else []
        ended = Launcher(tmp_path / f"said-{name}").run(size, lambda rank, given=given: main(given))
        assert_only_the_first_speaks(ended)
    more = ["train", "--resume", str(tmp_path / "3"), "--optim.steps", "3"]
    assert_only_the_first_speaks(Launcher(tmp_path / "said").run(2, lambda rank: main(more)))
    runs = [tmp_path / name for name in "123"]
    for run in runs[1:]:
        assert {path.name for path in run.iterdir()} == {path.name for path in runs[0].iterdir()}
        assert losses(run) == pytest.approx(losses(runs[0]), rel=1e-4)
        assert (run / "confusion_matrix.csv").read_text() == (
            runs[0] / "confusion_matrix.csv"
        ).read_text()
    assert "on cpu in 3 processes" in (tmp_path / "said-3" / "0.out").read_text()
    one, apart = losses(runs[0]), losses(tmp_path / "apart")
    assert apart[0] == pytest.approx(one[0])  # scores are 0 in the first step
    assert apart[1] != pytest.approx(one[1], rel=1e-3)


def test_evaluation_counts_the_same_integers(varied_run: Path, tmp_path: Path) -> None:
    """Of six images of two sizes, two at a time, however many processes share them out."""
    for tta, sizes in (([], (1, 3)), (["--tta", "flip"], (1, 2))):
        matrices = []
        for size in sizes:
            output = tmp_path / f"{size}{tta}"
            given = [*("evaluate", str(varied_run), "--split", "train", "--batch", "2"), *tta]
            given += ["--output", str(output), "--threads", "1"]
            ended = Launcher(tmp_path / "said").run(size, lambda rank, given=given: main(given))
            assert_only_the_first_speaks(ended)
            matrices.append((output / "confusion_matrix.csv").read_text())
        assert matrices[0] == matrices[1]
        assert sum(int(cell) > 0 for cell in matrices[0].split(",") if cell.isdigit()) > 20


def patched(rank: int, action: Callable[[pytest.MonkeyPatch], object], which: int) -> None:
    if rank == which:
        action(pytest.MonkeyPatch())


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


def signalled(loading: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A signal arrives while the first batch is loaded."""

    def load(self: Any) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield from loading(self)

    return load


MISSING = DataError(Problem(Path("a.png"), "label is missing"))
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What goes wrong in the third step, or after it, on which process; the exit code, and what is said
# by it and by the first.
TROUBLES: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], int, int, str]] = {
    "signal to the second": (
        lambda patch: during_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        *(1, 143, "fcn: stopped after step 3; continue with"),
    ),
    "signal to the second in an evaluation": (
        lambda patch: patch.setattr(
            EvaluationLoader, "__iter__", signalled(EvaluationLoader.__iter__)
        ),
        *(1, 143, "fcn: stopped after step 4; continue with"),
    ),
    "label of the second": (
        lambda patch: during_step(
            patch, 3, lambda: patch.setattr(SegmentationDataset, "examine", raising(MISSING))
        ),
        *(1, 2, "fcn: rank 1: a.png: label is missing"),
    ),
    "memory of the second": (
        lambda patch: during_step(
            patch, 3, lambda: patch.setattr(torch.Tensor, "backward", raising(MemoryError()))
        ),
        *(1, 1, "fcn: rank 1: out of memory"),
    ),
    "disk of the first": (
        lambda patch: during_step(
            patch, 3, lambda: patch.setattr(checkpoint, "save_tensors", raising(FULL))
        ),
        *(0, 1, "cannot be written (No space left on device)"),
    ),
    "kill of the second": (
        lambda patch: during_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGKILL)),
        *(1, 1, "fcn: another process of this training was killed or cannot be reached"),
    ),
    "evaluation of the second": (
        lambda patch: during_step(
            patch, 3, lambda: patch.setattr(Evaluator, "count", raising(MISSING))
        ),
        *(1, 2, "fcn: rank 1: a.png: label is missing"),
    ),
}


@pytest.mark.parametrize("name", list(TROUBLES))
def test_all_end_together(
    name: str, flags: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    action, which, code, words = TROUBLES[name]
    run = tmp_path / "run"
    given = [*flags, "--output", str(run), "--optim.steps", "9", "--evaluate-every", "2"]
    if name.startswith("signal"):  # both have the same to say
        request.getfixturevalue("patient_processes")

    def work(rank: int) -> int:
        patched(rank, action, which)
        return main(given)

    ended = Launcher(tmp_path / "said").run(2, work)
    killed = name.startswith("kill")
    assert [end.code for end in ended] == [
        -signal.SIGKILL if killed and rank == which else code for rank in range(2)
    ], ended
    said = [line for end in ended for line in end.err.splitlines() if line.startswith("fcn:")]
    assert sum(words in line for line in said) == 1, said
    if which == 0:
        assert ended[1].err == "", ended
    saved = checkpoint.checkpoints(run / "checkpoints")[-1]
    step = checkpoint.load_checkpoint(saved).step
    assert step == {"disk of the first": 2, "signal to the second": 3}.get(name, step)
    if name == "signal to the second in an evaluation":
        assert step == 4
    elif name not in ("disk of the first", "signal to the second"):
        assert step == (4 if name.startswith("evaluation") else 2)
        assert any(f"The state after step {step} is saved; continue" in line for line in said), said
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_ends_without_a_word_of_torchs(
    amp: str, flags: list[str], tmp_path: Path
) -> None:
    """Whose warnings would be errors here."""
    given = [*flags, "--amp", amp, "--output", str(tmp_path / "run")]
    ended = Launcher(tmp_path / "said").run(2, lambda rank: main(given))
    assert_only_the_first_speaks(ended)
    # Those of the data are our own.
    assert all(line.startswith("warning: /") for line in ended[0].err.splitlines()), ended


@pytest.mark.usefixtures("patient_processes")
def test_loss_that_is_not_finite_names_all_images(flags: list[str], tmp_path: Path) -> None:
    def work(rank: int) -> int:
        def spoil(patch: pytest.MonkeyPatch) -> None:
            plain = named_losses.pixel_loss
            patch.setattr(named_losses, "pixel_loss", lambda *a, **o: plain(*a, **o) * math.nan)

        patched(rank, spoil, 1)
        return main([*flags, "--output", str(tmp_path / "run")])

    ended = Launcher(tmp_path / "said").run(2, work)
    assert [end.code for end in ended] == [1, 1], ended
    line = ended[0].err.splitlines()[-1]
    assert line.startswith("fcn: step 1: the loss is nan on the images ")
    assert line.count(", ") == 2
    assert ended[1].err == ""


@pytest.mark.usefixtures("patient_processes")
def test_commands_of_one_process(finished_run: Path, tmp_path: Path) -> None:
    given = ["predict", str(finished_run), "a.png", "--output", str(tmp_path / "out")]
    said = "fcn: fcn predict works in one process, got 2; start it without torchrun\n"
    for keeps in (True, False):
        ended = Launcher(tmp_path / "said", keeps=keeps).run(2, lambda rank: main(given))
        assert ended == [Ended(2, "", said), Ended(2, "", "")]
    helped = Launcher(tmp_path / "said").run(2, lambda rank: main(["evaluate", "--help"]))
    assert "usage: fcn evaluate" in helped[0].out
    assert helped[1] == Ended(0, "", "")


def test_nobody_goes_on_before_all_have_met(tmp_path: Path) -> None:
    """A first process that is done at once would be gone while others still connect."""
    met = tmp_path / "met"
    plain = dist.init_process_group

    def late(*arguments: Any, **options: Any) -> None:
        plain(*arguments, **options)
        time.sleep(0.5)
        met.touch()

    def work(rank: int) -> int:
        patched(rank, lambda patch: patch.setattr(dist, "init_process_group", late), 1)
        joined()
        return 0 if met.exists() else 1

    ended = Launcher(tmp_path / "said").run(2, work)
    assert ended == [Ended(0, "", "")] * 2


def test_data_of_another_machine_is_refused(flags: list[str], tmp_path: Path) -> None:
    def work(rank: int) -> int:
        def other(patch: pytest.MonkeyPatch) -> None:
            patch.setattr("fcn_train.train.fingerprint", lambda split: "0")

        patched(rank, other, 1)
        return main([*flags, "--output", str(tmp_path / "run")])

    ended = Launcher(tmp_path / "said").run(2, work)
    assert [end.code for end in ended] == [2, 2], ended
    assert "train.txt: the images or classes here are not those that the first" in ended[1].err
    assert ended[0].err == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.cuda
def test_two_gpus_train_as_one(flags: list[str], tmp_path: Path) -> None:
    """By torchrun itself: a process that has used a GPU cannot be forked."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    found = []
    for size in ("1", "2"):
        launch = ("-m", "torch.distributed.run", "--nproc-per-node", size, "-m", "fcn_train")
        given = [*flags, "--model.batch-norm", "--device", "cuda", "--output", str(tmp_path / size)]
        subprocess.run([sys.executable, *launch, *given], check=True, timeout=HANGS)
        found.append(losses(tmp_path / size))
    assert found[1] == pytest.approx(found[0], rel=1e-3)

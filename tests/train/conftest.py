"""A tiny data set, a tiny network and one finished run, shared by the tests of the program."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file

from fcn_train import processes, weights
from fcn_train.data import IMAGENET, image_to_tensor, open_dataset, write_sample_dataset
from fcn_train.launcher import Place
from fcn_train.options import DataOptions, ModelOptions, OptimOptions, TrainOptions
from fcn_train.processes import Processes
from fcn_train.run import load_run
from fcn_train.train import train
from tests.train import forking
from tests.train.pages import draw_nothing
from tests.train.running import HANGS

TINY_FLAGS = [
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
    *("--optim.batch", "2", "--optim.steps", "2", "--threads", "1"),
]


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    if module_path.name in forking.MODULES and not forking.is_named(module_path, parent.config):
        return forking.ForkingModule.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_dataset(tmp_path_factory.mktemp("data") / "sample", train=6, val=3, size=48)


@pytest.fixture(scope="session")
def tiny_options(sample_root: Path) -> TrainOptions:
    """Eight steps of two images with everything that draws random numbers switched on."""
    return TrainOptions(
        data=DataOptions(root=sample_root, crop=32, scale=(0.8, 1.2)),
        model=ModelOptions(width=0.05, fc_channels=16),
        optim=OptimOptions(batch=1, accumulate=2, lr=0.05, steps=8),
        evaluate_every=1.0,
        checkpoint_every=2,
        log_every=3,
        threads=1,
    )


@pytest.fixture(scope="session")
def finished_run(tiny_options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return train(replace(tiny_options, output=tmp_path_factory.mktemp("run") / "finished"))


@pytest.fixture(scope="session")
def varied_run(
    finished_run: Path, sample_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose network predicts many classes: eight steps alone teach it but one."""
    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("varied") / "run"))
    model = load_run(run).model
    image = image_to_tensor(open_dataset("sample", sample_root, "train")[0].image, IMAGENET)
    torch.manual_seed(0)
    with torch.no_grad():
        for name in model.score_layers:
            torch.nn.init.normal_(getattr(model, name).weight)
        model.score_fr.bias -= model.scores(image[None]).mean((0, 2, 3))
    save_file(model.state_dict(), run / "last.safetensors")
    return run


@pytest.fixture
def one_of_two() -> Processes:
    """The first of two processes as it is for itself: nothing that both do together works."""
    here = Processes(Place())
    here.size = 2
    return here


@pytest.fixture
def patient_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all processes have the same to say, the first one says it, however late it comes."""
    monkeypatch.setattr(processes, "GRACE", HANGS)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty folder, where `runs/` may appear."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the program as the shell does: exit code, standard output, standard error."""
    from fcn_train.cli import main

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class Disk:
    """Counts the operations that reach the disk, and refuses one of them where asked to.

    An operation is (name, file name); ``fail_at`` counts from 1.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.operations: list[tuple[str, str]] = []
        self._fail_at = 0
        self._error: Exception = OSError()
        for owner, name in (
            (os, "fsync"),
            (os, "replace"),
            (os, "open"),
            (torch, "save"),
            (weights, "save_file"),
            (Path, "write_text"),
            (Path, "write_bytes"),
            (Path, "mkdir"),
            (Image.Image, "save"),
            (Figure, "savefig"),
        ):
            monkeypatch.setattr(owner, name, self._watched(name, getattr(owner, name)))

    def fail_at(self, number: int, error: Exception | None = None) -> None:
        """From now on, the ``number``-th operation fails."""
        self.operations.clear()
        self._fail_at = number
        self._error = error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work(self) -> None:
        self._fail_at = 0

    def _watched(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def run(*arguments: Any, **keywords: Any) -> Any:
            if "dir_fd" in keywords:  # of shutil.rmtree, whose failures are no matter
                return operation(*arguments, **keywords)
            paths = [a for a in arguments if isinstance(a, (str, Path))]
            if name.startswith("save") and not paths:  # into memory
                return operation(*arguments, **keywords)
            self.operations.append((name, Path(paths[-1]).name if paths else ""))
            if len(self.operations) == self._fail_at:
                raise self._error
            return operation(*arguments, **keywords)

        return run


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch, finished_run: Path) -> None:
    """They take most of the time of a tiny run; ``finished_run`` has drawn them already."""
    draw_nothing(monkeypatch)

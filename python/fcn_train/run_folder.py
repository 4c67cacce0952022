"""The folder of a training run: its name, its files, and how it is found again."""

from __future__ import annotations

import fnmatch
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_train import checkpoint
from fcn_train.config import flat, load_config, to_dict
from fcn_train.errors import UsageError, WriteError
from fcn_train.files import make_folder, refused_as_write_error
from fcn_train.optim_options import OptimOptions
from fcn_train.options import TrainOptions
from fcn_train.real_paths import real_path
from fcn_train.schedule import steps_of
from fcn_train.words import counted

RUNS = Path("runs")
CONFIG, CLASSES, METRICS = "config.json", "classes.json", "metrics.json"
EVALUATE = "evaluate-"  # prefix of the folders with reports of evaluations
RAW = "-raw"  # suffix of the weights whose average has the name without it
# The files of a run or of its report; others may put files of their own beside them.
FILES = (
    *(CONFIG, CLASSES, METRICS, "splits.json", "environment.json", "model_card.md"),
    *("report.html", "training.csv", "evaluations.csv", "profile.csv", "curves.png"),
    *("per_class*", "per_image*", "confusion_matrix*", "overlays*", "*.safetensors"),
)
# Options that may change to train a run further.
LENGTH = {"optim.steps", "optim.epochs", "patience"}
# Options that may differ between a run and its continuation: they change no weight.
TECHNICAL = {
    *("device", "threads", "log_every", "checkpoint_every", "tensorboard"),
    *("data.workers", "data.memory", "data.cache", "data.transfer"),
}
# Where data lies: it may have been moved, if its lists, classes and the meaning of its labels are
# what ``splits.json`` records; of lists, which have a name, only the folder.
PLACES = {"data.root", "data.val_root", "data.classes", "data.label_colors"}
LISTS = {"data.train_split", "data.val_split"}


@dataclass(frozen=True)
class RunFolder:
    """The places of a run's files below ``path``."""

    path: Path

    @property
    def config(self) -> Path:
        """Written last at the start of a run, so that it marks a run folder."""
        return self.path / CONFIG

    @property
    def classes(self) -> Path:
        return self.path / CLASSES

    @property
    def splits(self) -> Path:
        return self.path / "splits.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Written last, so that it marks a finished run."""
        return self.path / METRICS

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def card(self) -> Path:
        return self.path / "model_card.md"

    def evaluation(self, split: str) -> Path:
        """The folder of the report of `fcn evaluate` on ``split``."""
        return self.path / f"{EVALUATE}{split}"

    def weights(self, which: str) -> Path:
        """The weights ``last`` or ``best``, or of a run with an average also ``last-raw`` or
        ``best-raw``."""
        return self.path / f"{which}.safetensors"

    def newest_checkpoint(self) -> Path | None:
        kept = checkpoint.checkpoints(self.checkpoints)
        return kept[-1] if kept else None

    @property
    def continue_with(self) -> str:
        return f"continue with: fcn train --resume {shlex.quote(str(self.path))}"


def new_run_folder(output: Path | None, stem: str) -> RunFolder:
    """Make ``output``, or the next free ``runs/<stem>-<number>``."""
    if output is not None:
        refuse_second_run(output)
        make_folder(output)
        return RunFolder(output)
    make_folder(RUNS)
    number = max((_number(path, stem) for path in RUNS.glob(f"{stem}-*")), default=0)
    while True:
        number += 1
        folder = RUNS / f"{stem}-{number:03d}"
        try:
            with refused_as_write_error(folder):
                # If several runs start at once, only one can make it.
                folder.mkdir()
        except WriteError as error:
            if isinstance(error.__cause__, FileExistsError):
                continue
            raise
        return RunFolder(folder)


def refuse_second_run(output: Path) -> None:
    """Refuse to begin a run in a folder with a run, or with what would be taken for part of one."""
    if (output / CONFIG).exists():
        raise UsageError(
            f"{output}: holds a run already; continue it with --resume auto, "
            "or give another --output"
        )
    folder = RunFolder(output)
    if folder.metrics.exists():  # which would mark the run as finished
        raise UsageError(f"{output}: holds the report of an evaluation; give another --output")
    if folder.newest_checkpoint() is not None:  # with which the run would be continued
        raise UsageError(f"{output}: holds checkpoints of another run; give another --output")


def refuse_folder_of_run(folder: Path, option: str, *, evaluated: Path | None = None) -> None:
    """Refuse a folder for the results of another command: a run's own files, and the reports of its
    evaluations, must stay.

    Args:
        folder: given by ``option``.
        evaluated: the run of which the results are an evaluation; they may lie beside its others.
    """
    if _is_run(folder):
        raise UsageError(
            f"{folder}: is the folder of a run, whose files {option} would replace; give another "
            f"{option}"
        )
    place = real_path(folder)
    if any(map(_is_for_checkpoints, (place, *place.parents))):
        raise UsageError(
            f"{folder}: is for the checkpoints of a run, which are removed in time; give another "
            f"{option}"
        )
    run = _run_evaluated_in(folder)
    if run is not None and (evaluated is None or run != real_path(evaluated)):
        raise UsageError(
            f"{folder}: is for an evaluation of the run that it lies in; give another {option}"
        )


def refuse_file_of_run(path: Path, option: str) -> None:
    """Refuse as file for the results of another command one that exists and belongs to a run, its
    evaluations or its checkpoints.

    Args:
        path: given by ``option``.
    """
    folder = path.parent
    of_report = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in FILES)
    if path.exists() and (
        (of_report and (_is_run(folder) or _run_evaluated_in(folder) is not None))
        or _is_checkpoint(folder)
    ):
        raise UsageError(f"{path}: is a file of the run in that folder; give another {option}")


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def _run_evaluated_in(folder: Path) -> Path | None:
    """The run whose evaluations have, or would have, their report in ``folder``."""
    place = real_path(folder)
    return place.parent if place.name.startswith(EVALUATE) and _is_run(place.parent) else None


def _is_checkpoint(folder: Path) -> bool:
    return _is_for_checkpoints(real_path(folder).parent)


def _is_for_checkpoints(folder: Path) -> bool:
    place = real_path(folder)
    return place == RunFolder(place.parent).checkpoints and _is_run(place.parent)


def _number(path: Path, stem: str) -> int:
    """The number of the run folder ``<stem>-<number>``; 0 for any other name."""
    match = re.fullmatch(r"(\d{3,15})", path.name[len(stem) + 1 :], re.ASCII)
    return int(match[1]) if match else 0


def find_run(resume: str, output: Path | None) -> Path | None:
    """The run that ``--resume`` names; None for ``auto`` if there is nothing to continue."""
    if not resume:
        raise UsageError("--resume must be a run folder, or auto, got ''")
    if resume != "auto":
        path = Path(resume)
        if not _is_run(path):
            raise UsageError(f"{path}: is no run folder (it has no {CONFIG}); give one, or auto")
        if output is not None and real_path(output) != real_path(path):
            raise UsageError(
                f"--output {output} has no effect with --resume {path}, which goes on in its own "
                "folder; leave it out"
            )
        return path
    if output is not None:
        return output if _is_run(output) else None
    runs = [RunFolder(path.parent) for path in RUNS.glob(f"*/{CONFIG}")]
    unfinished = [run for run in runs if run.newest_checkpoint() and not run.metrics.exists()]
    newest = max(unfinished, key=lambda r: r.checkpoints.stat().st_mtime_ns, default=None)
    return newest.path if newest else None


def check_continuation(run: Path, options: TrainOptions) -> bool:
    """Refuse to continue ``run`` with options that would make it another run.

    Returns:
        Whether ``options`` train longer than ``run`` was planned to.
    """
    before, now = flat(to_dict(load_config(run))), flat(to_dict(options))
    for name in before:
        free = TECHNICAL | LENGTH | PLACES
        if before[name] != now[name] and name not in free and not _is_same_list(name, before, now):
            raise UsageError(
                f"{run}: was started with {name} = {before[name]!r}, not {now[name]!r}; "
                "--resume continues a run as it is, start a new one to change it"
            )
    steps, epochs = "optim.steps", "optim.epochs"
    if now[steps] and now[epochs] != before[epochs]:
        raise UsageError(
            f"{run}: --optim.epochs {now[epochs]:g} has no effect, as --optim.steps {now[steps]} "
            "goes before it; give --optim.steps 0 with it, or more --optim.steps in its place"
        )
    # Epochs and steps cannot be compared without the number of images; see check_length.
    if bool(now[steps]) == bool(before[steps]):
        name = steps if now[steps] else epochs
        if now[name] < before[name]:
            raise UsageError(
                f"{run}: was started with {name} = {before[name]!r}, not {now[name]!r}; --resume "
                "can make a run longer, not shorter"
            )
    return any(before[name] != now[name] for name in LENGTH)


def is_moved(run: Path, options: TrainOptions) -> bool:
    """Whether ``options``, with which ``run`` may be continued, name another place of its data."""
    before, now = flat(to_dict(load_config(run))), flat(to_dict(options))
    return any(before[name] != now[name] for name in PLACES | LISTS)


def _is_same_list(name: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    return name in LISTS and Path(before[name]).name == Path(now[name]).name


def check_length(
    run: Path, taken: int, before: OptimOptions, now: OptimOptions, images: int
) -> None:
    """Refuse to continue ``run`` with fewer steps than planned.

    Args:
        taken: the steps that it has taken.
        before, now: the options with its length, then and now.
        images: how many the train split has.
    """
    steps, planned = steps_of(now, images), steps_of(before, images)
    more = f"give more {'--optim.steps' if now.steps else '--optim.epochs'}"
    if taken > steps:
        raise UsageError(f"{run}: has taken {counted(taken, 'step')}, more than {steps}; {more}")
    if planned > steps:
        raise UsageError(
            f"{run}: was to take {counted(planned, 'step')}, more than {steps}; --resume "
            "can make a run "
            f"longer, not shorter: {more}"
        )

"""Turns an exception into one line for the user and an exit code."""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

from fcn_train.data import DataError
from fcn_train.errors import (
    Elsewhere,
    ExportError,
    Interrupted,
    LostProcess,
    StateSaved,
    TrainingError,
    UsageError,
    WriteError,
)
from fcn_train.files import WRONG_NAME
from fcn_train.needed import what_is_missing

OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|cannot allocate memory|bad_alloc|out of memory"
    r"|storage size calculation overflowed|failed to allocate memory",
    re.I,
)
WORKER_LOST = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)")
NO_SHARED_MEMORY = re.compile(
    r"(of|insufficient) shared memory|unable to (open|mmap|allocate) shared"
)
ONE_VALUE = "more than 1 value per channel"  # of torch's batch normalization, and of ours
_NARROWER = "a smaller --data.crop, or a narrower network (--model.width, --model.fc-channels)"
_LESS_TRAINING = f"try a smaller --optim.batch with more --optim.accumulate, {_NARROWER}"
_LESS = "try smaller images"
# Advice to use less memory, by command, or by its first word.
LESS = {
    "train": _LESS_TRAINING,
    "study": _LESS_TRAINING,  # those that train
    "study learning": f"try {_NARROWER}",  # which has batches of its own
    "study whole-image": "try a smaller --batch, --size or --width",
    "study label-downsampling": "try larger --factors, or smaller images",
    "data sample": "try a smaller --size, or fewer images (--train, --val)",
    "data get": "free some",
    "doctor": "free some",
    "describe": "try a smaller --width or --size, or --no-measure",
    "evaluate": "try --batch 1 and --logits coarse",
    "predict": "try --tile 512, or smaller images",
    "classify": "try smaller images, or a smaller --resize or --crop",
    "compare": "try fewer runs, or --images 0, which runs no network",
    "serve": "try smaller images, or start fcn serve with a smaller --max-megapixels",
    "export": "free some: the network is held about four times while it is written and checked",
}


class Failure(NamedTuple):
    """How a command ends: the text for standard error, if any, and the exit code."""

    text: str
    code: int


def explain(error: BaseException, command: str = "train") -> Failure | None:
    """One line for what a user can mend; None for a defect, whose traceback must be shown.

    ``command`` is the one that failed, of one or two words ("study whole-image"): only its own
    options are named.
    """
    if isinstance(error, StateSaved):
        cause = explain(error.__cause__, command) if error.__cause__ else None
        said = f"{cause.text}. " if cause and cause.text else ""
        return Failure(f"{said}{error}", cause.code) if cause else None
    if isinstance(error, Elsewhere):
        return Failure("", error.code)
    if isinstance(error, Interrupted):
        return Failure(_line(error), 128 + error.signum)
    if isinstance(error, (UsageError, DataError)):
        text = _line(error)
        return Failure(by_options_of_evaluate(text) if command == "evaluate" else text, 2)
    if isinstance(error, WriteError) and isinstance(error.__cause__, OSError):
        return Failure(_line(error), 2 if error.__cause__.errno in WRONG_NAME else 1)
    if isinstance(error, (TrainingError, ExportError, LostProcess)):
        return Failure(_line(error), 1)
    if is_out_of_memory(error):
        return Failure(f"out of memory{_amount(error)}; {_less(command)}", 1)
    if isinstance(error, ValueError) and ONE_VALUE in str(error):
        return Failure(
            "--optim.batch and --data.crop must leave batch normalization more than 1 value of "
            "each channel, got 1; give larger ones, or --model.no-batch-norm",
            2,
        )
    if isinstance(error, (RuntimeError, OSError)) and NO_SHARED_MEMORY.search(str(error)):
        fewer = "try --data.workers 0, or give" if _has_loader_options(command) else "give"
        return Failure(
            f"the loader processes ran out of shared memory; {fewer} the container more "
            "(docker run --shm-size)",
            1,
        )
    # A reader of a process that ended may notice before torch does.
    lost = _has_loaders(command) and isinstance(error, (ConnectionError, EOFError))
    if lost or is_lost_worker(error):
        less = _less(command)
        if _has_loader_options(command):
            less = f"try fewer --data.workers (0 loads without any), or {less.removeprefix('try ')}"
        return Failure(
            f"a loader process was killed, as the system does when memory runs out; {less}", 1
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _refused(error)
    if missing := what_is_missing(error):
        return Failure(missing, 2)
    return None


def by_options_of_evaluate(text: str) -> str:
    """Adapt a message about data, which names options of `fcn train`, to `fcn evaluate`, which has
    two of them under other names."""
    text = re.sub(r"--data\.(kind|root)(?![\w-])", r"--data-\1", text)
    if "--data." in text:
        text += " (an option of fcn train: an evaluation reads data as its run did)"
    return text


def _less(command: str) -> str:
    return LESS.get(command) or LESS.get(command.partition(" ")[0], _LESS)


def _has_loaders(command: str) -> bool:
    """Whether the command may use loader processes."""
    return command == "evaluate" or _has_loader_options(command)


def _has_loader_options(command: str) -> bool:
    """Whether the command has options for their number; an evaluation uses as many as the run
    did."""
    alone = ("study whole-image", "study label-downsampling")
    return command.partition(" ")[0] in ("train", "study") and command not in alone


def is_lost_worker(error: BaseException) -> bool:
    """Whether this is torch's error for a loader process that died."""
    return isinstance(error, RuntimeError) and WORKER_LOST.search(str(error)) is not None


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))


def _amount(error: BaseException) -> str:
    pattern = r"(?:allocate|buffer of size) (\d+)(?= bytes|$)|allocate ([\d.]+ .iB)"
    found = re.search(pattern, str(error).strip())
    if not found:
        return ""
    amount = found[2] or f"{int(found[1]) / 2**30:.1f} GiB"
    return f" ({amount} more were wanted)"


def _refused(error: OSError) -> Failure:
    place = f"{error.filename}: " if error.filename is not None else ""
    words = error.strerror or os.strerror(error.errno or 0)
    if error.filename is None:
        return Failure(f"the system refused: {words}", 1)
    return Failure(f"{place}{words}; give a place that can be read and written", 2)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())

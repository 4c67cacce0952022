"""Reads files in a process of bounded memory: ``python readers.py MEGABYTES < cases.json``.

For each case one line of JSON: ["reading", number] before, and after it how it ended: "read",
"refused" with the message, or "fault" with what it was. A crash leaves the first line alone.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # noqa: F401  (imported before memory is bounded)
import scipy.io  # noqa: F401

from fcn_ext.numpy import voc_palette
from fcn_train.data import DataError
from fcn_train.data.classes import read_class_names
from fcn_train.data.coding import LabelCoding, read_label_colors
from fcn_train.data.depth import read_depth
from fcn_train.data.images import image_size, read_image
from fcn_train.data.labels import PictureLabels
from fcn_train.data.lists import read_ids
from fcn_train.data.matlab import MatlabLabels
from fcn_train.data.nyud_labeled import NyudLabeled

MOST_SECONDS = 10  # of the processor's time
HANGS = 300  # seconds of anybody's, for a file that is waited for


class TooLong(BaseException):
    """A file that takes longer than any file should."""


def image(path: Path) -> None:
    read_image(path, upright=True)


def label(path: Path) -> None:
    reader = PictureLabels(256, LabelCoding(), voc_palette())
    reader.classes(reader.decode(path), path)


def matlab(path: Path) -> None:
    reader = MatlabLabels("SBD", "GTcls.Segmentation", {value: value for value in range(256)})
    reader.classes(reader.decode(path), path)


def hdf5(path: Path) -> None:
    """The first image of each variable, without the files that belong to the set."""
    dataset = NyudLabeled.__new__(NyudLabeled)
    dataset._file, dataset._open_file = path, None
    dataset.ids, dataset._places = ["5001"], [0]
    dataset._check_variables()
    for variable in ("images", "labels", "depths"):
        dataset._matrix(variable, 0)


def names(path: Path) -> None:
    problems: list[Any] = []
    read_ids(path, problems, lambda name: path.parent / f"{name}.jpg")
    if problems:
        raise DataError(problems[0])


READERS: dict[str, Callable[[Path], Any]] = {
    "image": image,
    "label": label,
    "size": image_size,
    "depth": read_depth,
    "matlab": matlab,
    "hdf5": hdf5,
    "list": names,
    "classes": read_class_names,
    "colors": read_label_colors,
    # For the test of this program itself.
    "crash": lambda path: signal.raise_signal(signal.SIGSEGV),
    "wrong": lambda path: 1 // 0,
}


def ending(reader: str, path: Path) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.alarm(HANGS)
    try:
        READERS[reader](path)
        return "read", ""
    except DataError as error:
        text = str(error)
        is_good = str(path) in text and "\n" not in text and len(text) < 2000
        return ("refused" if is_good else "fault"), text
    except TooLong:
        return "fault", f"more than {MOST_SECONDS} s"
    except BaseException as error:
        return "fault", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_long(signum: int, frame: Any) -> None:
    raise TooLong


def main() -> None:
    warnings.simplefilter("ignore")
    for late in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(late, _too_long)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + (int(sys.argv[1]) << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for number, (reader, path) in enumerate(json.load(sys.stdin)):
        print(json.dumps(["reading", number]), flush=True)
        print(json.dumps(ending(reader, Path(path))), flush=True)


if __name__ == "__main__":
    main()

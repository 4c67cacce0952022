"""NYUDv2's labeled images as they were published: one MATLAB file of version 7.3, which is HDF5."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.depth import Channels, depth_from_meters
from fcn_train.data.hha import NYUD_CAMERA, hha_from_depth
from fcn_train.data.label_sets import LabelSet
from fcn_train.data.lists import find_list, read_ids
from fcn_train.data.matlab import ValueTable, read_matlab
from fcn_train.data.nyud_names import NYUD_CLASS_NAMES
from fcn_train.data.problems import DataError, Problem, Problems, excerpt, reason

__all__ = ["LABELED", "NyudLabeled", "find_labeled"]

LABELED = "nyu_depth_v2_labeled.mat"
MAPPING, SPLITS = "classMapping40.mat", "splits.mat"
RAW_CLASSES = 894
FIRST_ID = 5001  # of the first image, in the published lists
_VARIABLES = {"images": (3,), "depths": (), "labels": ()}  # and their sizes before width, height


class NyudLabeled(SegmentationDataset):
    """NYUDv2's 1,449 labeled images (Silberman et al., 2012) in one file of 2.8 GB.

    Its `images`, `depths` (meters, filled in) and `labels` (0 is void, then 894 classes) are read
    image by image, by h5py. Beside it lie `classMapping40.mat` (`mapClass`, the one of the 40
    classes of Gupta et al., 2013, for each of the 894) and `splits.mat` (`trainNdxs`, `testNdxs`),
    as both were published. HHA is computed from the depth.

    Args:
        file: nyu_depth_v2_labeled.mat.
        split: "trainval" or "test" of `splits.mat`, or the name of a list beside the file or the
            path of one: numbers from 5001 as in the prepared archive, 5001 is the first image.
        channels: what a network is to see; depth is read, and HHA computed, where it is part of
            that.
        strict: see `SegmentationDataset`.

    Raises:
        DataError: with `strict`, if the list is missing, empty or repeats an image; always, if a
            file cannot be read, lacks a variable or is cut off, if the mapping has a hole, or if
            h5py or scipy is not installed.

    Example:
        >>> file = "nyu_depth_v2_labeled.mat"
        >>> data = NyudLabeled(file, "test", channels="color-depth")  # doctest: +SKIP
        >>> len(data), data[0].depth.shape  # doctest: +SKIP
        (654, (480, 640))
    """

    def __init__(
        self,
        file: Path | str,
        split: str = "trainval",
        *,
        channels: Channels = "color",
        strict: bool = True,
    ) -> None:
        self._file = Path(file)
        self._open_file: tuple[int, Any] | None = None  # and the process that opened it
        count = self._check_variables()
        problems = Problems()
        source, ids = _ids(self._file, split, problems)
        self._places = [int(name.removeprefix("img_")) - FIRST_ID for name in ids]
        beyond = [
            name for name, place in zip(ids, self._places, strict=True) if not 0 <= place < count
        ]
        if beyond:
            message = (
                f"names image {beyond[0]}, but {self._file} holds {FIRST_ID} to "
                f"{FIRST_ID + count - 1}; correct the list"
            )
            raise DataError(Problem(source, message))
        paths = [self._file] * len(ids)
        super().__init__(
            "NYUDv2",
            ids,
            paths,
            paths,
            class_names=NYUD_CLASS_NAMES,
            palette=voc_palette(),
            reader=ValueTable("NYUDv2", _mapping(self._file.parent / MAPPING)),
            channels=channels,
            depths=paths,
            hhas=paths,
            source=source,
            problems=problems,
            strict=strict,
        )

    def image_size(self, index: int) -> tuple[int, int]:
        with self._reading("images") as images:
            return images.shape[3], images.shape[2]

    def _read_image(self, index: int) -> tuple[np.ndarray, int]:
        return self._matrix("images", index), 1

    def _read_values(self, labels: LabelSet, index: int) -> np.ndarray:
        return self._matrix("labels", index).astype(np.int64)

    def _read_depth(self, index: int) -> np.ndarray:
        return depth_from_meters(self._matrix("depths", index))

    def _read_hha(self, index: int) -> np.ndarray:
        return hha_from_depth(self._read_depth(index), NYUD_CAMERA)

    def label(self, index: int) -> np.ndarray:
        return self.reader.classes(self._read_values(self.label_sets[0], index), self._file)

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes open the file for themselves."""
        return {**super().__getstate__(), "_open_file": None}

    def _matrix(self, variable: str, index: int) -> np.ndarray:
        """One image's part of a variable, (H, W) or (H, W, 3): MATLAB's axes are read reversed."""
        with self._reading(variable, self.ids[index]) as array:
            part: np.ndarray = array[self._places[index]]
        return np.ascontiguousarray(part.T)

    def _check_variables(self) -> int:
        """The number of images, once each variable is there and of the right shape."""
        shapes = {}
        for variable, before in _VARIABLES.items():
            with self._reading(variable) as array:
                shapes[variable] = array.shape
                if array.ndim != 3 + len(before) or array.shape[1:-2] != before:
                    message = (
                        f"{variable} must have {4 if before else 3} dimensions as published, got "
                        f"{array.shape[::-1]}; download the file again"
                    )
                    raise DataError(Problem(self._file, message))
        sizes = {(shape[0], *shape[-2:]) for shape in shapes.values()}
        if len(sizes) > 1:
            listed = ", ".join(f"{name} {shape[::-1]}" for name, shape in shapes.items())
            message = f"holds variables of different sizes: {listed}; download the file again"
            raise DataError(Problem(self._file, message))
        return int(sizes.pop()[0])

    @contextlib.contextmanager
    def _reading(self, variable: str, image: str = "") -> Iterator[Any]:
        """A variable of the file, which stays open; what goes wrong becomes a `DataError`."""
        h5py = _h5py(self._file)
        if not self._file.is_file():
            raise DataError(Problem(self._file, f"is missing; give the folder of {LABELED}"))
        try:
            if self._open_file is None or self._open_file[0] != os.getpid():
                # Nothing is written, and some network disks have no locks.
                self._open_file = os.getpid(), h5py.File(self._file, "r", locking=False)
            content = self._open_file[1]
            if variable not in content:
                message = f"holds no variable {variable}; give the file as it was published"
                raise DataError(Problem(self._file, message))
            yield content[variable]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
            of = f" of image {image}" if image else ""
            message = (
                f"{variable}{of} cannot be read ({_first_line(error)}); the file may be cut off: "
                "download it again"
            )
            raise DataError(Problem(self._file, message)) from error


def find_labeled(root: Path) -> Path | None:
    """The labeled file that `root` is or holds, None if it is or holds none."""
    if root.suffix == ".mat":
        return root
    return root / LABELED if (root / LABELED).is_file() else None


def _ids(file: Path, split: str, problems: Problems) -> tuple[Path, list[str]]:
    """The list or file that a split comes from, and the images it names."""
    list_file = find_list(file.parent, split)
    variable = {"trainval": "trainNdxs", "test": "testNdxs"}.get(split)
    if variable and not list_file.is_file():
        source = file.parent / SPLITS
        _refuse_missing(source, "put the published splits beside the data")
        numbers = read_matlab(source, variable, "the published splits").ravel() + FIRST_ID - 1
        return source, [str(number) for number in numbers.tolist()]
    ids = read_ids(list_file, problems, lambda name: file.parent / name)
    for name in ids:
        if not name.removeprefix("img_").isdecimal():
            message = (
                f"names {excerpt(name)!r}, which is no number from {FIRST_ID} on; correct the list"
            )
            raise DataError(Problem(list_file, message))
    return list_file, ids


def _mapping(file: Path) -> dict[int, int]:
    """The class of each raw label, from `mapClass`; 0 is void."""
    _refuse_missing(file, "put the published mapping of 894 classes to 40 beside the data")
    mapped = read_matlab(file, "mapClass", "the published mapping").ravel()
    if len(mapped) != RAW_CLASSES:
        message = f"mapClass must map {RAW_CLASSES} classes, got {len(mapped)}"
        raise DataError(Problem(file, f"{message}; give the published mapping"))
    holes = np.flatnonzero((mapped < 1) | (mapped > len(NYUD_CLASS_NAMES)))
    if len(holes):
        message = (
            f"maps class {holes[0] + 1} to {mapped[holes[0]]}, which is not in 1..40; give the "
            "published mapping"
        )
        raise DataError(Problem(file, message))
    return {0: IGNORE_INDEX, **{raw: int(to) - 1 for raw, to in enumerate(mapped.tolist(), 1)}}


def _refuse_missing(file: Path, remedy: str) -> None:
    if not file.is_file():
        raise DataError(Problem(file, f"is missing; {remedy}"))


def _h5py(file: Path) -> Any:
    try:
        import h5py
    except ImportError:
        message = "is a MATLAB file of version 7.3, which h5py reads; install it: pip install h5py"
        raise DataError(Problem(file, message)) from None
    return h5py


def _first_line(error: BaseException) -> str:
    return reason(error).partition("\n")[0]

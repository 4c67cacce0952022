"""Label maps in the MATLAB files of SBD, SIFT Flow, NYUDv2 and PASCAL-Context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.images import enough_memory, missing
from fcn_train.data.problems import DataError, Problem, reason, shortened
from fcn_train.words import counted

__all__ = ["MatlabLabels", "MatlabSegmentation", "ValueTable", "read_matlab"]


class MatlabSegmentation(SegmentationDataset):
    """Pairs of an image and a MATLAB file with its label map.

    Args:
        variable: the label map in each file: the name of a variable, or of a structure and of a
            field in it, with a dot between them.
        classes: the class of each value that a file may hold; `IGNORE_INDEX` is void.
        further arguments: as `SegmentationDataset`; the palette is the VOC color map.
    """

    def __init__(
        self, name: str, *arguments: Any, variable: str, classes: dict[int, int], **options: Any
    ) -> None:
        reader = MatlabLabels(name, variable, classes)
        super().__init__(name, *arguments, palette=voc_palette(), reader=reader, **options)


class ValueTable:
    """What the values of labels stand for, by a table: the second half of a `LabelReader`.

    Args:
        name: of the data set.
        classes: see `MatlabSegmentation`.
    """

    def __init__(self, name: str, classes: dict[int, int]) -> None:
        self._name = name
        self._meaning = sorted(classes.items())
        self._lowest, self._highest = min(classes), max(classes)
        # Values in between that mean nothing are marked by -1.
        self._table = np.full(self._highest - self._lowest + 1, -1, dtype=np.int64)
        for value, index in classes.items():
            self._table[value - self._lowest] = index

    @property
    def meaning(self) -> list[tuple[Any, int]]:
        return list(self._meaning)

    def decode(self, path: Path) -> np.ndarray:
        raise TypeError(
            f"{path}: holds more than one label map; {self._name} reads them with its images"
        )

    def classes(self, values: np.ndarray, path: Path) -> np.ndarray:
        known = (values >= self._lowest) & (values <= self._highest)
        label: np.ndarray = self._table[np.where(known, values, self._lowest) - self._lowest]
        wrong = ~known | (label < 0)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            message = (
                f"has label values that {self._name} has no class for: "
                f"{shortened(np.unique(values[wrong]).tolist())} in "
                f"{counted(int(wrong.sum()), 'pixel')}, "
                f"the first at row {row}, column {column}; correct the file"
            )
            raise DataError(Problem(path, message, "label of wrong values"))
        return label.astype(np.uint8)


class MatlabLabels(ValueTable):
    """Labels in MATLAB files, a `LabelReader`; arguments as for `MatlabSegmentation`, and the
    `name` of the data set."""

    def __init__(self, name: str, variable: str, classes: dict[int, int]) -> None:
        super().__init__(name, classes)
        self._variable = variable

    def decode(self, path: Path) -> np.ndarray:
        return read_matlab(path, self._variable)


def read_matlab(path: Path, variable: str, published: str = "") -> np.ndarray:
    """A label map (H, W) int64 from a MATLAB file of version 7.2 or earlier.

    Args:
        path: the file.
        variable: see `MatlabSegmentation`.
        published: what to give, for messages, if it is one file of the whole set and no label.

    Raises:
        DataError: if the file is missing, cannot be decoded or lacks the variable, if that is no
            matrix of whole numbers, or if scipy is not installed.
    """
    give = published or "the published labels"
    if not path.is_file():
        raise DataError(missing(path, "label"))
    try:
        from scipy.io import loadmat
    except ImportError:
        message = "is a MATLAB file, which scipy reads; install it: pip install scipy"
        raise DataError(Problem(path, message)) from None
    name, *fields = variable.split(".")
    try:
        content = loadmat(path, variable_names=[name])
    except Exception as error:
        why, advice = _why_not(path, error)
        advice = advice or (published and f"give {published}")
        message = (
            f"{'' if published else 'label '}cannot be decoded ({why}); "
            f"{advice or 'replace the file or take it off the list'}"
        )
        raise DataError(Problem(path, message, "label that cannot be decoded")) from error
    value: Any = content.get(name)
    for field in fields:
        is_structure = value is not None and value.dtype.names is not None and value.size == 1
        value = value[field].item() if is_structure and field in value.dtype.names else None
    if value is None:
        message = f"holds no variable {variable}; give {give}"
        raise DataError(Problem(path, message, "label without its matrix"))
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "uifb":
        found = (
            f"{value.dtype} {value.shape}"
            if isinstance(value, np.ndarray)
            else type(value).__name__
        )
        message = f"{variable} is no matrix of numbers but {found}; give {give}"
        raise DataError(Problem(path, message, "label without its matrix"))
    with np.errstate(invalid="ignore"), enough_memory(path, "label"):
        whole = value.astype(np.int64)
        is_whole = np.array_equal(whole, value)
    if not is_whole:
        message = f"{variable} holds numbers that are not whole; give {give}"
        raise DataError(Problem(path, message, "label without its matrix"))
    return whole


def _why_not(path: Path, error: Exception) -> tuple[str, str]:
    """Why scipy cannot read a file, and what to do where that is known."""
    if isinstance(error, NotImplementedError):
        why = "it was saved as version 7.3, which is HDF5"
        return why, "save it again as version 7: save(..., '-v7') in MATLAB"
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError:
        return reason(error), ""
    # Files of version 4 have no such mark: of these, whole ones are read.
    return reason(error) if start == b"MATLAB" else "no known MATLAB format", ""


def from_one(num_classes: int, *void: int) -> dict[int, int]:
    """The classes of files that count them from one: value 1 is class 0."""
    classes = {value: value - 1 for value in range(1, num_classes + 1)}
    return {**classes, **dict.fromkeys(void, IGNORE_INDEX)}

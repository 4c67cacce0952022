"""Where a data set's folders and lists lie, and what its lists name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fcn_train.data.dataset import IMAGE_SUFFIXES, DataError, Problem, reason


def read_lines(path: Path, purpose: str) -> list[str]:
    """The lines of a text file that are not blank, stripped.

    Raises:
        DataError: if the file is missing or is not text, naming its `purpose`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{purpose} cannot be read ({reason(error)}); give the path of a text file"
        raise DataError(Problem(path, message)) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_ids(list_file: Path, problems: list[Problem]) -> list[str]:
    """The images that a list names in its first column, without folder and ending.

    A list that cannot be read goes into `problems`.
    """
    try:
        lines = read_lines(list_file, "list of images")
    except DataError as error:
        problems.append(error.problem)
        return []
    return [without_suffix(line.split()[0].replace("\\", "/").rsplit("/", 1)[-1]) for line in lines]


def find_list(folder: Path, split: str, *others: Path) -> Path:
    """The list called `split`, with or without .txt, in `folder` or in one of `others`; or else the
    file whose path `split` is."""
    name = split.removesuffix(".txt")
    for place in (folder, *others):
        if (place / f"{name}.txt").is_file():
            return place / f"{name}.txt"
    path = Path(split)
    is_path = path.suffix == ".txt" or path.parent != Path(".")
    return path if is_path else folder / f"{split}.txt"


def find_folder(
    root: Path, candidates: Sequence[str], needed: Sequence[str]
) -> tuple[Path, list[Problem]]:
    """The first of `candidates` below `root` that has all folders `needed`, or `root` and what it
    lacks."""
    for candidate in candidates:
        folder = root / candidate
        if all((folder / name).is_dir() for name in needed):
            return folder, []
    message = f"folder is missing; give the folder that holds {' and '.join(needed)}"
    return root, [Problem(root / name, message) for name in needed if not (root / name).is_dir()]


def without_suffix(name: str) -> str:
    """A list's name of an image without its file ending, if it has one of `IMAGE_SUFFIXES`."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name

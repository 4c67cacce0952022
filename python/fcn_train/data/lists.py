"""Finds a data set's folders and lists, and reads its lists."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fcn_train.data.images import IMAGE_SUFFIXES
from fcn_train.data.problems import DataError, Problem, Problems, excerpt, reason, shortened
from fcn_train.text_files import NOT_UTF8, read_text

_GIVE = "give the path of a text file"
_OUTSIDE = "name outside the data set"
# Of a list; of a line, which is as long as a system's longest path.
_MOST_LINES, _LONGEST = 2**24, 4096


def read_lines(path: Path, purpose: str, missing: str = "") -> list[str]:
    """The lines of a text file that are not blank, stripped.

    Args:
        path: the file.
        purpose: what the file is to the data set, for messages.
        missing: the advice if it does not exist; by default, to give its path.

    Raises:
        DataError: if the file is missing, is not text, or is larger or has a longer line than any
            such list, naming its `purpose`.
    """
    try:
        text = read_text(path, pipes=False)
    except UnicodeError as error:
        message = f"{purpose} cannot be read ({NOT_UTF8}); save it as UTF-8, or {_GIVE}"
        raise DataError(Problem(path, message)) from error
    except (OSError, ValueError, MemoryError) as error:
        advice = missing if isinstance(error, FileNotFoundError) else ""
        message = f"{purpose} cannot be read ({reason(error)}); {advice or _GIVE}"
        raise DataError(Problem(path, message)) from error
    if (number := text.count("\n")) > _MOST_LINES:
        message = f"{purpose} has {number:,} lines, more than {_MOST_LINES:,}; {_GIVE}"
        raise DataError(Problem(path, message))
    # Not splitlines, which also splits at characters that names may hold.
    lines = [line.strip(" \t\r\n") for line in text.split("\n")]
    longest = max(map(len, lines))
    if longest > _LONGEST:
        message = f"{purpose} has a line of {longest:,} characters; {_GIVE}"
        raise DataError(Problem(path, message))
    return [line for line in lines if line]


def read_list(path: Path, purpose: str, missing: str = "") -> list[str]:
    """`read_lines` of a list of images; if it does not exist, the error names those that do."""
    if known := _lists_in(path.parent):
        missing = f"{_GIVE}, or one of the lists {shortened(known)}"
    return read_lines(path, purpose, missing)


def _lists_in(folder: Path) -> list[str]:
    """The names of the lists of images there."""
    others = sorted(one.stem for one in folder.glob("[!.]*.txt") if one.is_file())
    return [name for name in others if not name.startswith("classes")]


def read_ids(
    list_file: Path,
    problems: Problems,
    image_of: Callable[[str], Path],
    missing: str = "",
) -> list[str]:
    """The images that a list names, without folder and ending.

    A line may continue after the name (`name -1`, `image label`). Names may hold spaces: the name
    is the longest beginning of the line that names an existing image.

    Args:
        list_file: the list; if it cannot be read, that goes into `problems`.
        problems: takes lines that name a file outside the data set, too.
        image_of: the path of an image by its name.
        missing: the advice if there is no list at all.
    """
    try:
        lines = read_list(list_file, "list of images", missing)
    except DataError as error:
        problems.append(error.problem)
        return []
    ids = []
    for line in lines:
        named = _named_image(line.replace("\\", "/"), image_of)
        image_id = _file_stem(named)
        is_other = named.startswith("/") and _is_another(Path(named), image_of(image_id))
        if ".." in named.split("/") or is_other:
            problems.append(outside(list_file, named))
        else:
            ids.append(image_id)
    return ids


def outside(list_file: Path, name: str) -> Problem:
    name = excerpt(name)
    message = f"names {name!r}, a file outside the data set; move it there or take it off the list"
    return Problem(list_file, message, _OUTSIDE)


def _named_image(line: str, image_of: Callable[[str], Path]) -> str:
    """The beginning of a line that names its image."""
    columns = line.split()
    if len(columns) == 1:
        return line
    end = len(line)
    for column in reversed(columns):
        beginning = line[:end].rstrip()
        if _is_one_path(beginning) and _is_there(image_of(_file_stem(beginning))):
            return beginning
        end = line.rindex(column, 0, end)
    # None exists: the name is recognized by what lists have after it.
    return columns[0] if has_more(line) else line


def has_more(line: str) -> bool:
    """Whether a line seems to continue after the name of its image: with its label, or with
    the number that VOC's lists of a class have."""
    first, *others = line.split()
    last = others[-1] if others else first
    is_more = last in ("-1", "0", "1", "+1") or "/" in last or without_suffix(last) != last
    return bool(others) and is_more


def _is_there(path: Path) -> bool:
    """Whether this is a file; False for a name that is too long."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _is_one_path(text: str) -> bool:
    """Whether no file's ending comes before the last folder: `a.jpg b/a.png` is two paths."""
    folder = text.rpartition("/")[0]
    return all(without_suffix(word) == word for word in folder.split())


def _file_stem(name: str) -> str:
    return without_suffix(name.rsplit("/", 1)[-1])


def _is_another(path: Path, image: Path) -> bool:
    """Whether a list names a file that exists, and not the image of this name."""
    return _is_there(path) and not (_is_there(image) and path.samefile(image))


def find_list(folder: Path, split: str, *others: Path) -> Path:
    """The list called `split`, with or without .txt, in `folder` or in one of `others`; or else the
    file whose path `split` is.

    Raises:
        DataError: `split` is "", which is every image to data without lists.
    """
    if not split:
        known = list(dict.fromkeys(name for one in (folder, *others) for name in _lists_in(one)))
        lists = f"one of the lists {shortened(known)}" if known else "the name of a list"
        message = f'is split by lists, and the split "" is none; give {lists}, or a list\'s path'
        raise DataError(Problem(folder, message))
    name = split.removesuffix(".txt")
    for place in (folder, *others):
        if (place / f"{name}.txt").is_file():
            return place / f"{name}.txt"
    path = Path(split)
    is_path = path.suffix == ".txt" or path.parent != Path(".")
    return path if is_path else folder / f"{split}.txt"


def find_folder(
    root: Path, candidates: Sequence[str], needed: Sequence[str]
) -> tuple[Path, Problems]:
    """The first of `candidates` below `root` that has all folders `needed`, or `root` and what it
    lacks."""
    for candidate in candidates:
        folder = root / candidate
        if all((folder / name).is_dir() for name in needed):
            return folder, Problems()
    message = f"folder is missing; give the folder that holds {' and '.join(needed)}"
    lacking = (name for name in needed if not (root / name).is_dir())
    return root, Problems(Problem(root / name, message) for name in lacking)


def file_names(folder: Path) -> frozenset[str]:
    """The names in a folder; none where it cannot be listed."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def without_suffix(name: str) -> str:
    """A list's name of an image without its file ending, if it has one of `IMAGE_SUFFIXES`."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name

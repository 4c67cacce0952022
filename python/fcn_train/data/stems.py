"""Finds the pictures of a folder by stem, and reports those that are not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fcn_train.data.images import is_image_file, walk
from fcn_train.data.labels import LABEL_SUFFIXES
from fcn_train.data.problems import Problem, Problems

__all__ = ["Stems", "left_out", "split_suffix"]


class Stems:
    """The pictures of a folder and, if asked for, of its sub-folders, by stem.

    A missing folder, and stems that occur twice in one, go into `problems`.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        suffixes: tuple[str, ...],
        stem_suffix: str,
        endings: tuple[str, ...],
        problems: Problems,
    ) -> None:
        self._folder = folder
        self._stem_suffix = stem_suffix
        self._endings = endings
        self._suffixes = tuple({*suffixes, *endings})
        self._problems = problems
        self._left_out: Stems | None = None
        self._found: dict[str, dict[str, Path]] = {}
        if not folder.is_dir():
            message = f"folder of {role} is missing; create it or name another"
            problems.append(Problem(folder, message))

    def leave_out(self, others: Stems) -> None:
        """Leave out the files that `others` has."""
        self._left_out = others
        self._found.clear()

    def here(self) -> dict[str, Path]:
        """The pictures of the folder itself."""
        return self._of(".")

    def has(self, image_id: str) -> bool:
        """Whether there is a file of an id, which may name a sub-folder."""
        path = PurePosixPath(image_id)
        return path.name in self._of(str(path.parent))

    def find(self, image_id: str, default: str) -> Path:
        """The file of an id, which may name a sub-folder; with the ending `default` if none is."""
        path = PurePosixPath(image_id)
        found = self._of(str(path.parent)).get(path.name)
        ending = self._endings[0] if len(self._endings) == 1 else default
        return found or self._folder / f"{image_id}{self._stem_suffix}{ending}"

    def _of(self, sub_folder: str) -> dict[str, Path]:
        if sub_folder in self._found:
            return self._found[sub_folder]
        folder = self._folder / sub_folder
        files: dict[str, Path] = {}
        others = set(self._left_out._of(sub_folder).values()) if self._left_out else set()
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not self._takes(path) or path in others:
                continue
            stem = path.stem.removesuffix(self._stem_suffix)
            if stem in files:
                message = f"has the same stem as {files[stem].name}; keep one of the two"
                self._problems.append(Problem(path, message, "files of one stem"))
                continue
            files[stem] = path
        self._found[sub_folder] = files
        return files

    def _takes(self, path: Path) -> bool:
        return (
            path.suffix.lower() in self._endings
            and path.stem.endswith(self._stem_suffix)
            and is_image_file(path, self._suffixes)
        )


def left_out(image_dir: Path) -> Iterator[Problem]:
    """The folders of images below that of a split without a list, which takes those right in it."""
    below = sorted(path for path in image_dir.glob("[!.]*") if path.is_dir())
    message = (
        f"holds images that are not right in {image_dir}; name images in a list (city/street), "
        "give a folder of each split, or move them"
    )
    for folder in below:
        if any(map(is_image_file, walk(folder))):
            yield Problem(folder, message, "folder of images that is left out")


def split_suffix(label_suffix: str) -> tuple[str, tuple[str, ...]]:
    """`_mask.png` as `_mask` and the ending .png; without an ending, all there are."""
    stem, dot, ending = label_suffix.rpartition(".")
    if not dot:
        return label_suffix, LABEL_SUFFIXES
    return stem, (f".{ending.lower()}",)

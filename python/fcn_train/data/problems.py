"""Descriptions of what is wrong with a data set."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import UnidentifiedImageError


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set: the file or folder, and what to do about it.

    kind: the kind of problem, such as "missing image"; "" for one of no kind.
    """

    path: Path
    message: str
    kind: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{printable(str(self.path))}: {printable(self.message)}"


class Problems:
    """Collects problems: the number of each kind, and the first ones of each.

    Lists and folders may hold millions of mistakes, which must not fill the memory.

    Args:
        found: the first problems.
        keep: how many of each kind to keep.

    Attributes:
        counts: how many there are of each kind.
    """

    def __init__(self, found: Iterable[Problem] = (), keep: int = 1000) -> None:
        self._keep = keep
        self._kept: list[Problem] = []
        self.counts: Counter[str] = Counter()
        self += found

    def append(self, problem: Problem) -> None:
        self.counts[problem.kind] += 1
        if self.counts[problem.kind] <= self._keep:
            self._kept.append(problem)

    def __iadd__(self, found: Iterable[Problem]) -> Problems:
        for problem in found:
            self.append(problem)
        if isinstance(found, Problems):
            self.counts += found.dropped()
        return self

    def dropped(self) -> Counter[str]:
        """How many of each kind were not kept."""
        return self.counts - Counter(problem.kind for problem in self._kept)

    def __iter__(self) -> Iterator[Problem]:
        """The problems that were kept, in the order in which they were found."""
        return iter(self._kept)

    def __len__(self) -> int:
        """How many were found."""
        return self.counts.total()


class DataError(Exception):
    """A data set cannot be used as it is; the text names the file and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


def other_size(
    role: str, path: Path, shape: Sequence[int], image: Path, image_shape: Sequence[int]
) -> Problem:
    """The problem of a map whose size differs from its image's; shapes begin with height, width."""
    (height, width), (image_height, image_width) = shape[:2], image_shape[:2]
    message = (
        f"is {width} x {height} pixels but its image {image} is {image_width} x {image_height}; "
        "give both the same size"
    )
    if (width, height) == (image_height, image_width):
        message += (
            " (sides swapped: if it is drawn on the image as EXIF turns it, give --data.exif "
            "upright)"
        )
    return Problem(path, message, f"{role} of another size than its image")


def is_plain(text: str) -> bool:
    """Whether a name can be printed, saved as UTF-8 and read on one line.

    Control characters, line separators and the bytes of file names that are not UTF-8 (which
    Python reads as surrogates) cannot.
    """
    # The first test is quick, and settles almost all names.
    return text.isprintable() or not any(_is_unprintable(character) for character in text)


def excerpt(text: str, most: int = 200) -> str:
    """The beginning of a text that may be too long to be shown."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(text: str) -> str:
    """`text` with escapes in place of what `is_plain` excludes."""
    if is_plain(text):
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if _is_unprintable(character)
        else character
        for character in text
    )


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def reason(error: BaseException) -> str:
    """An exception's own words, without the file that the message around them names already."""
    if isinstance(error, UnidentifiedImageError):
        return "no known picture format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def shortened(values: Sequence[object], limit: int = 8) -> str:
    """The first of `values`, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"

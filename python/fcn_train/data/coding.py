"""The meaning of the values, or the colors, in label files."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fcn_ext.numpy import voc_palette
from fcn_train.data.classes import CLASSES_FILE
from fcn_train.data.lists import read_lines
from fcn_train.data.problems import DataError, Problem, excerpt
from fcn_train.words import counted

IGNORE_INDEX = 255
"""Label of pixels that belong to no class (void): never trained on, never scored."""

VOID = "void"
_PAIR = re.compile(r"(\d{1,3})(?: *- *(\d{1,3}))? *= *(\d{1,3}|void)", re.ASCII)
_COLOR = re.compile(r"(\d{1,3})[ ,]+(\d{1,3})[ ,]+(\d{1,3})|#([0-9a-fA-F]{6})")

Color = tuple[int, int, int]


def _integers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(map(operator.index, values))


def _pairs(values: Iterable[Any]) -> tuple[tuple[int, int], ...]:
    return tuple((operator.index(value), operator.index(index)) for value, index in values)


def _colored(values: Any) -> Any:
    if isinstance(values, str) and values == "voc":
        return values
    colors = ((_integers(color), operator.index(index)) for color, index in values)
    return tuple(((red, green, blue), index) for (red, green, blue), index in colors)


# The arguments of a coding, what each must be, and what makes it that.
_FORMS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("void", "a sequence of integers", _integers),
    ("first_class", "an integer", operator.index),
    ("classes", "pairs of a value and its class", _pairs),
    ("colors", "'voc', or pairs of a color and its class", _colored),
)


@dataclass(frozen=True)
class LabelCoding:
    """How the values in label files become class indices; by default they are the class indices,
    and 255 is void.

    Args:
        void: values that mean void, besides 255.
        first_class: the value of class 0, followed by that of class 1 and so on; lower values are
            invalid.
        classes: instead, pairs of a value and its class (`IGNORE_INDEX` is void). Other values are
            invalid, except 255, which stays void.
        colors: pairs of a color and its class, or "voc" for VOC's color map: labels are read by
            their colors, whatever the values.
        any_palette: accept that a value has different colors in different files; the values count.

    Raises:
        TypeError: if an argument is of another form, as pairs in a dict.
        ValueError: if a value is not in 0..255, is given twice, or has two meanings.
    """

    void: tuple[int, ...] = ()
    first_class: int = 0
    classes: tuple[tuple[int, int], ...] = ()
    colors: tuple[tuple[Color, int], ...] | Literal["voc"] = ()
    any_palette: bool = False

    def __post_init__(self) -> None:
        for name, form, read in _FORMS:
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, read(given))
            except (TypeError, ValueError):
                raise TypeError(f"{name} must be {form}, got {given!r}") from None
        for name, values in (
            ("void-label", self.void),
            ("first-class", (self.first_class,)),
            ("label-map", [number for pair in self.classes for number in pair]),
            ("label-colors", [n for color, index in self.pairs_of_colors for n in (*color, index)]),
        ):
            for value in values:
                if not 0 <= value <= 255:
                    raise ValueError(f"{name} must be in 0..255, got {value}")
        ways = {
            "label-map": bool(self.classes),
            "label-colors": bool(self.colors),
            "first-class": self.first_class > 0,
        }
        given = [name for name, is_given in ways.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} exclude each other; give one")
        if self.colors and self.void:
            raise ValueError("void-label and label-colors exclude each other; give the void color")
        seen: set[object] = set()
        for name, keys in (
            ("label-map", [value for value, _ in self.classes]),
            ("label-colors", [color for color, _ in self.pairs_of_colors]),
        ):
            for key in keys:
                if key in seen:
                    raise ValueError(f"{name} gives {key} twice; keep one")
                seen.add(key)
        for value in self.void:
            if value in seen:
                raise ValueError(f"void-label {value} is in label-map, too; keep one")

    @property
    def pairs_of_colors(self) -> tuple[tuple[Color, int], ...]:
        """`colors` as pairs; none if they are "voc"."""
        return self.colors if isinstance(self.colors, tuple) else ()

    def fitted(self, num_classes: int) -> LabelCoding:
        """The same coding for a data set of `num_classes` classes: VOC's color map is cut to them.

        Raises:
            ValueError: if it names a class that does not exist, or a class has no color.
        """
        highest = max((index for _, index in self.classes if index != IGNORE_INDEX), default=-1)
        if highest >= num_classes:
            raise ValueError(
                f"label-map names class {highest}, but the classes are 0..{num_classes - 1}; "
                f"name as many in {CLASSES_FILE}"
            )
        colored = {index for _, index in self.pairs_of_colors if index != IGNORE_INDEX}
        if colored and colored != set(range(num_classes)):
            raise ValueError(
                f"label-colors must hold one color per class, got {len(colored)} for "
                f"{counted(num_classes, 'class')}"
            )
        if self.first_class + num_classes > 255:
            raise ValueError(
                f"first-class {self.first_class} leaves no value for the last of "
                f"{counted(num_classes, 'class')}; 255 is void"
            )
        if self.colors == "voc":
            return replace(self, colors=voc_label_colors(num_classes))
        return self

    def table(self, num_classes: int) -> np.ndarray:
        """The class of each value, (256,) int16; -1 for invalid values."""
        table = np.full(256, -1, dtype=np.int16)
        if self.classes:
            for value, index in self.classes:
                table[value] = index
        else:
            count = min(num_classes, 256 - self.first_class)
            table[self.first_class : self.first_class + count] = np.arange(count)
        if 255 not in dict(self.classes):
            table[255] = IGNORE_INDEX
        table[list(self.void)] = IGNORE_INDEX
        return table

    def meaning(self, num_classes: int) -> list[tuple[object, int]]:
        """The meaning of labels as JSON values: pairs of a value that is not its own class, or of a
        color, and its class."""
        if self.colors:
            return [(list(color), index) for color, index in self.pairs_of_colors]
        table = self.table(num_classes).tolist()
        return [(value, index) for value, index in enumerate(table) if index not in (-1, value)]

    def palette(self) -> np.ndarray | None:
        """The colors of the classes, (256, 3) uint8, the first color of each; None without
        colors."""
        if not self.colors:
            return None
        palette = np.zeros((256, 3), dtype=np.uint8)
        for color, index in reversed(self.pairs_of_colors):
            palette[index] = color
        return palette


def parse_label_map(text: str) -> tuple[tuple[int, int], ...]:
    """The pairs of `0=0,255=1`, where `1-7=0` is a range of values and `9=void` is void.

    Raises:
        ValueError: if the text has another form.
    """
    pairs: list[tuple[int, int]] = []
    for part in map(str.strip, text.split(",")):
        match = _PAIR.fullmatch(part)
        if match is None:
            raise ValueError(
                f"label-map must be VALUE=CLASS pairs as 0=0,1-7=1,255=void, got {part or text!r}"
            )
        first, last, index = match.groups()
        start, end = int(first), int(last or first)
        if end < start:
            raise ValueError(f"label-map must have ranges from low to high, got {part!r}")
        pairs += [
            (value, IGNORE_INDEX if index == VOID else int(index))
            for value in range(start, end + 1)
        ]
    return tuple(pairs)


def read_label_colors(path: Path) -> tuple[tuple[Color, int], ...]:
    """The colors of the classes, from a file with one color per line.

    The lines are `R G B`, `R,G,B` or `#RRGGBB`, in the order of the classes; `void` before a color
    makes it a color of void, which takes no class number.

    Raises:
        DataError: if the file cannot be read or has another line.
    """
    pairs: list[tuple[Color, int]] = []
    next_class = 0
    for line in read_lines(path, "list of label colors"):
        is_void = line.lower().startswith(VOID)
        match = _COLOR.fullmatch(line[len(VOID) :].strip(" :,") if is_void else line)
        if match is None:
            message = f"has a line that is no color: {excerpt(line)!r}; write R G B or #RRGGBB"
            raise DataError(Problem(path, message))
        color = _color(match)
        if max(color) > 255:
            raise DataError(
                Problem(path, f"has a color beyond 0..255: {excerpt(line)!r}; correct it")
            )
        if color in dict(pairs):
            raise DataError(Problem(path, f"has the color {excerpt(line)!r} twice; keep one"))
        pairs.append((color, IGNORE_INDEX if is_void else next_class))
        next_class += not is_void
    if next_class < 1 or len(pairs) > 256:
        message = (
            f"has {counted(len(pairs), 'color')}, {next_class} of them of classes; write 1 to 256"
        )
        raise DataError(Problem(path, message))
    return tuple(pairs)


def voc_label_colors(num_classes: int) -> tuple[tuple[Color, int], ...]:
    """VOC's color map: the colors of the classes, and (224, 224, 192) for void."""
    colors = [tuple(color) for color in voc_palette().tolist()]
    return tuple((colors[index], index) for index in (*range(num_classes), IGNORE_INDEX))


def _color(match: re.Match[str]) -> Color:
    red, green, blue, digits = match.groups()
    if digits:
        red, green, blue = (str(int(digits[start : start + 2], 16)) for start in (0, 2, 4))
    return int(red), int(green), int(blue)

"""``--init-scores``: score layers from the rows of the classifier's last layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from fcn_ext import models
from fcn_train.errors import UsageError
from fcn_train.heads import Net
from fcn_train.weight_files import some

REST = "rest"
_RANGE = r"\d{1,5}(?:-\d{1,5})?"
_PAIR = re.compile(rf"({REST}|{_RANGE}(?:\+{_RANGE})*)=(.+)")


def scores_from_classifier(
    model: Net,
    path: Path,
    state: Mapping[str, Tensor],
    text: str,
    scale: float,
    class_names: Sequence[Sequence[str]],
) -> None:
    """The score layer of the top map, from the classifier's last layer.

    Args:
        path: the classifier's file, for messages.
        state: the content of the file.
        text: the option's value.
        scale: factor on the classifier's scores.
        class_names: the classes of each head; only one head is supported.

    Raises:
        UsageError: ``text`` has another form, names a class that does not exist or a row that the
            classifier does not have; there are several heads; the file has no last layer.
    """
    if len(class_names) > 1:
        raise UsageError(f"--init-scores is for one set of labels, got {len(class_names)}")
    rows, rest = parse_rows(text, class_names[0])
    try:
        models.initialize_scores(model, state, rows, rest=rest, scale=scale)
    except ValueError as error:
        text = str(error).removeprefix("state_dict ")
        raise UsageError(f"--init-scores: {path}: {text}") from None


def parse_rows(text: str, class_names: Sequence[str]) -> tuple[dict[int, list[int]], int | None]:
    """The rows of each class in ``281-285=cat,339=horse,rest=background``, by the class's index,
    and the index of the class that has the rest, if any.

    A class has all rows given for it, and may be given by its name or its index.

    >>> parse_rows("7+0-1=cat, 3=cat, rest=0", ["sky", "cat", "dog"])
    ({1: [7, 0, 1, 3]}, 0)

    Raises:
        UsageError: ``text`` has another form, names a class that does not exist, or the rest twice.
    """
    indices = {str(index): index for index in range(len(class_names))}
    indices |= {name: index for index, name in enumerate(class_names)}
    rows: dict[int, list[int]] = {}
    rest: int | None = None
    for part in map(str.strip, text.split(",")):
        match = _PAIR.fullmatch(part)
        if match is None:
            raise UsageError(
                "--init-scores must be ROWS=CLASS pairs as 281-285=cat,345+346=cow,"
                "rest=background, rows of the classifier's last layer before classes of the data "
                f"set, got {part or text!r}"
            )
        given, name = match.groups()
        if name not in indices:
            raise UsageError(
                f"--init-scores must name classes of the data set, {some(class_names, 25)}, "
                f"got {name!r}"
            )
        if given != REST:
            rows.setdefault(indices[name], []).extend(_rows(given))
        elif rest is None:
            rest = indices[name]
        else:
            raise UsageError(f"--init-scores must give the rest to one class, got {part!r} too")
    return rows, rest


def _rows(text: str) -> list[int]:
    """The numbers in ``0-2+7``."""
    found: list[int] = []
    for part in text.split("+"):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first)
        if end < start:
            raise UsageError(f"--init-scores must have ranges from low to high, got {part!r}")
        found += range(start, end + 1)
    return found

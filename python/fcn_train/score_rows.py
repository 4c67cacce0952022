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

_PAIR = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?=(.+)")


def scores_from_classifier(
    model: Net,
    path: Path,
    state: Mapping[str, Tensor],
    text: str,
    class_names: Sequence[Sequence[str]],
) -> None:
    """The score layer of the top map, from the classifier's last layer.

    Args:
        path: of the classifier's file, for messages.
        state: what it holds.
        text: the option's value.
        class_names: the classes of each head, of which there may be one.

    Raises:
        UsageError: ``text`` is of another form, names a class that is not there or a row that the
            classifier does not have; there are several heads; the file has no last layer.
    """
    if len(class_names) > 1:
        raise UsageError(f"--init-scores is of one set of labels, got {len(class_names)}")
    rows = parse_rows(text, class_names[0])
    try:
        models.initialize_scores(model, state, rows)
    except ValueError as error:
        text = str(error).removeprefix("state_dict ")
        raise UsageError(f"--init-scores: {path}: {text}") from None


def parse_rows(text: str, class_names: Sequence[str]) -> dict[int, list[int]]:
    """The rows of each class in ``281-285=cat,339=horse``, by the class's index.

    A class has all the rows that are given for it, and may be called by its name or its index.

    >>> parse_rows("3=cat, 0-1=cat, 7=2", ["sky", "cat", "dog"])
    {1: [3, 0, 1], 2: [7]}

    Raises:
        UsageError: ``text`` is of another form, or names no class of these.
    """
    indices = {str(index): index for index in range(len(class_names))}
    indices |= {name: index for index, name in enumerate(class_names)}
    rows: dict[int, list[int]] = {}
    for part in map(str.strip, text.split(",")):
        match = _PAIR.fullmatch(part)
        if match is None:
            raise UsageError(
                "--init-scores must be ROW=CLASS pairs as 281-285=cat,339=horse, rows of the "
                f"classifier's last layer before classes of the data set, got {part or text!r}"
            )
        first, last, name = match.groups()
        start, end = int(first), int(last or first)
        if end < start:
            raise UsageError(f"--init-scores must have ranges from low to high, got {part!r}")
        if name not in indices:
            raise UsageError(
                f"--init-scores must name classes of the data set, {some(class_names, 25)}, "
                f"got {name!r}"
            )
        rows.setdefault(indices[name], []).extend(range(start, end + 1))
    return rows

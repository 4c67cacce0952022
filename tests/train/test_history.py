"""Histories that are none are refused by what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from fcn_train.history import History


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_losses": [[1.0], []]}, "must hold the losses of 2 heads, got 1"),
        ({"head_losses": []}, "must hold losses of heads of each of 2 rows, got 0"),
        ({"pending_heads": [["x", 1.0]]}, "must hold numbers, got a str"),
        ({"pending": [None]}, "must hold numbers, got a NoneType"),
        (
            {"training": [[1, 0.5], [2, 0.5, 0.1, 3.0]]},
            "must hold rows of step, epoch, lr, loss, got 2 val",
        ),
        ({"evaluations": [[1, 0.5, 0.25]]}, "must hold rows of .*, b_mean_iu, .*, got 3 values"),
        ({"label_sets": ["a"]}, r"must be of the sets of labels \['a', 'b'\], got \['a'\]"),
        ({"accuracy": []}, r"must hold \['best_mean_iu', .*\], got \['accuracy', 'best_mean_iu'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    history = History(label_sets=["a", "b"])
    for step in (1, 2):
        history.note_heads([1.0, 2.0])
        history.add_loss(step, 0.5, 0.1, 3.0, 1)
    assert History.of(history.state(), ["a", "b"]) == history
    with pytest.raises(ValueError, match=f"^the history {message}"):
        History.of({**history.state(), **change}, ["a", "b"])

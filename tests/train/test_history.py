"""Histories that are none are refused by what is wrong with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fcn_train.history import SCORES, History


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
        ({"extended": None}, "must hold numbers, got a NoneType"),
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


@pytest.mark.parametrize(
    ("steps", "extended", "stale"),
    [
        ([5, 10, 15], -1, True),
        ([5, 10], -1, False),
        ([5, 10, 12], -1, False),  # a former end counts as little
        ([5, 10, 12, 15], 12, True),
        ([5, 10, 15], 15, False),  # made longer there
        ([5, 10, 15], 17, False),
        ([5, 10, 15, 20], 15, False),
        ([5, 10, 15, 20, 25], 15, True),
        ([5, 10, 15, 17, 20, 25], 17, True),
        ([5, 10, 15, 20, 25], 25, False),  # not for the first time
        ([5, 10, 15, 20, 25, 30], 25, False),
        ([5, 10, 15, 20, 25, 30, 35], 25, True),
        ([5, 10, 15, 20], 12, True),  # made longer before
    ],
)
def test_patience_counts_evaluations_from_where_a_run_was_made_longer(
    steps: list[int], extended: int, stale: bool
) -> None:
    scores = SimpleNamespace(**dict.fromkeys(SCORES, 0.2))
    history = History(extended=extended)
    for step in steps:
        history.add_scores(step, step / 5, scores)
    assert History.of(history.state()).stale(2, every=5) == stale
    assert not history.stale(0, every=5)


def test_history_of_a_time_before_extensions_were_noted() -> None:
    state = History().state()
    del state["extended"]
    assert History.of(state) == History()

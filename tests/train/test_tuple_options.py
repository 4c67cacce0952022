"""Options of so many numbers: what is said of other words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fcn_train.command_line import parse
from fcn_train.options import TrainOptions

Command = Callable[..., tuple[int, str, str]]
HHA = ("data", "hha", "--depth", ".", "--output", "out", "--camera")
OPTIONS = [
    (HHA, 4, "numbers"),
    (("describe", "fcn8s", "--size"), 2, "integers"),
    (("study", "whole-image", "--size"), 2, "integers"),
    (("train", "--data.scale"), 2, "numbers"),
    (("study", "skips", "--data.scale"), 2, "numbers"),
]
IDS = [" ".join(words) for words, _, _ in OPTIONS]


def said(result: tuple[int, str, str]) -> str:
    """The words of a refusal, without the frame around them."""
    code, _, err = result
    assert code == 2, err
    for mark in ("[bold]", "[/", "typing", "tuple", "NoneType", "Traceback"):
        assert mark not in err
    return " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(("words", "count", "kind"), OPTIONS, ids=IDS)
def test_another_number_of_words(
    words: tuple[str, ...], count: int, kind: str, command: Command
) -> None:
    for number in range(count):
        told = said(command(*words, *["1"] * number))
        assert f"Missing value for argument '{words[-1]}'. Expected {count} values." in told
    assert "Unrecognized options: 9" in said(command(*words, *["1"] * count, "9"))


@pytest.mark.parametrize(("words", "count", "kind"), OPTIONS, ids=IDS)
@pytest.mark.parametrize("word", ["a", "1,2", "0x10", ""])
def test_words_that_are_no_numbers(
    words: tuple[str, ...], count: int, kind: str, word: str, command: Command
) -> None:
    given = [*["1"] * (count - 1), word]
    told = said(command(*words, *given))
    assert (
        f"Error parsing {words[-1]}: must be {count} {kind}, got {' '.join(given)}".strip() in told
    )


def test_numbers_are_read() -> None:
    defaults = TrainOptions()
    assert parse([*HHA, "1", "2.5", "-3", "4e2"], defaults).camera == (1, 2.5, -3, 400)
    assert parse(list(HHA[:-1]), defaults).camera is None
    assert parse(["describe", "fcn8s", "--size", "64", "32"], defaults).size == (64, 32)
    assert parse(["describe", "fcn8s"], defaults).size is None
    assert parse(["train", "--data.scale", "0.5", "2"], defaults).data.scale == (0.5, 2)
    assert parse(["study", "whole-image", "--size", "64", "32"], defaults).size == (64, 32)


@pytest.mark.parametrize(("words", "count", "kind"), OPTIONS, ids=IDS)
def test_help_names_them(words: tuple[str, ...], count: int, kind: str, command: Command) -> None:
    code, out, _ = command(*words[:-1], "--help")
    assert code == 0
    metavar = {"numbers": "FLOAT", "integers": "INT"}[kind]
    assert f"{words[-1]} {' '.join([metavar] * count)}" in " ".join(out.replace("│", " ").split())
